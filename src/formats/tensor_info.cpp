#include "qwen3fp4/formats/tensor_info.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "qwen3fp4/formats/checked_shape.h"

namespace qf {

std::int64_t element_count(const std::vector<std::int64_t>& shape) {
  // Files may pair an empty dimension with ones whose product leaves int64.
  if (std::ranges::find(shape, 0) != shape.end()) return 0;
  std::int64_t count = 1;
  for (const std::int64_t dim : shape) count *= dim;
  return count;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::int64_t checked_bytes(const std::vector<std::int64_t>& shape, std::int64_t element_bytes) {
  if (std::ranges::any_of(shape, [](std::int64_t dim) { return dim < 0; })) return -1;
  if (std::ranges::find(shape, 0) != shape.end()) return 0;
  std::int64_t bytes = element_bytes;
  for (const std::int64_t dim : shape) {
    if (__builtin_mul_overflow(bytes, dim, &bytes)) return -1;
  }
  return bytes;
}

}  // namespace qf
