#include "qwen3fp4/quant/quantize.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "qwen3fp4/quant/parallel.h"
#include "refused.h"

namespace qf {
namespace {

at::Tensor gauss(std::int64_t rows, std::int64_t cols, double sigma) {
  at::manual_seed(rows * 1000 + cols);
  return at::randn({rows, cols}) * sigma;
}

bool same(const WeightMatrix& a, const WeightMatrix& b) {
  return at::equal(a.codes(), b.codes()) && at::equal(a.scales(), b.scales()) &&
         a.global_scale() == b.global_scale();
}

class Threads {
 public:
  explicit Threads(int count) : before_(parallel_threads()) { set_parallel_threads(count); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  ~Threads() { set_parallel_threads(before_); }

 private:
  int before_;
};

TEST(Quantize, GivesTheSameBitsForEveryNumberOfThreads) {
  const auto w = gauss(301, 1040, 0.02);
  const auto nvfp4 = quantize_nvfp4(w, {});
  const auto nf4 = quantize_nf4(w);
  for (const int threads : {1, 2, 3, 5}) {
    const Threads these(threads);
    EXPECT_TRUE(same(quantize_nvfp4(w, {}), nvfp4)) << threads;
    EXPECT_TRUE(same(quantize_nf4(w), nf4)) << threads;
    EXPECT_TRUE(at::equal(nvfp4.dequantize(), nvfp4.dequantize_rows(0, 301))) << threads;
  }
}

TEST(Quantize, TakesAnyStrides) {
  const auto w = gauss(64, 48, 0.1);
  EXPECT_TRUE(same(quantize_nvfp4(w.t().contiguous().t(), {}), quantize_nvfp4(w, {})));
  EXPECT_TRUE(same(quantize_nf4(w.t().contiguous().t()), quantize_nf4(w)));
}

// The errors in doc/quantisation.md's table: of unit-free Gaussian weights, so that they hold for
// every seed within a few per mille of 80,000 blocks.
TEST(Quantize, RelativeErrorsAreTheDocumentedOnes) {
  const auto w = gauss(512, 2560, 0.02);
  const double plain = relative_rms_error(quantize_nvfp4(w, {.search = false}), w);
  const double search = relative_rms_error(quantize_nvfp4(w, {}), w);
  EXPECT_NEAR(plain, 0.095, 0.001);
  EXPECT_LT(search, plain * std::sqrt(0.79));  // at least 21 % of the squared error
  EXPECT_GT(search, plain * std::sqrt(0.70));
  EXPECT_NEAR(relative_rms_error(quantize_nf4(w), w), 0.092, 0.001);
  const double single =
      relative_rms_error(quantize_nvfp4(w, {.search = false, .two_level = false}), w);
  EXPECT_NEAR(single, 0.131, 0.001);
  EXPECT_LT(relative_rms_error(quantize_nvfp4(w, {.two_level = false}), w), 0.100);
}

// In double, each column's errors times its weight.
double weighted_error(const WeightMatrix& q, const at::Tensor& w, const at::Tensor& columns) {
  const auto error = (q.dequantize().to(at::kDouble) - w.to(at::kDouble)).square_();
  return (error * columns.to(at::kDouble)).sum().item<double>();
}

TEST(Quantize, ColumnWeightsSpareTheColumnsThatCount) {
  const auto w = gauss(300, 256, 0.02);
  const auto columns = gauss(1, 256, 1.0).square().view({256});
  const auto plain = quantize_nvfp4(w, {});
  const auto weighted = quantize_nvfp4(w, {.column_weights = columns});
  EXPECT_LT(weighted_error(weighted, w, columns), 0.97 * weighted_error(plain, w, columns));
  EXPECT_GT(relative_rms_error(weighted, w), relative_rms_error(plain, w));
  EXPECT_EQ(weighted.global_scale(), plain.global_scale());
  // Their scale is none of the search's business, and a power of two moves no rounding.
  EXPECT_TRUE(same(quantize_nvfp4(w, {.column_weights = columns * 0x1p-20}), weighted));
  EXPECT_TRUE(same(quantize_nvfp4(w, {.column_weights = at::ones({256})}), plain));
}

TEST(Quantize, RefusesColumnWeightsThatFitNothing) {
  const auto w = gauss(4, 32, 1.0);
  const auto refused = [&](const at::Tensor& columns, bool search = true) {
    return refusal([&] { (void)quantize_nvfp4(w, {.search = search, .column_weights = columns}); });
  };
  EXPECT_THAT(refused(at::ones({16})), testing::HasSubstr("expected 32 finite column weights"));
  EXPECT_THAT(refused(at::full({32}, -1.0F)), testing::HasSubstr("at least 0"));
  EXPECT_THAT(refused(at::full({32}, std::numeric_limits<float>::infinity())),
              testing::HasSubstr("finite"));
  EXPECT_THAT(refused(at::ones({32}), false), testing::HasSubstr("searched scales"));
}

TEST(Quantize, TheTensorScaleIsAMultipleThatMayBeAnyPowerOfTwo) {
  const auto w = gauss(32, 64, 0.02);
  const auto a = quantize_nvfp4(w, {});
  for (const double factor : {0x1p-80, 0x1p-8, 0x1p90}) {
    const auto b = quantize_nvfp4(w * factor, {});
    EXPECT_TRUE(at::equal(a.codes(), b.codes()) && at::equal(a.scales(), b.scales())) << factor;
    EXPECT_EQ(b.global_scale(), a.global_scale() * static_cast<float>(factor));
  }
}

TEST(Quantize, SingleLevelHasATensorScaleOfOne) {
  EXPECT_EQ(quantize_nvfp4(gauss(4, 16, 5.0), {.two_level = false}).global_scale(), 1.0F);
  EXPECT_NE(quantize_nvfp4(gauss(4, 16, 5.0), {}).global_scale(), 1.0F);
}

TEST(Quantize, AllZeroWeights) {
  const auto w = at::zeros({3, 32});
  for (const auto& q :
       {quantize_nvfp4(w, {}), quantize_nvfp4(w, {.two_level = false}), quantize_nf4(w)}) {
    EXPECT_TRUE(at::equal(q.dequantize(), w)) << weight_format_name(q.format());
    EXPECT_EQ(relative_rms_error(q, w), 0.0);
  }
}

TEST(Quantize, RefusesWhatIsNotFinite) {
  for (const double bad :
       {std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
        std::numeric_limits<double>::quiet_NaN()}) {
    auto w = gauss(300, 512, 1.0);
    w[299][511] = bad;
    EXPECT_THAT(refusal([&] { (void)quantize_nvfp4(w, {}); }), testing::HasSubstr("finite"));
    EXPECT_THAT(refusal([&] { (void)quantize_nf4(w); }), testing::HasSubstr("finite"));
  }
}

TEST(Quantize, RefusesShapesAndTypes) {
  EXPECT_THAT(refusal([] {
                (void)quantize_nvfp4(at::ones({2, 24}), {});
              }),
              testing::HasSubstr("multiple of 16 columns, got [2, 24]"));
  EXPECT_THAT(refusal([] {
                (void)quantize_nf4(at::ones({3, 5}));
              }),
              testing::HasSubstr("even number of elements, got [3, 5]"));
  EXPECT_THAT(refusal([] { (void)quantize_nvfp4(at::ones({16}), {}); }),
              testing::HasSubstr("[16]"));
  EXPECT_THAT(refusal([] {
                (void)quantize_nvfp4(at::ones({0, 16}), {});
              }),
              testing::HasSubstr("[0, 16]"));
  EXPECT_THAT(refusal([] {
                (void)quantize_nf4(at::ones({2, 16}, at::kDouble));
              }),
              testing::HasSubstr("f32"));
}

TEST(RelativeRmsError, IsTheQuotientOfNorms) {
  const auto w = gauss(1500, 32, 1.0);
  const auto q = quantize_nf4(w);
  const auto d = w.to(at::kDouble);
  const double expected = ((q.dequantize().to(at::kDouble) - d).norm() / d.norm()).item<double>();
  EXPECT_NEAR(relative_rms_error(q, w), expected, 1e-12);
  EXPECT_THAT(refusal([&] {
                (void)relative_rms_error(q, at::ones({32, 1500}));
              }),
              testing::HasSubstr("[1500, 32]"));
}

}  // namespace
}  // namespace qf
