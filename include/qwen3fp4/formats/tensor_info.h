#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "qwen3fp4/formats/dtype.h"

namespace qf {

// One tensor of a file: row-major, little endian, `bytes` long at `offset` of its ByteSource.
// A shape without dimensions is one element; a dimension of 0 makes an empty tensor.
struct TensorInfo {
  std::string name;
  DType type = DType::kU8;
  std::vector<std::int64_t> shape;
  std::int64_t offset = 0;
  std::int64_t bytes = 0;
};

[[nodiscard]] std::int64_t element_count(const std::vector<std::int64_t>& shape);
// "[32, 1, 3]"
[[nodiscard]] std::string shape_text(const std::vector<std::int64_t>& shape);

}  // namespace qf
