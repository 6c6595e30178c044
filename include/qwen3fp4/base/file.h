#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace qf {

// Random-access bytes behind every parser. Files are read with pread and never mapped: a file that
// shrinks while it is read is then an error instead of SIGBUS, and no page of it counts as ours.
class ByteSource {
 public:
  ByteSource() = default;
  ByteSource(const ByteSource&) = delete;
  ByteSource& operator=(const ByteSource&) = delete;
  virtual ~ByteSource() = default;

  // What error messages call it: a path, or "memory".
  [[nodiscard]] virtual const std::string& name() const = 0;
  [[nodiscard]] virtual std::int64_t size() const = 0;
  // Fills `out` with the bytes at [offset, offset + out.size()); throws when they are not all
  // there.
  virtual void read_at(std::int64_t offset, std::span<std::byte> out) const = 0;
};

class FileSource final : public ByteSource {
 public:
  explicit FileSource(const std::filesystem::path& path);
  ~FileSource() override;
  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] std::int64_t size() const override { return size_; }
  void read_at(std::int64_t offset, std::span<std::byte> out) const override;

 private:
  std::string name_;
  int descriptor_ = -1;
  std::int64_t size_ = 0;
};

// From now on pages of files that were read are given back to the kernel at once: where a GPU
// shares the machine's memory, its driver takes page cache for used memory. Off at first.
void set_drop_page_cache(bool drop);

// Borrows `bytes`, which must outlive it. For fuzz targets and tests.
class MemorySource final : public ByteSource {
 public:
  explicit MemorySource(std::span<const std::byte> bytes, std::string name = "memory")
      : name_(std::move(name)), bytes_(bytes) {}
  [[nodiscard]] const std::string& name() const override { return name_; }
  [[nodiscard]] std::int64_t size() const override {
    return static_cast<std::int64_t>(bytes_.size());
  }
  void read_at(std::int64_t offset, std::span<std::byte> out) const override;

 private:
  std::string name_;
  std::span<const std::byte> bytes_;
};

// A file that appears whole at `path` on commit(), or not at all: bytes go to a temporary file in
// the same folder, which the destructor removes when commit() was not reached. A symlink is
// followed: what it names is replaced. Throws at construction where `path` is there and no regular
// file.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();
  void write(std::span<const std::byte> bytes);
  [[nodiscard]] std::int64_t bytes_written() const { return bytes_written_; }
  // Flushes to disk, then renames over `path`.
  void commit();

 private:
  std::filesystem::path path_;
  std::string temporary_;
  int descriptor_ = -1;
  std::int64_t bytes_written_ = 0;
};

// A folder that appears whole at `path` on commit(), or not at all. Replaces an existing folder
// only when `replace` is set; otherwise an existing non-empty `path` is refused at construction, as
// is what is no folder. A symlink is followed.
class AtomicFolder {
 public:
  AtomicFolder(const std::filesystem::path& path, bool replace);
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;
  ~AtomicFolder();
  // Where to write the files meanwhile.
  [[nodiscard]] const std::filesystem::path& staging() const { return staging_; }
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path staging_;
  bool committed_ = false;
};

// std::filesystem's own ends the process where it finds no memory.
[[nodiscard]] bool folder_is_empty(const std::filesystem::path& path);

// Whole small files (JSON, prompts). Refuses files over `limit_bytes`.
[[nodiscard]] std::string read_text_file(const std::filesystem::path& path,
                                         std::int64_t limit_bytes = std::int64_t{256} << 20);
void write_text_file(const std::filesystem::path& path, std::string_view text);

}  // namespace qf
