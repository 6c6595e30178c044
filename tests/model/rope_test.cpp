#include "qwen3fp4/model/rope.h"

#include <gtest/gtest.h>

#include "golden.h"
#include "qwen3fp4/base/error.h"

namespace qf {
namespace {

TEST(Rope, InverseFrequenciesAreTransformersBits) {
  for (const std::string& name : golden_models()) {
    const Golden golden = read_golden(name);
    EXPECT_TRUE(at::equal(rope_inverse_frequencies(golden.config), golden.inv_freq))
        << name << ": " << rope_inverse_frequencies(golden.config) - golden.inv_freq;
    EXPECT_FLOAT_EQ(static_cast<float>(golden.config.rope.attention_factor),
                    static_cast<float>(golden.attention_factor))
        << name;
  }
}

TEST(Rope, TablesOfALaterStartAreTheTailOfTheWhole) {
  const ModelConfig config = read_golden("qwen3_yarn").config;
  const auto frequencies = rope_inverse_frequencies(config);
  const auto [cos, sin] = rope_tables(config, frequencies, 0, 9);
  const auto [cos_tail, sin_tail] = rope_tables(config, frequencies, 6, 3);
  EXPECT_TRUE(at::equal(cos.narrow(0, 6, 3), cos_tail));
  EXPECT_TRUE(at::equal(sin.narrow(0, 6, 3), sin_tail));
  EXPECT_FLOAT_EQ(cos[0][0].item<float>(), static_cast<float>(0.1 * std::log(4.0) + 1));
}

TEST(Rope, ATableGrowsIntoTheSameBits) {
  const ModelConfig config = read_golden("qwen3_yarn").config;
  const auto [cos, sin] = rope_tables(config, rope_inverse_frequencies(config), 0, 40);
  RopeTable table(config, at::kCPU);
  for (const auto& [first, count] : {std::pair{5, 3}, {0, 1}, {8, 1}, {9, 31}, {2, 7}}) {
    const auto [cos_rows, sin_rows] = table.rows(first, count);
    EXPECT_TRUE(at::equal(cos_rows, cos.narrow(0, first, count))) << first;
    EXPECT_TRUE(at::equal(sin_rows, sin.narrow(0, first, count))) << first;
  }
}

TEST(Rope, AnglesThatAreNotFiniteAreRefused) {
  ModelConfig config = read_golden("qwen3_yarn").config;
  config.rope.factor = 1e-300;
  EXPECT_THROW((void)rope_inverse_frequencies(config), Error);
  config = read_golden("qwen3_tied_gqa4").config;
  config.rope.theta = 1e-300;
  EXPECT_THROW((void)rope_inverse_frequencies(config), Error);
}

}  // namespace
}  // namespace qf
