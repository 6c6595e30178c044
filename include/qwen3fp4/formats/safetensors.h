#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/base/file.h"
#include "qwen3fp4/formats/tensor_info.h"

namespace qf {

// One `.safetensors` file: u64 header length, JSON header, payloads. Checked as the safetensors
// library does: header <= 100 MB, offsets contiguous, no gap, no overlap, the file ends with the
// last payload.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);
  explicit SafetensorsFile(const ByteSource& source);

  // In file order of their payloads.
  [[nodiscard]] const std::vector<TensorInfo>& entries() const { return entries_; }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return metadata_; }
  void read(const TensorInfo& entry, std::span<std::byte> out, std::int64_t first_byte = 0) const;

 private:
  void parse();

  std::unique_ptr<ByteSource> owned_;
  const ByteSource* source_;
  std::vector<TensorInfo> entries_;
  std::map<std::string, std::string> metadata_;
};

// A Hugging Face checkpoint: `model.safetensors`, or the shards that
// `model.safetensors.index.json` names (every name in exactly the shard the index says).
class SafetensorsCheckpoint {
 public:
  explicit SafetensorsCheckpoint(const std::filesystem::path& folder);

  [[nodiscard]] const std::vector<TensorInfo>& entries() const { return entries_; }
  // nullptr when there is none.
  [[nodiscard]] const TensorInfo* find(std::string_view name) const;
  // What the files' __metadata__ has under `key`; nullptr when none has it.
  [[nodiscard]] const std::string* metadata(const std::string& key) const;
  void read(const TensorInfo& entry, std::span<std::byte> out, std::int64_t first_byte = 0) const;

 private:
  std::vector<std::unique_ptr<SafetensorsFile>> shards_;
  std::vector<TensorInfo> entries_;
  std::vector<std::size_t> shard_of_entry_;  // parallel to entries_
};

// Streams a file: the header comes from the tensors' names, types and shapes, then their payloads
// follow in that order, in pieces of any size. The file appears at finish(), which throws when
// bytes are missing.
class SafetensorsWriter {
 public:
  struct Tensor {
    std::string name;
    DType type;
    std::vector<std::int64_t> shape;
  };
  SafetensorsWriter(const std::filesystem::path& path, std::span<const Tensor> tensors,
                    const std::map<std::string, std::string>& metadata = {});
  void append(std::span<const std::byte> bytes);
  void finish();

 private:
  AtomicFile file_;
  std::int64_t bytes_left_ = 0;
};

struct NamedBytes {
  std::string_view name;
  DType type;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
};
// Writes a whole file atomically; tensors are laid out in the order given.
void write_safetensors(const std::filesystem::path& path, std::span<const NamedBytes> tensors);

}  // namespace qf
