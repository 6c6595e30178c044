#pragma once

#include <cstdint>
#include <string_view>

namespace qf {

// Element types of stored tensors, numbered as in `.dat` files: TorchSharp's codes, which are
// libtorch's c10::ScalarType, plus our 100 and 101 (doc/formats.md). Every other code is refused: 8
// (complex of halves, which TorchSharp lacks), 12..14 (quantised) and 4711 ("unknown") included.
enum class DType : std::int32_t {
  kU8 = 0,
  kI8 = 1,
  kI16 = 2,
  kI32 = 3,
  kI64 = 4,
  kF16 = 5,
  kF32 = 6,
  kF64 = 7,
  kC64 = 9,
  kC128 = 10,
  kBool = 11,
  kBF16 = 15,
  kF4E2M1x2 = 100,  // one byte holds two values; shapes count bytes
  kF8E4M3 = 101,
};

[[nodiscard]] bool is_known_dtype(std::uint64_t code);
// Bytes of one element.
[[nodiscard]] std::int64_t element_size(DType type);
// As users write them: "u8", "bf16", "f8_e4m3", "f4_e2m1x2", ...
[[nodiscard]] std::string_view dtype_name(DType type);

}  // namespace qf
