// How positions and moments are rounded: means over all draws.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "qwen3fp4/kernels/adam_step.h"

namespace qf {
namespace {

// The mean of round(draw) over all draws of kBits bits, less `value`; in units of `gap`.
template <int kBits, class Round>
double bias(double value, double gap, const Round& round) {
  double sum = 0;
  for (std::uint32_t draw = 0; draw < 1U << kBits; ++draw) sum += round(draw);
  return (sum / (1U << kBits) - value) / gap;
}

// Of a draw of as many bits as are taken.
template <std::int32_t kLevels>
float share_of(std::uint32_t draw) {
  return position_share<kLevels>(draw << (23 - kPositionDrawBits<kLevels>));
}
template <int kBits>
float threshold_of(std::uint32_t draw) {
  return second_threshold<kBits>(draw << (22 - kSecondDrawBits));
}

// A share of b bits is met to 2^-(b + 1) of the gap; the arithmetic before it errs by a few 2^-24
// of numbers that are at most 256 gaps, 2^-14 in all. Twelve bits of position: 4096 gaps, 2^-10.
// Eight of v: gaps of 1 / 22 of the number, 2^-16.
TEST(AdamRounding, KeepsTheMean) {
  std::mt19937 random(5);
  std::uniform_real_distribution<float> uniform(-6.9F, 6.9F);
  for (int i = 0; i < 40; ++i) {
    const float y = uniform(random);
    const double width = cell_width(cell_code(magnitude(y)));
    const double at_256 = bias<14>(y, width / 256, [&](std::uint32_t draw) {
      return position_value<256>(round_position<256>(y, share_of<256>(draw)));
    });
    EXPECT_NEAR(at_256, 0, 0x1p-13) << y;
    const double at_4096 = bias<10>(y, width / 4096, [&](std::uint32_t draw) {
      return position_value<4096>(round_position<4096>(y, share_of<4096>(draw)));
    });
    EXPECT_NEAR(at_4096, 0, 0x1p-9) << y;
    const float x = smaller(magnitude(y), 6.0F);
    const double e2m1 = bias<16>(x, x < 2 ? 0.5 : 1, [&](std::uint32_t draw) {
      return e2m1_value(draw_e2m1(x, draw << 6U | 32U));
    });
    EXPECT_NEAR(e2m1, 0, 0x1p-15) << x;
    const float wide = y * 18;
    const double int8 =
        bias<16>(wide, 1, [&](std::uint32_t draw) { return draw_int8(wide, draw << 6U); });
    EXPECT_NEAR(int8, 0, 0x1p-14) << wide;
    const float many = 100 + magnitude(y) * magnitude(y) * 900;
    const double eight = bias<17>(many, many / 23.6, [&](std::uint32_t draw) {
      return geometric_power<8>(draw_geometric<8>(many, threshold_of<8>(draw)));
    });
    EXPECT_NEAR(eight, 0, 0x1p-14) << many;
  }
}

// Up for all draws t whose curved threshold is below x: t (t + 3/2) / 4 + 3/8 < x, so the mean of
// codes 0.5 apart from 1 is the t that is equal.
TEST(AdamRounding, OfVInFourBitsIsBiasedByItsCurve) {
  for (const float x : {1.0001F, 1.05F, 1.2F, 1.25F, 1.3F, 1.45F, 1.4999F}) {
    const double even = (std::sqrt(2.25 - 4 * (1.5 - 4.0 * x)) - 1.5) / 2;
    for (const std::int32_t code : {0, 7, 14}) {
      const double mean = bias<17>(even, 1, [&](std::uint32_t draw) {
        const float ratios = x * geometric_power<4>(code);
        const std::int32_t drawn = draw_geometric<4>(ratios, threshold_of<4>(draw));
        return 1 + 0.5 * (drawn - code);
      });
      EXPECT_NEAR(mean, 0, 0x1p-15) << x << " above code " << code;
    }
  }
}

TEST(AdamMoments, CodesOfVHaveNoZero) {
  for (std::int32_t code = 0; code < 16; ++code) {
    EXPECT_GT(geometric_power<4>(code) * geometric_base<4>(1e-12F), 0);
  }
  EXPECT_FLOAT_EQ(geometric_power<4>(15) * geometric_base<4>(3.0F), 3.0F);
  EXPECT_FLOAT_EQ(geometric_power<8>(255) * geometric_base<8>(3.0F), 3.0F);
  EXPECT_EQ(draw_geometric<4>(0.0F, 1.4999F), 0) << "what is below the first code becomes it";
  EXPECT_EQ(draw_geometric<8>(1e30F, 1.0001F), 255);
}

}  // namespace
}  // namespace qf
