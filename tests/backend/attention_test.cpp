// Shapes in this file: T new tokens, S cached tokens, H query heads, K key/value heads, E head_dim.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>

#include "qwen3fp4/backend/backend.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/quant/parallel.h"

namespace qf {
namespace {

struct Shape {
  std::int64_t tokens, cached, heads, kv_heads, head_dim;
};

struct Input {
  at::Tensor q_THE, k_SKE, v_SKE;
};

Input random_input(const Shape& shape) {
  return {at::randn({shape.tokens, shape.heads, shape.head_dim}) * 2,
          at::randn({shape.cached, shape.kv_heads, shape.head_dim}) * 2,
          at::randn({shape.cached, shape.kv_heads, shape.head_dim})};
}

// The definition, in double, for one query head of one token; and how far fp32 may be from it.
void expect_head(const Input& in, const at::Tensor& y_THE, std::int64_t token, std::int64_t head) {
  constexpr double kEps = std::numeric_limits<float>::epsilon();
  const std::int64_t width = in.q_THE.size(2);
  const std::int64_t visible = in.k_SKE.size(0) - in.q_THE.size(0) + token + 1;
  const std::int64_t kv_head = head / (in.q_THE.size(1) / in.k_SKE.size(1));
  const auto q_E = in.q_THE[token][head].to(at::kDouble) / std::sqrt(static_cast<double>(width));
  const auto k_SE = in.k_SKE.select(1, kv_head).narrow(0, 0, visible).to(at::kDouble);
  const auto v_SE = in.v_SKE.select(1, kv_head).narrow(0, 0, visible).to(at::kDouble);
  const auto p_S = at::softmax(at::mv(k_SE, q_E), 0);
  const auto expected = at::mv(v_SE.t(), p_S);
  // A score errs by d = (E + 2) eps sum |q k|, so its exponential by a factor of exp(d), the
  // quotient by twice that; sums over S positions add S eps each.
  const double d =
      at::mv(k_SE.abs(), q_E.abs()).max().item<double>() * static_cast<double>(width + 2) * kEps;
  const auto bound =
      at::mv(v_SE.abs().t(), p_S) * (2 * d + static_cast<double>(2 * visible + 16) * kEps);
  const auto error = (y_THE[token][head].to(at::kDouble) - expected).abs();
  EXPECT_TRUE((error <= bound).all().item<bool>())
      << "token " << token << ", head " << head << ": largest error is "
      << (error / bound).max().item<double>() << " of the bound";
}

class AttentionTest : public testing::TestWithParam<std::string_view> {
 protected:
  ~AttentionTest() override { set_parallel_threads(threads_); }
  std::unique_ptr<Backend> backend_ = make_backend(GetParam());

 private:
  int threads_ = parallel_threads();
};
INSTANTIATE_TEST_SUITE_P(Backends, AttentionTest, testing::ValuesIn(backend_names()),
                         [](const auto& instance) { return std::string(instance.param); });

TEST_P(AttentionTest, IsItsDefinition) {
  const Shape shapes[] = {{1, 1, 1, 1, 8},  {1, 37, 6, 2, 16}, {5, 5, 4, 4, 8},
                          {3, 20, 8, 2, 8}, {7, 9, 3, 1, 10},  {130, 140, 2, 1, 8}};
  for (const auto& shape : shapes) {
    const auto in = random_input(shape);
    const auto y_THE = backend_->attention(in.q_THE, in.k_SKE, in.v_SKE);
    ASSERT_EQ(y_THE.sizes(), in.q_THE.sizes());
    for (std::int64_t t = 0; t < shape.tokens; ++t) {
      for (std::int64_t h = 0; h < shape.heads; ++h) expect_head(in, y_THE, t, h);
    }
  }
}

TEST_P(AttentionTest, TheFutureChangesNoBit) {
  const auto in = random_input({130, 135, 4, 2, 8});
  const auto before = backend_->attention(in.q_THE, in.k_SKE, in.v_SKE);
  for (const std::int64_t token : {0, 60, 126, 127, 128}) {
    const auto k_SKE = in.k_SKE.clone();
    const auto v_SKE = in.v_SKE.clone();
    const std::int64_t first_unseen = 135 - 130 + token + 1;
    k_SKE.narrow(0, first_unseen, 135 - first_unseen).fill_(1e30);
    v_SKE.narrow(0, first_unseen, 135 - first_unseen).fill_(1e30);
    const auto after = backend_->attention(in.q_THE, k_SKE, v_SKE);
    EXPECT_TRUE(at::equal(after.narrow(0, 0, token + 1), before.narrow(0, 0, token + 1))) << token;
    EXPECT_FALSE(at::equal(after[token + 1], before[token + 1])) << token;
  }
}

TEST_P(AttentionTest, LargeScoresDoNotOverflow) {
  const auto q_THE = at::full({1, 1, 4}, 1e4);
  const auto k_SKE = at::tensor({1e4F, -1e4F}).view({2, 1, 1}).expand({2, 1, 4});
  const auto v_SKE = at::tensor({3.0F, 5.0F}).view({2, 1, 1}).expand({2, 1, 4});
  EXPECT_TRUE(at::equal(backend_->attention(q_THE, k_SKE, v_SKE), at::full({1, 1, 4}, 3.0)));
}

TEST_P(AttentionTest, TheNumberOfThreadsChangesNoBit) {
  const auto in = random_input({140, 300, 8, 4, 32});
  set_parallel_threads(1);
  const auto alone = backend_->attention(in.q_THE, in.k_SKE, in.v_SKE);
  for (const int threads : {2, 3}) {
    set_parallel_threads(threads);
    EXPECT_TRUE(at::equal(backend_->attention(in.q_THE, in.k_SKE, in.v_SKE), alone)) << threads;
  }
}

TEST_P(AttentionTest, WorksInInferenceModeAndOnViewsOfALargerCache) {
  const auto in = random_input({3, 12, 4, 2, 8});
  const auto expected = backend_->attention(in.q_THE, in.k_SKE, in.v_SKE);
  const c10::InferenceMode inference;
  const auto cache = at::cat({in.k_SKE, at::full({20, 2, 8}, 9.0)});
  const auto k_SKE = cache.narrow(0, 0, 12);
  EXPECT_TRUE(at::equal(backend_->attention(in.q_THE + 0, k_SKE, in.v_SKE), expected));
}

TEST_P(AttentionTest, RefusesShapesThatDoNotFit) {
  const auto refuses = [&](const Shape& q, const Shape& kv) {
    const auto a = random_input(q);
    const auto b = random_input(kv);
    EXPECT_THROW(static_cast<void>(backend_->attention(a.q_THE, b.k_SKE, b.v_SKE)), Error);
  };
  refuses({4, 4, 4, 2, 8}, {3, 3, 4, 2, 8});  // fewer cached than new
  refuses({2, 2, 4, 2, 8}, {2, 2, 4, 3, 8});  // 4 heads over 3
  refuses({2, 2, 4, 2, 8}, {2, 2, 4, 2, 6});  // another head_dim
}

}  // namespace
}  // namespace qf
