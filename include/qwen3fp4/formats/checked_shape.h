#pragma once

#include <cstdint>
#include <vector>

namespace qf {

// elements * element_bytes of a shape from an untrusted file, or -1 when a dimension is negative or
// the product passes int64. An empty dimension makes 0, whatever the others say.
[[nodiscard]] std::int64_t checked_bytes(const std::vector<std::int64_t>& shape,
                                         std::int64_t element_bytes);

}  // namespace qf
