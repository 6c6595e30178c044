#include "qwen3fp4/kernels/fp4.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace qf {
namespace {

// The formats as their papers write them: sign, exponent, mantissa, bias, in double.
double decode(unsigned code, int exponent_bits, int mantissa_bits, int bias) {
  const auto mantissa = static_cast<int>(code & ((1U << mantissa_bits) - 1U));
  const auto exponent = static_cast<int>(code >> mantissa_bits & ((1U << exponent_bits) - 1U));
  const bool negative = (code >> (exponent_bits + mantissa_bits) & 1U) != 0;
  const double scale = std::ldexp(1.0, -mantissa_bits);
  const double value = exponent == 0 ? std::ldexp(mantissa * scale, 1 - bias)
                                     : std::ldexp(1.0 + mantissa * scale, exponent - bias);
  return negative ? -value : value;
}

// The nearest of the magnitudes `values` (rising, their index is the code), of two the even code.
unsigned nearest(double magnitude, const std::vector<double>& values) {
  unsigned best = 0;
  for (unsigned i = 1; i < values.size(); ++i) {
    const double now = std::abs(magnitude - values[i]);
    const double before = std::abs(magnitude - values[best]);
    if (now < before || (now == before && i % 2 == 0)) best = i;
  }
  return best;
}

// Values around every value and every border of a format, and at random over all magnitudes.
std::vector<float> probes(const std::vector<double>& values) {
  std::vector<float> all{0.0F, std::numeric_limits<float>::denorm_min(), 1e5F, 1000.0F};
  const auto add = [&](double value) {
    const auto v = static_cast<float>(value);
    all.insert(all.end(), {v, std::nextafter(v, 0.0F), std::nextafter(v, 1e30F)});
  };
  for (std::size_t i = 0; i < values.size(); ++i) {
    add(values[i]);
    if (i > 0) add((values[i - 1] + values[i]) / 2.0);
  }
  std::mt19937 engine(7);
  std::uniform_real_distribution<float> exponent(-12.0F, 11.0F);
  for (int i = 0; i < 20000; ++i) all.push_back(std::exp2(exponent(engine)));
  return all;
}

TEST(E2M1, DecodesAllSixteenCodes) {
  const double table[] = {0, .5, 1, 1.5, 2, 3, 4, 6};
  for (unsigned code = 0; code < 16; ++code) {
    EXPECT_EQ(e2m1_to_float(code), decode(code, 2, 1, 1)) << code;
    EXPECT_EQ(std::abs(e2m1_to_float(code)), table[code & 7U]) << code;
    EXPECT_EQ(std::signbit(e2m1_to_float(code)), code >= 8) << code;
  }
}

TEST(E2M1, EncodesToTheNearestCodeTiesToEven) {
  std::vector<double> values;
  for (unsigned code = 0; code < 8; ++code) values.push_back(decode(code, 2, 1, 1));
  for (const float x : probes(values)) {
    ASSERT_EQ(e2m1_from_float(x), nearest(x, values)) << x;
    ASSERT_EQ(e2m1_from_float(-x), nearest(x, values) | 8U) << -x;
  }
}

TEST(E4M3, DecodesAll256Codes) {
  for (unsigned code = 0; code < 256; ++code) {
    const float value = e4m3_to_float(static_cast<std::uint8_t>(code));
    if ((code & 0x7FU) == 0x7FU) {
      EXPECT_TRUE(std::isnan(value)) << code;
      continue;
    }
    EXPECT_EQ(value, decode(code, 4, 3, 7)) << code;
    EXPECT_EQ(std::signbit(value), code >= 128) << code;
    EXPECT_EQ(e4m3_from_float(value), code);
  }
}

TEST(E4M3, EncodesToTheNearestCodeTiesToEvenAndSaturates) {
  std::vector<double> values;
  for (unsigned code = 0; code < 0x7F; ++code) values.push_back(decode(code, 4, 3, 7));
  for (const float x : probes(values)) {
    ASSERT_EQ(e4m3_from_float(x), nearest(x, values)) << x;
    ASSERT_EQ(e4m3_from_float(-x), nearest(x, values) | 0x80U) << -x;
  }
  EXPECT_EQ(e4m3_from_float(std::numeric_limits<float>::infinity()), 0x7E);
  EXPECT_EQ(e4m3_from_float(std::numeric_limits<float>::quiet_NaN()) & 0x7F, 0x7F);
}

TEST(Nf4, EncodesToTheNearestValueOfTheCodeBook) {
  std::vector<float> all;
  for (unsigned i = 0; i < 16; ++i) {
    if (i > 0) {
      ASSERT_LT(nf4_to_float(i - 1), nf4_to_float(i));
    }
    all.insert(all.end(), {nf4_to_float(i), std::nextafter(nf4_to_float(i), -2.0F),
                           std::nextafter(nf4_to_float(i), 2.0F)});
  }
  std::mt19937 engine(8);
  std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
  for (int i = 0; i < 20000; ++i) all.push_back(uniform(engine));
  for (const float x : all) {
    const double distance = std::abs(static_cast<double>(x) - nf4_to_float(nf4_from_float(x)));
    for (unsigned i = 0; i < 16; ++i) {
      // The border between two codes is their midpoint rounded to fp32.
      ASSERT_LE(distance, std::abs(static_cast<double>(x) - nf4_to_float(i)) + 0x1p-24) << x;
    }
  }
}

}  // namespace
}  // namespace qf
