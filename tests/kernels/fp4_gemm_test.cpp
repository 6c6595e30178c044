#include "qwen3fp4/kernels/cpu/fp4_gemm.h"

#include <gtest/gtest.h>

#include <cstring>

#include "fp4_gemm_case.h"

namespace qf {
namespace {

float from_bf16(std::uint16_t bits) { return float_from_bits(std::uint32_t{bits} << 16U); }

TEST(Fp4Gemm, IsTheProductOfTheDequantisedOperandsAtRaggedShapes) {
  std::mt19937 random(1);
  struct Shape {
    std::int64_t tokens, out_features, in_features;
  };
  for (const auto& [tokens, outs, ins] : {Shape{1, 1, 16}, Shape{3, 8, 80}, Shape{5, 130, 160},
                                          Shape{129, 136, 64}, Shape{2, 300, 2560}}) {
    const Fp4Operand x(random, tokens, ins), w(random, outs, ins);
    const float alpha = 0.0123F;
    const Fp4Product product{x.view(), w.view(), alpha};
    std::vector<float> y(static_cast<std::size_t>(tokens * outs));
    std::vector<std::uint16_t> y_bf16(y.size());
    fp4_gemm_f32(product, y.data());
    fp4_gemm_bf16(product, y_bf16.data());
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::int64_t n = 0; n < outs; ++n) {
        const auto i = static_cast<std::size_t>(t * outs + n);
        const auto exact = exact_element(x, w, alpha, t, n);
        ASSERT_NEAR(y[i], exact.value,
                    (static_cast<double>(ins) / 16 + 1) * 0x1p-24 * exact.magnitudes);
        // To nearest: half a step of 8 significant bits.
        ASSERT_NEAR(from_bf16(y_bf16[i]), y[i], std::abs(y[i]) * 0x1p-8);
      }
    }
  }
}

TEST(Fp4Gemm, ReadsNoPaddingAndCarriesNanScales) {
  std::mt19937 random(2);
  Fp4Operand x(random, 3, 48), w(random, 5, 48);
  std::vector<float> y(15), again(15);
  fp4_gemm_f32({x.view(), w.view(), 1}, y.data());
  std::vector<std::uint8_t> poisoned(w.tiles.size(), 0x7F);
  for (std::int64_t r = 0; r < 5; ++r) {
    for (std::int64_t c = 0; c < 3; ++c) {
      const auto at = static_cast<std::size_t>(scale_tile_offset(r, c, 3));
      poisoned[at] = w.tiles[at];
    }
  }
  w.tiles = poisoned;
  fp4_gemm_f32({x.view(), w.view(), 1}, again.data());
  EXPECT_EQ(y, again);
  w.tiles[static_cast<std::size_t>(scale_tile_offset(4, 2, 3))] = 0x7F;
  fp4_gemm_f32({x.view(), w.view(), 1}, again.data());
  std::vector<std::uint16_t> bf16(15);
  fp4_gemm_bf16({x.view(), w.view(), 1}, bf16.data());
  for (std::size_t i = 0; i < again.size(); ++i) {
    EXPECT_EQ(std::isnan(again[i]), i % 5 == 4);
    EXPECT_EQ(std::isnan(from_bf16(bf16[i])), i % 5 == 4);
  }
}

TEST(Fp4Gemm, RoundsToBf16ByTiesToEven) {
  // One product of 1 * 1 under scales of 1: the result is alpha, between two bf16 numbers.
  std::vector<std::uint8_t> x_codes(8), w_codes(8), tiles(512);
  x_codes[0] = 0x02;
  w_codes[0] = 0x02;
  tiles[0] = 0x38;
  const auto rounded = [&](float alpha) {
    std::uint16_t y = 0;
    const ScaledFp4View x{x_codes.data(), tiles.data(), 1, 16};
    fp4_gemm_bf16({x, {w_codes.data(), tiles.data(), 1, 16}, alpha}, &y);
    return from_bf16(y);
  };
  EXPECT_EQ(rounded(1), 1.0F);
  EXPECT_EQ(rounded(0x1.01p0F), from_bf16(0x3F80));     // 1 + 2^-8: down to even
  EXPECT_EQ(rounded(0x1.03p0F), from_bf16(0x3F82));     // 1 + 3 * 2^-8: up to even
  EXPECT_EQ(rounded(-0x1.018p0F), -from_bf16(0x3F81));  // beyond the tie
}

}  // namespace
}  // namespace qf
