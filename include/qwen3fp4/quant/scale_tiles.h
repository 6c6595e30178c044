#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

// The layout of kernels/cpu/scale_tiles.h in tensor operations, on any device.
namespace qf {

// u8 [rows, cols] to u8 [scale_tiles_bytes(rows, cols)].
[[nodiscard]] at::Tensor scale_tiles(const at::Tensor& scales);
// u8 [count, cols]: rows [first, first + count) of the scales that `tiles` hold.
[[nodiscard]] at::Tensor scale_rows_of_tiles(const at::Tensor& tiles, std::int64_t cols,
                                             std::int64_t first, std::int64_t count);

}  // namespace qf
