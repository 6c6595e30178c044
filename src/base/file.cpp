#include "qwen3fp4/base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <string>
#include <system_error>

#include "qwen3fp4/base/error.h"

namespace qf {
namespace {

namespace fs = std::filesystem;

std::string errno_text() { return std::generic_category().message(errno); }

// A temporary name beside `path` that mkstemp and mkdtemp complete.
std::string temporary_pattern(const fs::path& path) {
  const fs::path folder = path.parent_path().empty() ? fs::path(".") : path.parent_path();
  return (folder / ("." + path.filename().string() + ".XXXXXX")).string();
}

// mkstemp and mkdtemp ignore the umask; users expect ordinary permissions.
mode_t permissions(mode_t wanted) {
  const mode_t mask = ::umask(0);
  ::umask(mask);
  return wanted & ~mask;
}

void sync_folder(const fs::path& folder) {
  const int descriptor = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY);
  if (descriptor < 0) return;  // the rename is done; only its durability is best effort
  ::fsync(descriptor);
  ::close(descriptor);
}

void check_range(const ByteSource& source, std::int64_t offset, std::size_t count) {
  const auto wanted = static_cast<std::int64_t>(count);
  QF_CHECK(offset >= 0 && wanted <= source.size() && offset <= source.size() - wanted,
           "{}: expected {} bytes at offset {}, found a file of {} bytes", source.name(), wanted,
           offset, source.size());
}

}  // namespace

FileSource::FileSource(const fs::path& path) : name_(path.string()) {
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  QF_CHECK(descriptor_ >= 0, "{}: cannot be opened: {}", name_, errno_text());
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    fail(ExitCode::kUnreadable, "{}: expected a regular file", name_);
  }
  size_ = status.st_size;
}

FileSource::~FileSource() { ::close(descriptor_); }

void FileSource::read_at(std::int64_t offset, std::span<std::byte> out) const {
  check_range(*this, offset, out.size());
  // Linux reads at most 2 GiB in one call.
  constexpr std::size_t kMostAtOnce = std::size_t{1} << 30;
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t got =
        ::pread(descriptor_, out.data() + done, std::min(out.size() - done, kMostAtOnce),
                offset + static_cast<std::int64_t>(done));
    if (got < 0 && errno == EINTR) continue;
    QF_CHECK(got >= 0, "{}: reading at offset {} failed: {}", name_, offset, errno_text());
    QF_CHECK(got > 0,
             "{}: expected {} bytes at offset {}, found {}: the file shrank while it was read",
             name_, out.size(), offset, done);
    done += static_cast<std::size_t>(got);
  }
}

void MemorySource::read_at(std::int64_t offset, std::span<std::byte> out) const {
  check_range(*this, offset, out.size());
  std::copy_n(bytes_.begin() + offset, out.size(), out.begin());
}

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)) {
  std::string pattern = temporary_pattern(path_);
  descriptor_ = ::mkostemp(pattern.data(), O_CLOEXEC);
  QF_CHECK(descriptor_ >= 0, "{}: cannot be created: {}", path_.string(), errno_text());
  temporary_ = pattern;
  ::fchmod(descriptor_, permissions(0666));
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t put = ::write(descriptor_, bytes.data() + done, bytes.size() - done);
    if (put < 0 && errno == EINTR) continue;
    QF_CHECK(put >= 0, "{}: writing failed after {} bytes: {}", path_.string(), bytes_written_,
             errno_text());
    done += static_cast<std::size_t>(put);
    bytes_written_ += put;
  }
}

void AtomicFile::commit() {
  QF_CHECK(::fsync(descriptor_) == 0, "{}: flushing to disk failed: {}", path_.string(),
           errno_text());
  QF_CHECK(::rename(temporary_.c_str(), path_.c_str()) == 0, "{}: cannot be replaced: {}",
           path_.string(), errno_text());
  ::close(descriptor_);
  descriptor_ = -1;
  sync_folder(path_.parent_path());
}

AtomicFolder::AtomicFolder(fs::path path, bool replace) : path_(std::move(path)) {
  if (path_.has_parent_path() && path_.filename().empty()) path_ = path_.parent_path();
  std::error_code ignored;
  if (fs::exists(path_, ignored)) {
    QF_CHECK(fs::is_directory(path_, ignored), "{}: exists and is not a folder", path_.string());
    QF_CHECK(replace || fs::is_empty(path_, ignored),
             "{}: the folder exists and is not empty (--force replaces it)", path_.string());
  }
  std::error_code error;
  if (path_.has_parent_path()) fs::create_directories(path_.parent_path(), error);
  QF_CHECK(!error, "{}: cannot be created: {}", path_.parent_path().string(), error.message());
  std::string pattern = temporary_pattern(path_);
  QF_CHECK(::mkdtemp(pattern.data()) != nullptr, "{}: cannot be created: {}", path_.string(),
           errno_text());
  staging_ = pattern;
  fs::permissions(staging_, static_cast<fs::perms>(permissions(0777)), error);
}

AtomicFolder::~AtomicFolder() {
  if (committed_) return;
  std::error_code ignored;
  fs::remove_all(staging_, ignored);
}

void AtomicFolder::commit() {
  std::error_code error;
  // A folder cannot be renamed over a full one: the old one steps aside first, and comes back when
  // the second rename fails.
  const fs::path aside = staging_.string() + ".old";
  const bool existed = fs::exists(path_, error);
  if (existed) {
    fs::rename(path_, aside, error);
    QF_CHECK(!error, "{}: cannot be replaced: {}", path_.string(), error.message());
  }
  fs::rename(staging_, path_, error);
  if (error) {
    const std::string reason = error.message();
    if (existed) fs::rename(aside, path_, error);
    fail(ExitCode::kUnreadable, "{}: cannot be created: {}", path_.string(), reason);
  }
  committed_ = true;
  fs::remove_all(aside, error);
  sync_folder(path_.parent_path());
}

std::string read_text_file(const fs::path& path, std::int64_t limit_bytes) {
  const FileSource file(path);
  QF_CHECK(file.size() <= limit_bytes, "{}: expected at most {} bytes of text, found {}",
           file.name(), limit_bytes, file.size());
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(text)));
  return text;
}

void write_text_file(const fs::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(std::as_bytes(std::span(text)));
  file.commit();
}

}  // namespace qf
