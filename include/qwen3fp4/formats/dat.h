#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "qwen3fp4/base/file.h"
#include "qwen3fp4/formats/tensor_info.h"

namespace qf {

// Reads TorchSharp's state-dict container plus codes 100 and 101. Layout (doc/formats.md):
//   file  := LEB(entry_count) entry*
//   entry := LEB(name_bytes) name LEB(elem_type) LEB(ndim) LEB(dim)* raw_bytes
// The constructor walks all headers (no payload is read) and refuses, naming the entry, whatever
// does not fill the file exactly. Model names mean nothing here.
class DatReader {
 public:
  explicit DatReader(const std::filesystem::path& path);
  // Borrows `source`, which must outlive the reader.
  explicit DatReader(const ByteSource& source);

  [[nodiscard]] const std::vector<TensorInfo>& entries() const { return entries_; }
  // nullptr when there is none.
  [[nodiscard]] const TensorInfo* find(std::string_view name) const;
  // Copies payload bytes [first_byte, first_byte + out.size()) of `entry` into `out`.
  void read(const TensorInfo& entry, std::span<std::byte> out, std::int64_t first_byte = 0) const;
  [[nodiscard]] const ByteSource& source() const { return *source_; }

 private:
  void parse();

  std::unique_ptr<ByteSource> owned_;
  const ByteSource* source_;
  std::vector<TensorInfo> entries_;
  std::unordered_map<std::string_view, std::size_t> by_name_;  // keys borrow from entries_
};

// Streams a `.dat` file: the entry count is declared first, then each entry in turn. The file
// appears at finish(), which throws when the declared entries were not all written. A name that
// DatReader would refuse (not UTF-8, over 4096 bytes, there already) is refused here too.
class DatWriter {
 public:
  DatWriter(const std::filesystem::path& path, std::int64_t entry_count);

  void write(std::string_view name, DType type, const std::vector<std::int64_t>& shape,
             std::span<const std::byte> bytes);
  // For payloads that come in pieces: begin(), append() until the shape's bytes are complete.
  void begin(std::string_view name, DType type, const std::vector<std::int64_t>& shape);
  void append(std::span<const std::byte> bytes);
  void finish();

 private:
  AtomicFile file_;
  std::int64_t entries_left_;
  std::int64_t payload_left_ = 0;
  std::unordered_set<std::string> names_;
};

}  // namespace qf
