#include "qwen3fp4/run/perplexity.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <limits>
#include <map>
#include <random>
#include <vector>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/interrupt.h"
#include "tiny_model.h"

namespace qf {
namespace {

using test::LoadedTiny;
using test::TinyModel;
using ::testing::HasSubstr;
using Ids = std::vector<std::int64_t>;

Ids random_ids(std::size_t count) {
  std::mt19937 random(3);
  Ids ids(count);
  for (auto& id : ids) id = static_cast<std::int64_t>(random() % 256);
  return ids;
}

TinyModel uniform() {
  TinyModel tiny;
  tiny.script = std::map<std::int64_t, std::int64_t>{};
  return tiny;
}

// log softmax of row `row`, by its definition.
std::vector<double> log_probabilities(const at::Tensor& logits, std::int64_t row) {
  const auto* first = logits.const_data_ptr<float>() + row * logits.size(1);
  std::vector<double> values(first, first + logits.size(1));
  double sum = 0;
  for (const double value : values) sum += std::exp(value);
  for (double& value : values) value -= std::log(sum);
  return values;
}

struct Oracle {
  double negative_log_likelihood = 0;
  std::int64_t tokens = 0;
  std::vector<double> kl;
  double same = 0;
  double bound = 0;  // of a log-probability's error
};

Oracle score_by_definition(const Qwen3Model& model, const Qwen3Model& teacher, const Ids& ids,
                           std::int64_t context) {
  Oracle oracle;
  const auto total = static_cast<std::int64_t>(ids.size());
  for (std::int64_t first = 0; first < total; first += context) {
    const auto count = std::min(context, total - first);
    const auto window =
        std::span(ids).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
    KvCache cache(model.config(), count);
    KvCache teacher_cache(teacher.config(), count);
    const auto logits = model.logits(model.forward(window, cache));
    const auto teacher_logits = teacher.logits(teacher.forward(window, teacher_cache));
    // f32 dot products of hidden_size terms, in another order when rows come in chunks.
    const double largest =
        std::max(logits.abs().max().item<double>(), teacher_logits.abs().max().item<double>());
    oracle.bound =
        std::max(oracle.bound, 4 * 128 * largest * std::numeric_limits<float>::epsilon());
    for (std::int64_t row = 0; row + 1 < count; ++row) {
      const auto p = log_probabilities(logits, row);
      const auto t = log_probabilities(teacher_logits, row);
      oracle.negative_log_likelihood -=
          p[static_cast<std::size_t>(window[static_cast<std::size_t>(row + 1)])];
      double kl = 0;
      for (std::size_t i = 0; i < p.size(); ++i) kl += std::exp(t[i]) * (t[i] - p[i]);
      oracle.kl.push_back(kl);
      oracle.same += std::max_element(p.begin(), p.end()) - p.begin() ==
                             std::max_element(t.begin(), t.end()) - t.begin()
                         ? 1
                         : 0;
      ++oracle.tokens;
    }
  }
  std::sort(oracle.kl.begin(), oracle.kl.end());
  return oracle;
}

TEST(Perplexity, EqualsTheDefinition) {
  const LoadedTiny model(TinyModel{.seed = 1});
  const LoadedTiny teacher(TinyModel{.seed = 2});
  // Windows of 100 are more than one chunk of rows; the last one is short.
  for (const std::int64_t context : {100, 16}) {
    const auto ids = random_ids(150);
    const auto expected = score_by_definition(model.model(), teacher.model(), ids, context);
    const auto result =
        measure_perplexity(model.model(), &teacher.model(), ids, {.context = context});
    EXPECT_EQ(result.tokens, expected.tokens);
    EXPECT_NEAR(std::log(result.perplexity),
                expected.negative_log_likelihood / static_cast<double>(expected.tokens),
                expected.bound);
    ASSERT_TRUE(result.kl && result.top1);
    const auto count = expected.kl.size();
    double mean = 0;
    for (const double kl : expected.kl) mean += kl / static_cast<double>(count);
    EXPECT_NEAR(result.kl->mean, mean, 2 * expected.bound);
    EXPECT_NEAR(result.kl->median, expected.kl[(count + 1) / 2 - 1], 2 * expected.bound);
    const auto p99 = static_cast<std::size_t>(std::ceil(0.99 * static_cast<double>(count)));
    EXPECT_NEAR(result.kl->p99, expected.kl[p99 - 1], 2 * expected.bound);
    EXPECT_NEAR(result.kl->max, expected.kl.back(), 2 * expected.bound);
    EXPECT_EQ(*result.top1, expected.same / static_cast<double>(expected.tokens));
    EXPECT_GT(mean, 0.1);  // the two models do differ
  }
}

TEST(Perplexity, OfAUniformModelIsTheVocabularySize) {
  const LoadedTiny model(uniform());
  const auto result = measure_perplexity(model.model(), nullptr, random_ids(50), {.context = 20});
  EXPECT_NEAR(result.perplexity, static_cast<double>(test::kTinyVocab), 1e-9);
  EXPECT_FALSE(result.kl || result.top1);
}

TEST(Perplexity, AModelAgreesWithItself) {
  const LoadedTiny model(TinyModel{});
  const auto result =
      measure_perplexity(model.model(), &model.model(), random_ids(30), {.context = 16});
  EXPECT_EQ(result.kl->max, 0);
  EXPECT_EQ(*result.top1, 1);
}

TEST(Perplexity, ANarrowCacheIsTheModelsAlone) {
  const LoadedTiny model(TinyModel{});
  const auto ids = random_ids(60);
  const auto kl_of = [&](KvCacheType type) {
    return measure_perplexity(model.model(), &model.model(), ids, {.context = 30, .kv_cache = type})
        .kl->mean;
  };
  EXPECT_EQ(kl_of(KvCacheType::kF32), 0);
  // The teacher's keys and values are not rounded: the more the model's are, the further apart.
  EXPECT_GT(kl_of(KvCacheType::kF16), 0);
  EXPECT_GT(kl_of(KvCacheType::kBF16), kl_of(KvCacheType::kF16));
  EXPECT_GT(kl_of(KvCacheType::kFp8), kl_of(KvCacheType::kBF16));
  EXPECT_LT(kl_of(KvCacheType::kFp8), 1e-2);
}

TEST(Perplexity, DoesNotScoreTheFirstTokenOfAWindow) {
  const LoadedTiny model(uniform());
  const auto tokens = [&](std::size_t count, const PerplexityOptions& options) {
    return measure_perplexity(model.model(), nullptr, random_ids(count), options).tokens;
  };
  EXPECT_EQ(tokens(33, {.context = 16}), 30);  // 15 + 15, and a window of one token
  EXPECT_EQ(tokens(34, {.context = 16}), 31);
  EXPECT_EQ(tokens(34, {.context = 16, .max_tokens = 10}), 9);
  EXPECT_EQ(tokens(10, {.context = 512}), 9);
}

TEST(Perplexity, RefusesWhatItCannotScore) {
  const LoadedTiny model(TinyModel{});
  TinyModel other;
  other.vocab_size = test::kTinyVocab + 16;
  const LoadedTiny teacher(other);
  const auto code = [&](const Qwen3Model* against, const Ids& ids, std::int64_t context) {
    try {
      (void)measure_perplexity(model.model(), against, ids, {.context = context});
    } catch (const Error& error) {
      return error.code();
    }
    return ExitCode::kDone;
  };
  EXPECT_EQ(code(nullptr, random_ids(8), 16), ExitCode::kDone);
  EXPECT_EQ(code(nullptr, {5}, 16), ExitCode::kUsage);
  EXPECT_EQ(code(nullptr, random_ids(8), 1), ExitCode::kUsage);
  EXPECT_EQ(code(nullptr, random_ids(8), 100000), ExitCode::kUsage);
  EXPECT_EQ(code(nullptr, {5, test::kTinyVocab}, 16), ExitCode::kUnreadable);
  EXPECT_EQ(code(&teacher.model(), random_ids(8), 16), ExitCode::kUnreadable);
}

TEST(Perplexity, NamesTheModuleOfNonFiniteValues) {
  TinyModel broken;
  broken.nan_scale_in = "model.layers.1.mlp.up_proj.weight";
  const LoadedTiny bad(broken);
  const LoadedTiny good(TinyModel{});
  for (const bool teacher : {false, true}) {
    try {
      (void)measure_perplexity(teacher ? good.model() : bad.model(),
                               teacher ? &bad.model() : nullptr, random_ids(20), {.context = 10});
      FAIL() << "NaN went unnoticed";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kNonFinite);
      EXPECT_THAT(error.what(), HasSubstr("model.layers.1.mlp.up_proj "));
      EXPECT_THAT(error.what(), HasSubstr(teacher ? "teacher" : "model:"));
    }
  }
}

TEST(Perplexity, StopsWhenInterrupted) {
  const LoadedTiny model(uniform());
  const InterruptGuard guard;
  std::int64_t windows = 0;
  try {
    (void)measure_perplexity(model.model(), nullptr, random_ids(100), {.context = 10},
                             [&](std::int64_t, std::int64_t) {
                               if (++windows == 2) std::raise(SIGINT);
                             });
    FAIL() << "the interrupt was ignored";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInterrupted);
  }
  EXPECT_EQ(windows, 2);
}

}  // namespace
}  // namespace qf
