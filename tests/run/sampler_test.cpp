#include "qwen3fp4/run/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "qwen3fp4/base/error.h"

namespace qf {
namespace {

std::vector<bool> all(std::size_t count) { return std::vector<bool>(count, true); }

nlohmann::json load_cases() {
  std::ifstream file(QF_TEST_DIR "/golden/run/sampler.json");
  return nlohmann::json::parse(file);
}

SamplingOptions options_of(const nlohmann::json& json) {
  SamplingOptions options{.temperature = 1};
  options.temperature = json.value("temperature", 1.0);
  options.top_k = json.value("top_k", std::int64_t{0});
  options.top_p = json.value("top_p", 1.0);
  options.min_p = json.value("min_p", 0.0);
  options.repetition_penalty = json.value("repetition_penalty", 1.0);
  return options;
}

std::vector<float> logits_of(const nlohmann::json& bits) {
  std::vector<float> logits;
  for (const auto& word : bits) logits.push_back(std::bit_cast<float>(word.get<std::uint32_t>()));
  return logits;
}

TEST(Sampler, DistributionsEqualTransformersProcessors) {
  const auto cases = load_cases();
  ASSERT_GT(cases.size(), 40U);
  for (const auto& item : cases) {
    SCOPED_TRACE(item["name"].get<std::string>() + " " + item["options"].dump());
    const auto logits = logits_of(item["logits_f32_bits"]);
    const auto history = item["history"].get<std::vector<std::int64_t>>();
    const auto options = options_of(item["options"]);
    Sampler sampler(options, all(logits.size()));

    const auto found_span = sampler.distribution(logits, history);
    std::vector<Candidate> found(found_span.begin(), found_span.end());
    std::sort(found.begin(), found.end(),
              [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
    const auto ids = item["ids"].get<std::vector<std::int64_t>>();
    const auto probabilities = item["probabilities"].get<std::vector<double>>();
    ASSERT_EQ(found.size(), ids.size());

    // The fixture is f32: a score s errs by 2 roundings (penalty, temperature), its difference to
    // the best by one more, so exp's argument by 4 eps |s|; the sum of n terms by n eps; expf and
    // the division by 4 eps. Our weights are fixed point in steps of 2^-43 of the best one's.
    double largest = 0;
    for (const float x : logits) largest = std::max(largest, std::abs(static_cast<double>(x)));
    largest *= std::max(options.repetition_penalty, 1 / options.repetition_penalty);
    const double bound = std::numeric_limits<float>::epsilon() *
                         (4 * largest / options.temperature + static_cast<double>(ids.size()) + 4);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      ASSERT_EQ(found[i].id, ids[i]);
      const double steps = 1 + static_cast<double>(ids.size()) * probabilities[i];
      ASSERT_NEAR(found[i].probability, probabilities[i],
                  bound * probabilities[i] + steps * 0x1p-44);
    }
  }
}

TEST(Sampler, GreedyTakesTheLowestOfEqualIds) {
  Sampler sampler({}, all(4));
  EXPECT_EQ(sampler.sample(std::vector<float>{1, 5, 5, 2}, {}), 1);
}

TEST(Sampler, GreedyHonoursTheRepetitionPenalty) {
  Sampler sampler({.repetition_penalty = 2}, all(3));
  const std::vector<std::int64_t> history{0, 0};
  EXPECT_EQ(sampler.sample(std::vector<float>{3, 2, 1}, history), 1);       // 3/2 < 2
  EXPECT_EQ(sampler.sample(std::vector<float>{5, 2, 1}, history), 0);       // once, not 5/4
  EXPECT_EQ(sampler.sample(std::vector<float>{-1, -1.5, -9}, history), 1);  // -1*2 < -1.5
}

TEST(Sampler, NeverPicksAForbiddenId) {
  const std::vector<bool> allowed{false, true, false, true};
  const std::vector<float> logits{9, 1, 8, 1};
  Sampler greedy({}, allowed);
  EXPECT_EQ(greedy.sample(logits, {}), 1);
  Sampler hot({.temperature = 100}, allowed);
  for (int i = 0; i < 200; ++i)
    EXPECT_TRUE(allowed[static_cast<std::size_t>(hot.sample(logits, {}))]);
  // top-k and top-p count allowed tokens only.
  Sampler two({.temperature = 1, .top_k = 2}, allowed);
  EXPECT_EQ(two.distribution(logits, {}).size(), 2U);
}

TEST(Sampler, TinyTopPKeepsTheFirstToken) {
  for (const double top_p : {0.0, 1e-300, 1e-9}) {
    Sampler sampler({.temperature = 1, .top_p = top_p}, all(3));
    const auto kept = sampler.distribution(std::vector<float>{0, 30, 1}, {});
    ASSERT_EQ(kept.size(), 1U);
    EXPECT_EQ(kept[0].id, 1);
    EXPECT_EQ(kept[0].probability, 1.0);
  }
}

TEST(Sampler, ExtremeTemperaturesStayFinite) {
  const std::vector<float> logits{3e38F, -3e38F, 1};
  for (const double temperature : {1e-30, 1e-6, 1e6}) {
    Sampler sampler({.temperature = temperature}, all(3));
    double sum = 0;
    for (const auto& candidate : sampler.distribution(logits, {})) sum += candidate.probability;
    EXPECT_NEAR(sum, 1.0, 1e-12);
    EXPECT_EQ(sampler.sample(logits, {}), 0);
  }
}

TEST(Sampler, DrawsByInverseCdfOfTheSeededGenerator) {
  const std::vector<float> logits{0.5F, 2, -1, 1, 0};
  const SamplingOptions options{.temperature = 0.9, .seed = 42};
  Sampler sampler(options, all(5));
  Sampler again(options, all(5));
  Sampler other({.temperature = 0.9, .seed = 43}, all(5));
  std::mt19937_64 random(42);
  std::vector<std::int64_t> drawn;
  std::vector<std::int64_t> other_drawn;
  for (int i = 0; i < 500; ++i) {
    const double draw = std::ldexp(static_cast<double>(random() >> 11U), -53);
    double total = 0;
    for (const float x : logits) total += std::exp(x / 0.9);
    std::int64_t expected = -1;
    for (double reached = 0; reached <= draw;) {
      reached += std::exp(logits[static_cast<std::size_t>(++expected)] / 0.9) / total;
    }
    drawn.push_back(sampler.sample(logits, {}));
    ASSERT_EQ(drawn.back(), expected) << i;
    ASSERT_EQ(again.sample(logits, {}), expected) << i;
    other_drawn.push_back(other.sample(logits, {}));
  }
  EXPECT_NE(drawn, other_drawn);
}

// A device that takes next_draws() and tells how many leaves the sampler where it would be itself.
TEST(Sampler, HandsItsDrawsToADevice) {
  const std::vector<float> two{0.0F, 0.1F};
  Sampler here({.temperature = 1, .seed = 3}, all(2));
  Sampler there({.temperature = 1, .seed = 3}, all(2));
  const auto draws = there.next_draws(20);
  EXPECT_EQ(there.next_draws(20), draws);
  std::vector<WeightedToken> tokens(2);
  const std::uint32_t both = 3;
  const std::uint32_t none = 0;
  const auto found = surviving_tokens(there.rule(), {two.data(), 2, &both, &none}, tokens.data());
  ASSERT_EQ(found.count, 2);
  for (const double draw : draws) {
    EXPECT_EQ(drawn_token(tokens.data(), 2, draw), here.sample(two, {}));
  }
  there.skip_draws(20);
  EXPECT_EQ(there.next_draws(5), here.next_draws(5));
}

TEST(Sampler, DrawsAsOftenAsTheProbabilitiesSay) {
  const std::vector<float> logits{0, 1, 2, 0.5F};
  Sampler sampler({.temperature = 1, .top_p = 0.95, .seed = 7}, all(4));
  const auto span = sampler.distribution(logits, {});
  const std::vector<Candidate> expected(span.begin(), span.end());
  ASSERT_GT(expected.size(), 2U);
  constexpr int kDraws = 20000;
  std::map<std::int64_t, int> counts;
  for (int i = 0; i < kDraws; ++i) ++counts[sampler.sample(logits, {})];
  for (const auto& candidate : expected) {
    const double p = candidate.probability;
    // 5 standard deviations of a binomial count.
    EXPECT_NEAR(counts[candidate.id], kDraws * p, 5 * std::sqrt(kDraws * p * (1 - p)));
  }
}

TEST(Sampler, RefusesLogitsThatAreNotFinite) {
  Sampler sampler({}, all(3));
  EXPECT_THROW(static_cast<void>(sampler.sample(
                   std::vector<float>{1, std::numeric_limits<float>::infinity(), 0}, {})),
               Error);
}

TEST(Sampler, RefusesOptionsOutOfRange) {
  const auto code = [](const SamplingOptions& options) {
    try {
      Sampler sampler(options, all(3));
    } catch (const Error& error) {
      return error.code();
    }
    return ExitCode::kDone;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(code({}), ExitCode::kDone);
  EXPECT_EQ(code({.temperature = -1}), ExitCode::kUsage);
  EXPECT_EQ(code({.temperature = nan}), ExitCode::kUsage);
  EXPECT_EQ(code({.top_k = -1}), ExitCode::kUsage);
  EXPECT_EQ(code({.top_p = 1.5}), ExitCode::kUsage);
  EXPECT_EQ(code({.min_p = -0.1}), ExitCode::kUsage);
  EXPECT_EQ(code({.repetition_penalty = 0}), ExitCode::kUsage);
  EXPECT_THROW(Sampler({}, {false, false}), Error);
}

}  // namespace
}  // namespace qf
