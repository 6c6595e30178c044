#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "qwen3fp4/formats/gguf.h"

namespace qf {

struct GgmlBlock {
  std::int64_t elements;
  std::int64_t bytes;
};

// nullptr for a type that is not supported.
[[nodiscard]] const GgmlBlock* ggml_block(std::uint32_t type);
// Whole blocks: bytes.size() / block bytes * block elements == out.size().
void dequantize_ggml(GgmlType type, std::span<const std::byte> bytes, std::span<float> out);

}  // namespace qf
