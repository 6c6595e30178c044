#include "qwen3fp4/kernels/cpu/sample.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "sample_cases.h"

namespace qf {
namespace {

std::vector<WeightedToken> survivors(const SampleCase& c) {
  std::vector<WeightedToken> tokens(c.logits.size());
  const auto found = surviving_tokens(c.rule, c.view(), tokens.data());
  EXPECT_EQ(found.status, SampleStatus::kChosen);
  tokens.resize(static_cast<std::size_t>(found.count));
  return tokens;
}

TEST(Sample, FixedExpRoundsTheExponential) {
  std::mt19937 random(1);
  std::uniform_real_distribution<double> scores(-34, 0);
  for (int i = 0; i < 200000; ++i) {
    const double score = i < 1000 ? -i * 1e-6 : scores(random);
    const long double exact = std::exp(static_cast<long double>(score)) * 0x1p43L;
    // Half a step, and 2^-50 of the value.
    ASSERT_NEAR(static_cast<double>(static_cast<long double>(fixed_exp(score)) - exact), 0,
                0.5 + static_cast<double>(exact) * 0x1p-50)
        << score;
  }
  EXPECT_EQ(fixed_exp(-std::numeric_limits<double>::infinity()), 0U);
}

// The definition, on a full sort. Ids of the survivors in their order.
std::vector<std::int64_t> survivors_by_sorting(const SampleCase& c) {
  struct Token {
    float logit;
    std::int64_t id;
    std::uint64_t weight;
  };
  std::vector<Token> all;
  for (std::size_t i = 0; i < c.logits.size(); ++i) {
    const auto id = static_cast<std::int64_t>(i);
    if (!id_in_set(c.allowed.data(), id)) continue;
    const float penalty = id_in_set(c.repeated.data(), id) ? c.rule.repetition_penalty : 1.0F;
    all.push_back({c.logits[i] < 0 ? c.logits[i] * penalty : c.logits[i] / penalty, id, 0});
  }
  std::stable_sort(all.begin(), all.end(),
                   [](const Token& a, const Token& b) { return a.logit > b.logit; });
  if (c.rule.temperature == 0) return {all[0].id};
  const float best = all[0].logit;
  if (c.rule.top_k > 0 && c.rule.top_k < static_cast<std::int64_t>(all.size())) {
    const float last = all[static_cast<std::size_t>(c.rule.top_k) - 1].logit;
    while (all.back().logit < last) all.pop_back();
  }
  std::uint64_t total = 0;
  for (auto& token : all) {
    token.weight = sample_weight(token.logit, best, c.rule.temperature);
    total += token.weight;
  }
  if (c.rule.top_p < 1) {
    std::size_t kept = 1;
    for (std::uint64_t reached = all[0].weight;
         reached <
             static_cast<std::uint64_t>(std::ceil(c.rule.top_p * static_cast<double>(total))) &&
         kept < all.size();
         ++kept) {
      reached += all[kept].weight;
    }
    all.resize(kept);
  }
  std::vector<std::int64_t> ids;
  for (const auto& token : all) {
    if (static_cast<double>(token.weight) >= c.rule.min_p * 0x1p43) ids.push_back(token.id);
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

TEST(Sample, KeepsWhatSortingKeeps) {
  std::mt19937 random(2);
  for (int i = 0; i < 600; ++i) {
    const auto c = random_sample_case(random, 1 + static_cast<std::int64_t>(random() % 700));
    SCOPED_TRACE(testing::Message()
                 << "case " << i << ": t " << c.rule.temperature << ", k " << c.rule.top_k << ", p "
                 << c.rule.top_p << ", min " << c.rule.min_p);
    std::vector<std::int64_t> ids;
    for (const auto& token : survivors(c)) ids.push_back(token.id);
    ASSERT_EQ(ids, survivors_by_sorting(c));
  }
}

TEST(Sample, DrawsByTheInverseOfTheCumulatedWeights) {
  const std::vector<WeightedToken> tokens{{0, 3, 16}, {0, 5, 0}, {0, 8, 48}, {0, 9, 64}};
  const auto drawn = [&](double draw) { return drawn_token(tokens.data(), 4, draw); };
  EXPECT_EQ(drawn(0), 3);
  EXPECT_EQ(drawn(0.1249), 3);
  EXPECT_EQ(drawn(0.125), 8);  // never 5, whose weight is 0
  EXPECT_EQ(drawn(0.4999), 8);
  EXPECT_EQ(drawn(0.5), 9);
  EXPECT_EQ(drawn(0x1.FFFFFFFFFFFFFp-1), 9);
}

TEST(Sample, ReportsLogitsThatAreNotFiniteAndSetsWithoutAToken) {
  SampleCase c{{1, 2, 3}, {7}, {0}, {1, 0, 1, 0, 1}};
  std::vector<WeightedToken> tokens(3);
  const auto status = [&] { return surviving_tokens(c.rule, c.view(), tokens.data()).status; };
  EXPECT_EQ(status(), SampleStatus::kChosen);
  c.allowed = {0};
  EXPECT_EQ(status(), SampleStatus::kNoTokenAllowed);
  c.allowed = {1};
  c.logits[1] = std::numeric_limits<float>::quiet_NaN();  // also where the id is not allowed
  EXPECT_EQ(status(), SampleStatus::kNonFiniteLogits);
}

TEST(Sample, APenaltyThatOverflowsStaysFinite) {
  const float largest = std::numeric_limits<float>::max();
  EXPECT_EQ(penalised_logit(-largest, 2), -largest);
  EXPECT_EQ(penalised_logit(largest, 0.5F), largest);
  const SampleCase c{{-largest, -largest}, {3}, {3}, {1, 0, 1, 0, 100}};
  EXPECT_EQ(survivors(c).size(), 2U);
}

}  // namespace
}  // namespace qf
