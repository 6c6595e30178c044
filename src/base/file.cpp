#include "qwen3fp4/base/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <string>
#include <system_error>

#include "qwen3fp4/base/error.h"

namespace qf {
namespace {

std::atomic<bool> drop_page_cache = false;

namespace fs = std::filesystem;

std::string errno_text() { return std::generic_category().message(errno); }

// A temporary name beside `path` that mkstemp and mkdtemp complete.
std::string temporary_pattern(const fs::path& path) {
  const fs::path folder = path.parent_path().empty() ? fs::path(".") : path.parent_path();
  return (folder / ("." + path.filename().string() + ".XXXXXX")).string();
}

std::string_view kind_name(fs::file_type type) {
  switch (type) {
    case fs::file_type::regular:
      return "a file";
    case fs::file_type::directory:
      return "a folder";
    case fs::file_type::fifo:
      return "a pipe";
    case fs::file_type::socket:
      return "a socket";
    case fs::file_type::block:
    case fs::file_type::character:
      return "a device";
    default:
      return "neither file nor folder";
  }
}

// What symlinks at the end of `path` name, which need not exist: a rename over a link would replace
// the link. Refuses what is there and is not `wanted`.
fs::path place_to_replace(const fs::path& path, fs::file_type wanted) {
  std::error_code ignored;
  const fs::file_type found = fs::status(path, ignored).type();
  const bool is_free = found == fs::file_type::not_found || found == fs::file_type::none;
  QF_CHECK(is_free || found == wanted, "{}: expected {} or a free name, found {}", path.string(),
           wanted == fs::file_type::directory ? "a folder" : "a regular file", kind_name(found));
  constexpr int kMostLinks = 40;  // as Linux
  fs::path place = path;
  for (int links = 0; fs::is_symlink(fs::symlink_status(place, ignored)); ++links) {
    QF_CHECK(links < kMostLinks, "{}: cannot be created: too many symlinks", path.string());
    std::error_code error;
    const fs::path target = fs::read_symlink(place, error);
    QF_CHECK(!error, "{}: the link cannot be read: {}", path.string(), error.message());
    // /dev/stdout: what is open there would not be what is replaced.
    QF_CHECK(!fs::weakly_canonical(place.parent_path(), ignored).string().starts_with("/proc/"),
             "{}: expected {} or a free name, found a link to an open file", path.string(),
             wanted == fs::file_type::directory ? "a folder" : "a regular file");
    place = place.parent_path() / target;
  }
  return place;
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

void set_drop_page_cache(bool drop) { drop_page_cache = drop; }

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
  // A hint: where it fails, nothing is lost but memory.
  if (drop_page_cache.load(std::memory_order_relaxed)) {
    (void)::posix_fadvise(descriptor_, offset, static_cast<off_t>(out.size()), POSIX_FADV_DONTNEED);
  }
}

void MemorySource::read_at(std::int64_t offset, std::span<std::byte> out) const {
  check_range(*this, offset, out.size());
  std::copy_n(bytes_.begin() + offset, out.size(), out.begin());
}

AtomicFile::AtomicFile(const fs::path& path)
    : path_(place_to_replace(path, fs::file_type::regular)) {
  // In place: no destructor would remove the file after an allocation that fails here.
  temporary_ = temporary_pattern(path_);
  descriptor_ = ::mkostemp(temporary_.data(), O_CLOEXEC);
  QF_CHECK(descriptor_ >= 0, "{}: cannot be created: {}", path_.string(), errno_text());
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

AtomicFolder::AtomicFolder(const fs::path& path, bool replace)
    : path_(place_to_replace(
          path.has_parent_path() && path.filename().empty() ? path.parent_path() : path,
          fs::file_type::directory)) {
  std::error_code ignored;
  if (fs::exists(path_, ignored)) {
    QF_CHECK(replace || folder_is_empty(path_),
             "{}: the folder exists and is not empty (--force replaces it)", path_.string());
  }
  std::error_code error;
  if (path_.has_parent_path()) fs::create_directories(path_.parent_path(), error);
  QF_CHECK(!error, "{}: cannot be created: {}", path_.parent_path().string(), error.message());
  std::string pattern = temporary_pattern(path_);
  QF_CHECK(::mkdtemp(pattern.data()) != nullptr, "{}: cannot be created: {}", path_.string(),
           errno_text());
  try {
    staging_ = pattern;
  } catch (const std::bad_alloc&) {
    ::rmdir(pattern.c_str());  // no destructor runs
    throw;
  }
  ::chmod(pattern.c_str(), permissions(0777));
}

AtomicFolder::~AtomicFolder() {
  if (committed_) return;
  std::error_code ignored;
  fs::remove_all(staging_, ignored);
}

// Where the file system can, both folders change places at once, so that there is always one of
// them at `path`.
void AtomicFolder::commit() {
  std::error_code error;
  if (::renameat2(AT_FDCWD, staging_.c_str(), AT_FDCWD, path_.c_str(), RENAME_EXCHANGE) == 0) {
    committed_ = true;
    sync_folder(path_.parent_path());
    fs::remove_all(staging_, error);
    return;
  }
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

bool folder_is_empty(const fs::path& path) {
  return fs::directory_iterator(path) == fs::directory_iterator();
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
