#include "qwen3fp4/run/sampling_defaults.h"

#include <gtest/gtest.h>

namespace qf {
namespace {

GenerationConfig qwen3() {
  GenerationConfig config;
  config.do_sample = true;
  config.temperature = 0.7;
  config.top_k = 20;
  config.top_p = 0.8;
  return config;
}

TEST(SamplingDefaults, TakesTheModelsRecommendation) {
  const auto options = resolve_sampling(qwen3(), {.seed = 5});
  EXPECT_EQ(options.temperature, 0.7);
  EXPECT_EQ(options.top_k, 20);
  EXPECT_EQ(options.top_p, 0.8);
  EXPECT_EQ(options.min_p, 0);
  EXPECT_EQ(options.repetition_penalty, 1);
  EXPECT_EQ(options.seed, 5U);
}

TEST(SamplingDefaults, FlagsOverride) {
  EXPECT_EQ(resolve_sampling(qwen3(), {.temperature = 0}).temperature, 0);
  const auto options = resolve_sampling(
      qwen3(),
      {.temperature = 1.5, .top_k = 0, .top_p = 1, .min_p = 0.1, .repetition_penalty = 1.1});
  EXPECT_EQ(options.temperature, 1.5);
  EXPECT_EQ(options.top_k, 0);
  EXPECT_EQ(options.top_p, 1);
  EXPECT_EQ(options.min_p, 0.1);
  EXPECT_EQ(options.repetition_penalty, 1.1);
}

TEST(SamplingDefaults, GreedyWithoutAnyTemperature) {
  EXPECT_EQ(resolve_sampling({}, {}).temperature, 0);
  GenerationConfig config = qwen3();
  config.do_sample = false;
  EXPECT_EQ(resolve_sampling(config, {}).temperature, 0);
  config.do_sample.reset();
  EXPECT_EQ(resolve_sampling(config, {}).temperature, 0.7);
  GenerationConfig bare;
  bare.do_sample = true;
  EXPECT_EQ(resolve_sampling(bare, {}).temperature, 1);
}

TEST(SamplingDefaults, AskingForTopPAsksForSampling) {
  EXPECT_EQ(resolve_sampling({}, {.top_p = 0.9}).temperature, 1);
  EXPECT_EQ(resolve_sampling({}, {.top_k = 5}).temperature, 1);
  EXPECT_EQ(resolve_sampling({}, {.temperature = 0, .min_p = 0.1}).temperature, 0);
}

}  // namespace
}  // namespace qf
