#pragma once

#include <cstdint>

#include "qwen3fp4/kernels/fp4.h"

// The layout in which cuBLASLt's block-scaled FP4 products take their scales
// (CUBLASLT_MATMUL_MATRIX_SCALE_VEC16_UE4M3): tiles of 128 rows x 4 scales, 512 bytes each. C++17.
namespace qf {

inline constexpr std::int64_t kScaleTileRows = 128;
inline constexpr std::int64_t kScaleTileCols = 4;

QF_HD constexpr std::int64_t padded_scale_rows(std::int64_t rows) {
  return (rows + kScaleTileRows - 1) / kScaleTileRows * kScaleTileRows;
}
QF_HD constexpr std::int64_t padded_scale_cols(std::int64_t cols) {
  return (cols + kScaleTileCols - 1) / kScaleTileCols * kScaleTileCols;
}
QF_HD constexpr std::int64_t scale_tiles_bytes(std::int64_t rows, std::int64_t cols) {
  return padded_scale_rows(rows) * padded_scale_cols(cols);
}
// Where the scale of (row, col) is: within a tile 32 groups of 16 bytes, group r % 32 holding rows
// r, r + 32, r + 64, r + 96 with 4 scales each.
QF_HD constexpr std::int64_t scale_tile_offset(std::int64_t row, std::int64_t col,
                                               std::int64_t cols) {
  const std::int64_t tile =
      row / kScaleTileRows * (padded_scale_cols(cols) / kScaleTileCols) + col / kScaleTileCols;
  return tile * (kScaleTileRows * kScaleTileCols) + row % 32 * 16 + row % kScaleTileRows / 32 * 4 +
         col % kScaleTileCols;
}
static_assert(scale_tile_offset(0, 3, 4) == 3 && scale_tile_offset(1, 0, 4) == 16, "rows 16 apart");
static_assert(scale_tile_offset(32, 0, 4) == 4 && scale_tile_offset(127, 3, 4) == 511,
              "four quarters");
static_assert(scale_tile_offset(0, 4, 5) == 512 && scale_tile_offset(128, 0, 5) == 1024,
              "tiles go along the columns first");

// `scales` [rows, cols] row-major to `tiles` (scale_tiles_bytes). Padding becomes 0: a byte left as
// it was may be a NaN, and shows up as a NaN in some products only.
void to_scale_tiles(const std::uint8_t* scales, std::int64_t rows, std::int64_t cols,
                    std::uint8_t* tiles);
void from_scale_tiles(const std::uint8_t* tiles, std::int64_t rows, std::int64_t cols,
                      std::uint8_t* scales);

}  // namespace qf
