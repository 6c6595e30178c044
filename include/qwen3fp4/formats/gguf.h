#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "qwen3fp4/base/file.h"

namespace qf {

// GGML tensor types that we read; values as in the file.
enum class GgmlType : std::uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ8_0 = 8,
  kQ6_K = 14,
  kBF16 = 30,
  kNvfp4 = 40,
};
[[nodiscard]] std::string_view ggml_type_name(GgmlType type);

struct GgufTensor {
  std::string name;
  GgmlType type = GgmlType::kF32;
  // Row-major as everywhere else here, i.e. reversed from the file's order (there dims[0] is the
  // contiguous one): a linear's weight is [out, in].
  std::vector<std::int64_t> shape;
  std::int64_t offset = 0;  // in the file
  std::int64_t bytes = 0;
};

// A metadata value. Integers of every width are held as int64/uint64; arrays are homogeneous.
using GgufValue =
    std::variant<std::int64_t, std::uint64_t, double, bool, std::string, std::vector<std::int64_t>,
                 std::vector<double>, std::vector<std::string>>;

// GGUF v3 (v2 has the same layout and is read too), little endian.
class GgufFile {
 public:
  explicit GgufFile(const std::filesystem::path& path);
  explicit GgufFile(const ByteSource& source);

  [[nodiscard]] const std::map<std::string, GgufValue, std::less<>>& metadata() const {
    return metadata_;
  }
  [[nodiscard]] const std::vector<GgufTensor>& tensors() const { return tensors_; }
  [[nodiscard]] const GgufTensor* find(std::string_view name) const;
  [[nodiscard]] const std::string& name() const { return source_->name(); }

  // Typed look-ups; throw with the key's name when it is missing or of another type.
  [[nodiscard]] const std::string& text(std::string_view key) const;
  [[nodiscard]] std::int64_t integer(std::string_view key) const;
  [[nodiscard]] double number(std::string_view key) const;
  [[nodiscard]] const std::vector<std::string>& texts(std::string_view key) const;
  [[nodiscard]] const std::vector<std::int64_t>& integers(std::string_view key) const;
  [[nodiscard]] bool has(std::string_view key) const;

  // Dequantises elements [first, first + out.size()) of `tensor`; both ends must lie on a block
  // boundary of its type (32 for Q4_0, Q4_1, Q8_0; 64 for NVFP4, without the tensor scale that is a
  // tensor of its own; 256 for Q6_K).
  void read_f32(const GgufTensor& tensor, std::span<float> out, std::int64_t first = 0) const;
  // Bytes [first_byte, first_byte + out.size()) of its payload as they are.
  void read_bytes(const GgufTensor& tensor, std::span<std::byte> out,
                  std::int64_t first_byte = 0) const;

 private:
  void parse();

  std::unique_ptr<ByteSource> owned_;
  const ByteSource* source_;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::vector<GgufTensor> tensors_;
};

// GGML's NVFP4: blocks of 64 elements, 4 E4M3 scales (one for 16 elements), then 32 bytes of codes:
// byte 8 s + j holds elements 16 s + j (low nibble) and 16 s + 8 + j of the block. Ours
// (doc/formats.md): `codes` 32 bytes and `scales` 4 bytes a block.
constexpr std::int64_t kGgmlNvfp4Elements = 64;
constexpr std::int64_t kGgmlNvfp4Bytes = 36;
void unpack_ggml_nvfp4(std::span<const std::byte> blocks, std::uint8_t* codes,
                       std::uint8_t* scales);
void pack_ggml_nvfp4(const std::uint8_t* codes, const std::uint8_t* scales,
                     std::span<std::byte> blocks);

// Streams a GGUF v3 file: metadata, then the tensors' headers, then their payloads in that order,
// in pieces of any size. The file appears at finish(), which throws when bytes are missing.
class GgufWriter {
 public:
  // int64 is written as u32, uint64 as u64, double as f32, arrays of int64 as i32, of double as
  // f32: the types that llama.cpp asks for.
  using Metadata = std::vector<std::pair<std::string, GgufValue>>;
  struct Tensor {
    std::string name;
    GgmlType type;
    std::vector<std::int64_t> shape;  // row-major
  };
  GgufWriter(const std::filesystem::path& path, const Metadata& metadata,
             std::span<const Tensor> tensors);
  void append(std::span<const std::byte> bytes);
  void finish();

 private:
  void pad();

  AtomicFile file_;
  std::vector<std::int64_t> payloads_;  // bytes of each tensor
  std::size_t next_ = 0;                // the tensor that append() is in
  std::int64_t left_ = 0;               // bytes of it that are missing
};

}  // namespace qf
