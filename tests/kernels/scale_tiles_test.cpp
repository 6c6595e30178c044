#include "qwen3fp4/kernels/cpu/scale_tiles.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <utility>
#include <vector>

namespace qf {
namespace {

TEST(ScaleTiles, GoThereAndBackAtRaggedShapesWithZerosAround) {
  for (const auto& [rows, cols] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {1, 1}, {128, 4}, {129, 5}, {31, 3}, {300, 36}, {96, 160}}) {
    std::vector<std::uint8_t> scales(static_cast<std::size_t>(rows * cols));
    for (std::size_t i = 0; i < scales.size(); ++i) {
      scales[i] = static_cast<std::uint8_t>(1 + i * 7919 % 255);
    }
    std::vector<std::uint8_t> tiles(static_cast<std::size_t>(scale_tiles_bytes(rows, cols)), 0x7F);
    to_scale_tiles(scales.data(), rows, cols, tiles.data());
    std::size_t zeros = 0;
    for (const std::uint8_t byte : tiles) zeros += byte == 0 ? 1 : 0;
    EXPECT_EQ(zeros, tiles.size() - scales.size());
    std::vector<std::uint8_t> back(scales.size());
    from_scale_tiles(tiles.data(), rows, cols, back.data());
    EXPECT_EQ(back, scales);
  }
}

// Every byte of the first tile by cuBLASLt's documentation: outer row r and scale column c at
// (r % 32) * 16 + (r / 32) * 4 + c.
TEST(ScaleTiles, FollowTheDocumentedOrder) {
  std::vector<std::uint8_t> scales(512);
  for (std::size_t i = 0; i < 512; ++i) scales[i] = static_cast<std::uint8_t>(i / 4 + 1);
  std::vector<std::uint8_t> tiles(512);
  to_scale_tiles(scales.data(), 128, 4, tiles.data());
  for (std::size_t at = 0; at < 512; ++at) {
    EXPECT_EQ(tiles[at], at / 16 + at % 16 / 4 * 32 + 1) << at;
  }
}

}  // namespace
}  // namespace qf
