#include "qwen3fp4/base/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace qf {
namespace {

// The definition, in double: sign, exponent, mantissa.
double f16_value(int bits) {
  const double sign = bits & 0x8000 ? -1 : 1;
  const int exponent = bits >> 10 & 31;
  const int mantissa = bits & 0x3FF;
  if (exponent == 31) return mantissa ? std::nan("") : sign * HUGE_VAL;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(1024 + mantissa, exponent - 25);
}

TEST(Half, EveryF16DecodesToItsDefinitionAndComesBack) {
  for (int bits = 0; bits < 65536; ++bits) {
    const float value = f16_to_float(static_cast<std::uint16_t>(bits));
    if (std::isnan(f16_value(bits))) {
      EXPECT_TRUE(std::isnan(value));
      EXPECT_TRUE(std::isnan(f16_to_float(float_to_f16(value))));
    } else {
      EXPECT_EQ(static_cast<double>(value), f16_value(bits));
      EXPECT_EQ(float_to_f16(value), bits);
    }
  }
}

// Rounding to the nearest, ties to the even mantissa: checked against both neighbours.
TEST(Half, F16RoundsToNearestEven) {
  std::mt19937 random(5);
  for (int i = 0; i < 300000; ++i) {
    const float value = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (!(std::abs(value) < 65520.0F)) continue;
    const int bits = float_to_f16(value);
    const double error = std::abs(f16_value(bits) - static_cast<double>(value));
    for (const int neighbour : {bits - 1, bits + 1}) {
      if ((neighbour & 0x7C00) == 0x7C00 || (bits & 0x7FFF) == 0) continue;
      const double other = std::abs(f16_value(neighbour) - static_cast<double>(value));
      EXPECT_TRUE(error < other || (error == other && bits % 2 == 0)) << value;
    }
  }
  EXPECT_EQ(float_to_f16(65519.9F), 0x7BFF);
  EXPECT_EQ(float_to_f16(65520.0F), 0x7C00);
  EXPECT_EQ(float_to_f16(-std::numeric_limits<float>::infinity()), 0xFC00);
}

TEST(Half, Bf16IsTheUpperHalfRoundedToEven) {
  for (int bits = 0; bits < 65536; ++bits) {
    const float value = bf16_to_float(static_cast<std::uint16_t>(bits));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(value))));
      continue;
    }
    EXPECT_EQ(float_to_bf16(value), bits);
    if ((bits & 0x7FFF) >= 0x7F7F) continue;
    // Half way to the next: to the even one; a little more: up.
    const auto half = static_cast<std::uint32_t>(bits) << 16 | 0x8000U;
    EXPECT_EQ(float_to_bf16(std::bit_cast<float>(half)), bits + bits % 2);
    EXPECT_EQ(float_to_bf16(std::bit_cast<float>(half + 1)), bits + 1);
    EXPECT_EQ(float_to_bf16(std::bit_cast<float>(half - 1)), bits);
  }
}

}  // namespace
}  // namespace qf
