#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "qwen3fp4/kernels/cpu/sample.h"

// Random logits, sets and rules for the tests of sampling on both devices. C++17.
namespace qf {

struct SampleCase {
  std::vector<float> logits;
  std::vector<std::uint32_t> allowed, repeated;
  SampleRule rule{};
  SampleLogits view() const {
    return {logits.data(), static_cast<std::int64_t>(logits.size()), allowed.data(),
            repeated.data()};
  }
};

// Half of the cases hold many equal logits (and 0 beside -0), where the order of ids decides.
inline SampleCase random_sample_case(std::mt19937& random, std::int64_t vocab) {
  const auto pick = [&](std::initializer_list<double> values) {
    return *(values.begin() + random() % values.size());
  };
  SampleCase c;
  const bool ties = random() % 2 == 0;
  std::normal_distribution<float> normal(0, static_cast<float>(pick({0.1, 2, 8})));
  for (std::int64_t i = 0; i < vocab; ++i) {
    const float logit = normal(random);
    c.logits.push_back(ties ? static_cast<float>(static_cast<int>(logit)) * (i % 2 == 0 ? 1 : -1)
                            : logit);
  }
  const bool allow_all = random() % 3 == 0;
  for (std::int64_t i = 0; i < id_set_words(vocab); ++i) {
    c.allowed.push_back(allow_all ? 0xFFFFFFFFU : static_cast<std::uint32_t>(random()));
    c.repeated.push_back(static_cast<std::uint32_t>(random() & random() & random()));
  }
  c.allowed[0] |= 1U;
  c.rule.temperature = pick({0, 0.3, 0.7, 1, 1, 3, 1e-30});
  c.rule.top_k = static_cast<std::int64_t>(pick({0, 0, 1, 2, 20, 1000, 1e6}));
  c.rule.top_p = pick({1, 1, 0, 0.5, 0.8, 0.95, 0.999999});
  c.rule.min_p = pick({0, 0, 0.05, 0.5, 1});
  c.rule.repetition_penalty = static_cast<float>(pick({1, 1.1, 0.8, 100}));
  return c;
}

}  // namespace qf
