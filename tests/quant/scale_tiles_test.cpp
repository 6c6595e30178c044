#include "qwen3fp4/quant/scale_tiles.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <utility>
#include <vector>

#include "qwen3fp4/kernels/cpu/scale_tiles.h"

namespace qf {
namespace {

at::Tensor tiles_of(const at::Tensor& scales) {
  auto tiles = at::full({scale_tiles_bytes(scales.size(0), scales.size(1))}, 0x7F, at::kByte);
  to_scale_tiles(scales.const_data_ptr<std::uint8_t>(), scales.size(0), scales.size(1),
                 tiles.mutable_data_ptr<std::uint8_t>());
  return tiles;
}

TEST(ScaleTilesOfTensors, AreTheKernelsBytesAndGoBackByRows) {
  at::manual_seed(1);
  for (const auto& [rows, cols] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {1, 1}, {128, 4}, {129, 5}, {31, 3}, {300, 36}, {96, 160}}) {
    const auto scales = at::randint(1, 256, {rows, cols}, at::kByte);
    const auto tiles = scale_tiles(scales);
    EXPECT_TRUE(at::equal(tiles, tiles_of(scales))) << rows << "x" << cols;
    for (const auto& [first, count] : std::vector<std::pair<std::int64_t, std::int64_t>>{
             {0, rows}, {rows - 1, 1}, {rows / 2, rows - rows / 2}, {rows / 3, 1}}) {
      EXPECT_TRUE(
          at::equal(scale_rows_of_tiles(tiles, cols, first, count), scales.narrow(0, first, count)))
          << rows << "x" << cols << ", " << count << " from " << first;
    }
  }
}

}  // namespace
}  // namespace qf
