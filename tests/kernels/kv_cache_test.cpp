#include "qwen3fp4/kernels/cpu/kv_cache.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "qwen3fp4/kernels/kv_row.h"

namespace qf {
namespace {

// The nearest E4M3 number, by trying all; of two as near the one with the even code.
std::uint8_t nearest(float x) {
  unsigned best = 0;
  double distance = std::numeric_limits<double>::infinity();
  for (unsigned code = 0; code < 0x7F; ++code) {
    const double away =
        std::abs(double{e4m3_to_float(static_cast<std::uint8_t>(code))} - std::abs(double{x}));
    if (away < distance || (away == distance && code % 2 == 0)) {
      best = code;
      distance = away;
    }
  }
  return static_cast<std::uint8_t>(best | (std::signbit(x) ? 0x80U : 0U));
}

struct Row {
  explicit Row(const std::vector<float>& x) : codes(x.size(), 0xA5), back(x.size()) {
    const auto width = static_cast<std::int64_t>(x.size());
    quantize_kv_row(x.data(), width, codes.data(), &scale);
    dequantize_kv_rows(codes.data(), &scale, 1, width, back.data());
  }
  std::vector<std::uint8_t> codes;
  std::vector<float> back;
  float scale = -1;
};

void expect_definition(const std::vector<float>& x) {
  const Row row(x);
  float largest = 0;
  for (const float value : x) largest = std::max(largest, std::abs(value));
  ASSERT_EQ(row.scale, largest / 448.0F);
  for (std::size_t i = 0; i < x.size(); ++i) {
    ASSERT_EQ(row.codes[i], nearest(x[i] / row.scale)) << x[i] << " of a row up to " << largest;
    ASSERT_EQ(row.back[i], e4m3_to_float(row.codes[i]) * row.scale);
    // Half a step of three bits behind the point, or half of the subnormals' steps; and the
    // roundings of scale, quotient and product.
    const double bound = std::max(std::abs(double{x[i]}) * 0x1p-4, double{row.scale} * 0x1p-10);
    ASSERT_LE(std::abs(double{row.back[i]} - x[i]), bound * (1 + 0x1p-20) + 448 * 0x1p-149);
  }
}

TEST(KvRow, IsTheNearestOfAllCodes) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const float size : {1.0F, 3e-3F, 1e4F, 1e30F, 1e-36F, 1e-40F}) {
    for (const int width : {8, 64, 128}) {
      std::vector<float> x(static_cast<std::size_t>(width));
      for (float& value : x) value = normal(random) * size;
      expect_definition(x);
    }
  }
}

TEST(KvRow, TiesGoToTheEvenCode) {
  // The scale is 1: values lie as they are between the codes.
  std::vector<float> x{448.0F, -448.0F, 0.0F, -0.0F, 0x1p-20F};
  for (unsigned code = 0; code < 0x7E; ++code) {
    const float low = e4m3_to_float(static_cast<std::uint8_t>(code));
    const float high = e4m3_to_float(static_cast<std::uint8_t>(code + 1));
    for (const float sign : {1.0F, -1.0F}) {
      x.push_back(sign * (low + high) / 2);
      x.push_back(sign * std::nextafter((low + high) / 2, 0.0F));
      x.push_back(sign * std::nextafter((low + high) / 2, 1000.0F));
      x.push_back(sign * low);
    }
  }
  expect_definition(x);
}

TEST(KvRow, OfZerosIsZeros) {
  const Row row({0.0F, -0.0F, 0.0F, 0.0F});
  EXPECT_EQ(row.scale, 0.0F);
  EXPECT_EQ(row.codes, std::vector<std::uint8_t>(4, 0));
  EXPECT_EQ(row.back, std::vector<float>(4, 0.0F));
  // So little that the scale has no number.
  const Row less({0x1p-149F, 0.0F, -0x1p-149F});
  EXPECT_EQ(less.scale, 0.0F);
  EXPECT_EQ(less.back, std::vector<float>(3, 0.0F));
}

TEST(KvRow, ThatIsNotFiniteIsNaNAltogether) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float bad : {std::nanf(""), -std::nanf(""), infinity, -infinity}) {
    const Row row({1.0F, -2.0F, bad, 0.0F});
    EXPECT_EQ(float_bits(row.scale), 0x7FC00000U);
    EXPECT_EQ(row.codes, std::vector<std::uint8_t>(4, 0x7F));
    for (const float value : row.back) EXPECT_TRUE(std::isnan(value));
  }
  // The largest finite row is one.
  expect_definition({std::numeric_limits<float>::max(), 1.0F});
}

TEST(KvRow, RowsHaveScalesOfTheirOwn) {
  const std::vector<std::uint8_t> codes{0x38, 0xB8, 0x40, 0x01};
  const std::vector<float> scales{2.0F, 0.5F};
  std::vector<float> out(4);
  dequantize_kv_rows(codes.data(), scales.data(), 2, 2, out.data());
  EXPECT_EQ(out, (std::vector<float>{2.0F, -2.0F, 1.0F, 0x1p-10F}));
}

}  // namespace
}  // namespace qf
