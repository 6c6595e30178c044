#include "qwen3fp4/kernels/cpu/scale_tiles.h"

#include <algorithm>

namespace qf {

void to_scale_tiles(const std::uint8_t* scales, std::int64_t rows, std::int64_t cols,
                    std::uint8_t* tiles) {
  std::fill_n(tiles, scale_tiles_bytes(rows, cols), std::uint8_t{0});
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t col = 0; col < cols; ++col) {
      tiles[scale_tile_offset(row, col, cols)] = scales[row * cols + col];
    }
  }
}

void from_scale_tiles(const std::uint8_t* tiles, std::int64_t rows, std::int64_t cols,
                      std::uint8_t* scales) {
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t col = 0; col < cols; ++col) {
      scales[row * cols + col] = tiles[scale_tile_offset(row, col, cols)];
    }
  }
}

}  // namespace qf
