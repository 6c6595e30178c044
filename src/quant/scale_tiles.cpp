#include "qwen3fp4/quant/scale_tiles.h"

#include <ATen/ATen.h>

#include "qwen3fp4/kernels/cpu/scale_tiles.h"

namespace qf {
namespace {

// A tile holds its rows r, r + 32, r + 64, r + 96 side by side: row = tile * 128 + quarter * 32 +
// r.
constexpr std::int64_t kRowGroups = 32;
constexpr std::int64_t kQuarters = kScaleTileRows / kRowGroups;

}  // namespace

at::Tensor scale_tiles(const at::Tensor& scales) {
  const std::int64_t rows = padded_scale_rows(scales.size(0));
  const std::int64_t cols = padded_scale_cols(scales.size(1));
  // Zeros: a byte left as it was may be a NaN.
  return at::constant_pad_nd(scales, {0, cols - scales.size(1), 0, rows - scales.size(0)}, 0)
      .view({rows / kScaleTileRows, kQuarters, kRowGroups, cols / kScaleTileCols, kScaleTileCols})
      .permute({0, 3, 2, 1, 4})
      .contiguous()
      .flatten();
}

at::Tensor scale_rows_of_tiles(const at::Tensor& tiles, std::int64_t cols, std::int64_t first,
                               std::int64_t count) {
  const std::int64_t padded = padded_scale_cols(cols);
  const std::int64_t first_tile = first / kScaleTileRows;
  const std::int64_t tile_rows = (first + count - 1) / kScaleTileRows - first_tile + 1;
  return tiles.view({-1, padded / kScaleTileCols, kRowGroups, kQuarters, kScaleTileCols})
      .narrow(0, first_tile, tile_rows)
      .permute({0, 3, 2, 1, 4})
      .reshape({tile_rows * kScaleTileRows, padded})
      .narrow(0, first - first_tile * kScaleTileRows, count)
      .narrow(1, 0, cols)
      .contiguous();
}

}  // namespace qf
