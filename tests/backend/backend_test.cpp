#include "qwen3fp4/backend/backend.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "qwen3fp4/backend/cuda.h"
#include "qwen3fp4/backend/hosted.h"
#include "qwen3fp4/base/error.h"

namespace qf {
namespace {

constexpr double kEps = std::numeric_limits<float>::epsilon();

TEST(MakeBackend, KnowsEveryNameThatItLists) {
  for (const auto name : backend_names()) {
    const auto backend = make_backend(name);
    EXPECT_EQ(backend->name(), name);
    EXPECT_THAT(backend->description(), testing::StartsWith(std::string(name) + ": "));
  }
  EXPECT_THAT(backend_names(), testing::Contains("reference"));
  EXPECT_THAT(backend_names(), testing::Contains(default_backend_name()));
}

TEST(MakeBackend, RefusesAnUnknownNameWithTheListOfNames) {
  try {
    static_cast<void>(make_backend("Reference"));
    FAIL() << "took 'Reference'";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    EXPECT_THAT(error.what(), testing::HasSubstr("'Reference'"));
    for (const auto name : backend_names()) {
      EXPECT_THAT(error.what(), testing::HasSubstr(std::string(name)));
    }
    EXPECT_THAT(error.what(), testing::HasSubstr("--backend"));
  }
}

TEST(MakeBackend, SaysWhyThereIsNoCuda) {
  const bool listed = std::ranges::find(backend_names(), "cuda") != backend_names().end();
  ASSERT_EQ(listed, no_cuda_reason().empty());
  if (listed) return;
  try {
    static_cast<void>(make_backend("cuda"));
    FAIL() << "took 'cuda'";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    EXPECT_THAT(error.what(), testing::HasSubstr(no_cuda_reason()));
  }
}

TEST(HostedBackend, GivesWhatTheBackendItCarriesGives) {
  const auto cpu = make_backend("cpu");
  const HostedBackend hosted(make_backend("cpu"));
  const auto weight = WeightMatrix::dense(at::randn({12, 8}));
  const auto x = at::randn({3, 8});
  const auto y = at::randn({3, 8});
  const auto ids = at::tensor({4, 0, 11}, at::kLong);
  EXPECT_TRUE(at::equal(hosted.embed(ids, weight), cpu->embed(ids, weight)));
  EXPECT_TRUE(at::equal(hosted.linear(x, weight), cpu->linear(x, weight)));
  EXPECT_TRUE(at::equal(hosted.rms_norm(x, y[0], 1e-6), cpu->rms_norm(x, y[0], 1e-6)));
  EXPECT_TRUE(at::equal(hosted.swiglu(x, y), cpu->swiglu(x, y)));
  EXPECT_TRUE(at::equal(hosted.add(x, y), cpu->add(x, y)));
  const auto q = at::randn({3, 4, 8});
  const auto k = at::randn({5, 2, 8});
  const auto v = at::randn({5, 2, 8});
  EXPECT_TRUE(at::equal(hosted.attention(q, k, v), cpu->attention(q, k, v)));
  EXPECT_TRUE(at::equal(hosted.apply_rope(q, x, y), cpu->apply_rope(q, x, y)));
}

class OperationsTest : public testing::TestWithParam<std::string_view> {
 protected:
  std::unique_ptr<Backend> backend_ = make_backend(GetParam());
};
INSTANTIATE_TEST_SUITE_P(Backends, OperationsTest, testing::ValuesIn(backend_names()),
                         [](const auto& instance) { return std::string(instance.param); });

TEST_P(OperationsTest, RmsNormIsItsDefinition) {
  const auto x = at::randn({3, 4, 40}) * 7;
  const auto weight = at::randn({40});
  const auto exact = x.to(at::kDouble);
  const auto expected =
      exact / (exact.square().mean(-1, true) + 1e-6).sqrt() * weight.to(at::kDouble);
  const auto error = (backend_->rms_norm(x, weight, 1e-6).to(at::kDouble) - expected).abs();
  // The mean of n squares errs by n * eps at most, its root by half; four roundings follow.
  EXPECT_TRUE((error <= expected.abs() * ((40.0 / 2 + 4) * kEps)).all().item<bool>());
}

TEST_P(OperationsTest, RmsNormOfZerosIsZeroBecauseOfEps) {
  const auto y = backend_->rms_norm(at::zeros({2, 8}), at::ones({8}), 1e-6);
  EXPECT_TRUE(at::equal(y, at::zeros({2, 8})));
  // With eps as large as the mean square, the norm is 1 / sqrt(2).
  const auto half = backend_->rms_norm(at::ones({1, 8}), at::ones({8}), 1.0);
  EXPECT_NEAR(half[0][0].item<double>(), 0.70710678118654752, 4 * kEps);
}

TEST_P(OperationsTest, RopeTurnsFeatureIWithFeatureIPlusHalf) {
  // 90 degrees, for token 1 only: (a, b) becomes (-b, a).
  const auto cos_TE = at::tensor({1.0F, 1.0F, 1.0F, 1.0F, 0.0F, 0.0F, 0.0F, 0.0F}).view({2, 4});
  const auto x_THE = at::arange(1, 17, at::kFloat).view({2, 2, 4});
  const auto expected = at::tensor({1.0F, 2.0F, 3.0F, 4.0F, 5.0F, 6.0F, 7.0F, 8.0F,  //
                                    -11.0F, -12.0F, 9.0F, 10.0F, -15.0F, -16.0F, 13.0F, 14.0F});
  EXPECT_TRUE(at::equal(backend_->apply_rope(x_THE, cos_TE, 1 - cos_TE), expected.view({2, 2, 4})));
}

// Long prompts are cut by tokens. Vectorised exp may round the last lanes of a piece otherwise.
TEST_P(OperationsTest, ManyTokensGiveWhatTheReferenceGives) {
  const auto reference = make_backend("reference");
  const auto expect_close = [](const at::Tensor& got, const at::Tensor& expected) {
    EXPECT_EQ(got.sizes(), expected.sizes());
    EXPECT_TRUE(((got - expected).abs() <= expected.abs() * (4 * kEps)).all().item<bool>());
  };
  for (const std::int64_t tokens : {0, 1, 16, 17, 33, 100}) {
    const auto x_THE = at::randn({tokens, 3, 10});
    const auto weight = at::randn({10});
    const auto angles_TE = at::randn({tokens, 10});
    const auto cos_TE = angles_TE.cos();
    const auto sin_TE = angles_TE.sin();
    expect_close(backend_->rms_norm(x_THE, weight, 1e-6), reference->rms_norm(x_THE, weight, 1e-6));
    expect_close(backend_->apply_rope(x_THE, cos_TE, sin_TE),
                 reference->apply_rope(x_THE, cos_TE, sin_TE));
    const auto gate = at::randn({tokens, 37});
    const auto up = at::randn({tokens, 37});
    expect_close(backend_->swiglu(gate, up), reference->swiglu(gate, up));
  }
}

TEST_P(OperationsTest, SwigluIsSiluOfGateTimesUp) {
  const auto gate = at::randn({3, 50}) * 8;
  const auto up = at::randn({3, 50});
  const auto g = gate.to(at::kDouble);
  const auto expected = g / (1 + (-g).exp()) * up.to(at::kDouble);
  const auto error = (backend_->swiglu(gate, up).to(at::kDouble) - expected).abs();
  // Rounding x before exp(x) is the largest part: |x| eps; a handful of roundings besides.
  EXPECT_TRUE((error <= expected.abs() * (g.abs() + 8) * kEps).all().item<bool>());
}

}  // namespace
}  // namespace qf
