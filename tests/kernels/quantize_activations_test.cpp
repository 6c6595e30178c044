#include "qwen3fp4/kernels/cpu/quantize_activations.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "golden.h"
#include "qwen3fp4/kernels/cpu/quantize.h"
#include "qwen3fp4/kernels/nvfp4_block.h"
#include "wild_floats.h"

namespace qf {
namespace {

TEST(Nvfp4Block, OneAtATimeIsTheVectorisedQuantisersBits) {
  std::mt19937 random(1);
  constexpr std::int64_t kRows = 300, kCols = 256, kBlocks = kRows * kCols / 16;
  for (const bool search : {false, true}) {
    for (const bool weighted : {false, true}) {
      const auto weight = wild_floats(random, kRows * kCols);
      std::vector<float> column_weights(kCols);
      for (float& w : column_weights) w = static_cast<float>(random() % 1000) / 100;
      for (const float global :
           {1.0F, nvfp4_global_scale(absolute_max(weight.data(), kRows * kCols))}) {
        std::vector<std::uint8_t> codes(kRows * kCols / 2), scales(kBlocks);
        quantize_nvfp4({weight.data(), kRows, kCols},
                       {global, search, weighted ? column_weights.data() : nullptr},
                       {codes.data(), scales.data()});
        for (std::int64_t i = 0; i < kBlocks; ++i) {
          float x[16];
          std::copy_n(weight.data() + i * 16, 16, x);
          const float* const w = column_weights.data() + i * 16 % kCols;
          const auto block = search ? nvfp4_searched_block(x, global, weighted ? w : nullptr)
                                    : nvfp4_plain_block(x, global);
          ASSERT_EQ(block.scale_e4m3, scales[static_cast<std::size_t>(i)]) << i;
          ASSERT_EQ(std::memcmp(block.codes, codes.data() + i * 8, 8), 0) << i;
        }
      }
    }
  }
}

struct Tokens {
  std::vector<std::uint8_t> codes, tiles;
  std::vector<float> scales;
};
Tokens quantise(const std::vector<float>& x, std::int64_t tokens, std::int64_t cols) {
  Tokens q;
  q.codes.assign(static_cast<std::size_t>(tokens * cols / 2), 0xA5);
  q.tiles.assign(static_cast<std::size_t>(scale_tiles_bytes(tokens, cols / 16)), 0x7F);
  q.scales.assign(static_cast<std::size_t>(tokens), -1);
  quantize_activations({x.data(), tokens, cols}, {q.codes.data(), q.tiles.data(), q.scales.data()});
  return q;
}

TEST(QuantizeActivations, AreEachTokenOverItsScaleBySingleLevelNvfp4) {
  std::mt19937 random(2);
  for (const auto& [tokens, cols] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {1, 16}, {3, 80}, {128, 64}, {130, 176}}) {
    const auto x = wild_floats(random, tokens * cols);
    const auto q = quantise(x, tokens, cols);
    std::vector<std::uint8_t> scales(static_cast<std::size_t>(tokens * cols / 16));
    std::vector<std::uint8_t> codes(q.codes.size());
    for (std::int64_t t = 0; t < tokens; ++t) {
      float amax = 0;
      for (std::int64_t c = 0; c < cols; ++c) {
        amax = std::max(amax, std::abs(x[static_cast<std::size_t>(t * cols + c)]));
      }
      const float scale = amax / 2688.0F;
      EXPECT_EQ(q.scales[static_cast<std::size_t>(t)], scale);
      std::vector<float> scaled(x.begin() + t * cols, x.begin() + (t + 1) * cols);
      for (float& value : scaled) value /= scale;
      quantize_nvfp4({scaled.data(), 1, cols}, {1, false, nullptr},
                     {codes.data() + t * cols / 2, scales.data() + t * cols / 16});
    }
    EXPECT_EQ(q.codes, codes);
    std::vector<std::uint8_t> tiles(q.tiles.size());
    to_scale_tiles(scales.data(), tokens, cols / 16, tiles.data());
    EXPECT_EQ(q.tiles, tiles);
  }
}

TEST(QuantizeActivations, TakesTokensOfZerosAndOnesThatAreNotFinite) {
  std::vector<float> x(4 * 32, 0.0F);
  x[32 + 5] = std::numeric_limits<float>::infinity();
  x[64 + 5] = std::numeric_limits<float>::quiet_NaN();
  x[96] = 2688;
  const auto q = quantise(x, 4, 32);
  EXPECT_EQ(q.scales[0], std::numeric_limits<float>::min());
  EXPECT_TRUE(std::isnan(q.scales[1]) && std::isnan(q.scales[2]));
  EXPECT_EQ(q.scales[3], 1.0F);
  EXPECT_EQ(std::count(q.codes.begin(), q.codes.begin() + 48, 0), 48);
  EXPECT_EQ(q.codes[48], 7);  // 6 * 448
}

}  // namespace
}  // namespace qf
