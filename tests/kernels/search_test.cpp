#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "isas.h"
#include "qwen3fp4/kernels/cpu/dequantize.h"
#include "qwen3fp4/kernels/cpu/quantize.h"
#include "qwen3fp4/kernels/fp4.h"

// The block-scale search and the properties of whole NVFP4 tensors, on every instruction set.
namespace qf {
namespace {

struct Quantised {
  std::vector<std::uint8_t> codes, scales;
  bool operator==(const Quantised&) const = default;
};

struct Matrix {
  std::vector<float> values;
  std::int64_t rows, cols;
  [[nodiscard]] DenseView view() const { return {values.data(), rows, cols}; }
};

Quantised quantise(const Matrix& m, const Nvfp4Rule& rule, CpuIsa isa) {
  Quantised q{std::vector<std::uint8_t>(m.values.size() / 2),
              std::vector<std::uint8_t>(m.values.size() / 16)};
  quantize_nvfp4(m.view(), rule, {q.codes.data(), q.scales.data()}, isa);
  return q;
}

std::vector<float> dequantise(const Quantised& q, const Matrix& m, float global_scale, CpuIsa isa) {
  std::vector<float> values(m.values.size());
  dequantize_nvfp4({q.codes.data(), q.scales.data(), nullptr, global_scale, m.rows, m.cols},
                   {0, m.rows}, values.data(), isa);
  return values;
}

Matrix gauss(std::int64_t rows, std::int64_t cols, float sigma) {
  std::mt19937 engine(11);
  std::normal_distribution<float> normal(0.0F, sigma);
  Matrix m{std::vector<float>(static_cast<std::size_t>(rows * cols)), rows, cols};
  for (auto& value : m.values) value = normal(engine);
  return m;
}

float global_scale_of(const Matrix& m, CpuIsa isa) {
  return nvfp4_global_scale(
      absolute_max(m.values.data(), static_cast<std::int64_t>(m.values.size()), isa));
}

// Squared error of 16 weights under a block scale, each rounded to its nearest value, in double.
double best_error(const float* x, const float* weights, double scale) {
  double total = 0.0;
  for (int i = 0; i < 16; ++i) {
    double least = std::numeric_limits<double>::infinity();
    for (unsigned code = 0; code < 16; ++code) {
      least = std::min(least, std::pow(x[i] - e2m1_to_float(code) * scale, 2));
    }
    total += weights[i] * least;
  }
  return total;
}

class Search : public testing::TestWithParam<CpuIsa> {};
INSTANTIATE_TEST_SUITE_P(Isa, Search, testing::ValuesIn(supported_isas()), isa_test_name);

struct SearchCase {
  std::string name;
  float sigma;
  bool two_level;
  bool weighted;
};

// Against brute force: no E4M3 scale from 0.6 to 1.5 times amax / 6 beats the one that was chosen,
// nor does plain rounding.
TEST_P(Search, FindsTheLeastSquaredErrorOfEveryScaleInItsRange) {
  for (const SearchCase& c :
       {SearchCase{"two-level", 0.02F, true, false}, SearchCase{"weighted", 0.02F, true, true},
        SearchCase{"single-level", 0.02F, false, false},
        SearchCase{"single-level, subnormal scales", 0.003F, false, false},
        SearchCase{"single-level, saturated", 3000.0F, false, true}}) {
    SCOPED_TRACE(c.name);
    const Matrix m = gauss(12, 64, c.sigma);
    std::vector<float> weights(64, 1.0F);
    for (std::size_t i = 0; c.weighted && i < 64; ++i) weights[i] = static_cast<float>(i * i % 23);
    const float global = c.two_level ? global_scale_of(m, GetParam()) : 1.0F;
    const float* const column_weights = c.weighted ? weights.data() : nullptr;
    const auto plain = quantise(m, {global, false, nullptr}, GetParam());
    const auto chosen = quantise(m, {global, true, column_weights}, GetParam());
    const auto values = dequantise(chosen, m, global, GetParam());
    int improved = 0;
    for (std::size_t b = 0; b < plain.scales.size(); ++b) {
      const float* const x = m.values.data() + b * 16;
      const float* const w = weights.data() + b * 16 % 64;
      double error = 0.0;
      double size = 0.0;
      double amax = 0.0;
      for (std::size_t i = 0; i < 16; ++i) {
        error += w[i] * std::pow(static_cast<double>(x[i]) - values[b * 16 + i], 2);
        size += w[i] * std::pow(x[i], 2.0);
        amax = std::max(amax, std::abs(static_cast<double>(x[i])));
      }
      const double before =
          best_error(x, w, static_cast<double>(global) * e4m3_to_float(plain.scales[b]));
      double least = before;
      for (unsigned code = 1; code < 0x7F; ++code) {
        const double scale = e4m3_to_float(static_cast<std::uint8_t>(code));
        const double wanted = amax / 6.0 / global;
        if (scale < 0.6 * wanted || scale > 1.5 * wanted) continue;
        least = std::min(least, best_error(x, w, global * scale));
      }
      // fp32 moves each difference by at most 2^-22 |x|, its square by twice that times itself.
      const double slack = 0x1p-20 * (std::sqrt(least * size) + 0x1p-20 * size);
      ASSERT_LE(error, least + slack) << "block " << b;
      improved += static_cast<int>(error < before - slack);
    }
    if (c.name != "single-level, saturated") {
      EXPECT_GT(improved, static_cast<int>(plain.scales.size()) / 4) << "the search does nothing";
    }
  }
}

TEST_P(Search, DependsNeitherOnTheInstructionsNorOnTheSplitOfRows) {
  const Matrix m = gauss(23, 208, 0.05F);
  std::vector<float> weights(208);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = 0.1F * static_cast<float>(i % 7);
  const Nvfp4Rule rule{global_scale_of(m, CpuIsa::kPortable), true, weights.data()};
  const auto whole = quantise(m, rule, CpuIsa::kPortable);
  Quantised parts{std::vector<std::uint8_t>(whole.codes.size()),
                  std::vector<std::uint8_t>(whole.scales.size())};
  for (std::int64_t first = 0; first < m.rows; first += 5) {
    const std::int64_t count = std::min<std::int64_t>(5, m.rows - first);
    quantize_nvfp4(
        {m.values.data() + first * m.cols, count, m.cols}, rule,
        {parts.codes.data() + first * m.cols / 2, parts.scales.data() + first * m.cols / 16},
        GetParam());
  }
  EXPECT_EQ(parts, whole);
  EXPECT_EQ(dequantise(whole, m, rule.global_scale, GetParam()),
            dequantise(whole, m, rule.global_scale, CpuIsa::kPortable));
}

TEST_P(Search, KeepsValuesThatTheFormatHoldsExactly) {
  // Codes times scales times 2^-10, every block with a 6 and one of them with the scale 448.
  Matrix m = gauss(4, 64, 1.0F);
  std::mt19937 engine(12);
  for (std::size_t i = 0; i < m.values.size(); ++i) {
    const unsigned code = i % 16 == 3 ? 7U : static_cast<unsigned>(engine() & 15U);
    const auto scale = static_cast<std::uint8_t>(i < 16 ? 0x7E : 0x30 + i / 16);
    m.values[i] = e2m1_to_float(code) * e4m3_to_float(scale) * 0x1p-10F;
  }
  const float global = global_scale_of(m, GetParam());
  EXPECT_EQ(global, 0x1p-10F);
  for (const bool search : {false, true}) {
    const auto q = quantise(m, {global, search, nullptr}, GetParam());
    const auto values = dequantise(q, m, global, GetParam());
    for (std::size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(float_bits(values[i]), float_bits(m.values[i])) << i;  // -0 stays -0
    }
  }
}

TEST_P(Search, AnAllZeroTensorHasTheSmallestNormalScaleAndCodesOfZero) {
  Matrix m{std::vector<float>(64, 0.0F), 2, 32};
  m.values[5] = -0.0F;
  EXPECT_EQ(global_scale_of(m, GetParam()), 1.0F);
  for (const bool search : {false, true}) {
    const auto q = quantise(m, {1.0F, search, nullptr}, GetParam());
    EXPECT_EQ(q.scales, std::vector<std::uint8_t>(4, 0x08));
    for (std::size_t i = 0; i < q.codes.size(); ++i) EXPECT_EQ(q.codes[i], i == 2 ? 0x80 : 0x00);
  }
}

// Where amax / 2688 or its reciprocal leaves fp32 (torchao gives NaN there).
TEST_P(Search, TensorsOfTheSmallestNumbersStayFinite) {
  for (const float size : {1e-45F, 1e-40F, 1e-38F, 1e-35F, 1e-33F, 1e-30F}) {
    Matrix m = gauss(2, 32, 1.0F);
    for (auto& value : m.values) value *= size;
    const float global = global_scale_of(m, GetParam());
    EXPECT_GE(global, 0x1p-118F);
    for (const bool search : {false, true}) {
      const auto q = quantise(m, {global, search, nullptr}, GetParam());
      for (const float value : dequantise(q, m, global, GetParam())) {
        ASSERT_TRUE(std::isfinite(value)) << size;
        ASSERT_LE(std::abs(value), size * 16.0F + 0x1p-118F) << size;
      }
    }
  }
}

TEST_P(Search, AbsoluteMaxSeesEveryValueAndWhatIsNotFinite) {
  std::vector<float> values(37, -1.0F);
  for (std::size_t i = 0; i < values.size(); ++i) {
    auto probe = values;
    probe[i] = -2.5F;
    EXPECT_EQ(absolute_max(probe.data(), 37, GetParam()), 2.5F) << i;
    probe[i] = -std::numeric_limits<float>::infinity();
    EXPECT_FALSE(is_finite(absolute_max(probe.data(), 37, GetParam()))) << i;
    probe[i] = -std::numeric_limits<float>::quiet_NaN();
    EXPECT_FALSE(is_finite(absolute_max(probe.data(), 37, GetParam()))) << i;
  }
  EXPECT_EQ(absolute_max(values.data(), 0, GetParam()), 0.0F);
}

}  // namespace
}  // namespace qf
