#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "qwen3fp4/kernels/cpu/sample.h"

namespace qf {

struct SamplingOptions {
  double temperature = 0;         // 0: greedy
  std::int64_t top_k = 0;         // 0: off
  double top_p = 1;               // 1: off
  double min_p = 0;               // 0: off
  double repetition_penalty = 1;  // 1: off; over prompt and answer, as transformers does
  std::uint64_t seed = 0;
};

// One token that may be drawn, with its share of the draw.
struct Candidate {
  std::int64_t id;
  double probability;
};

// Picks the next token by kernels/sample.h. Ids whose `allowed` entry is false are never picked.
// The same seed and logits give the same tokens, with every compiler, library and device; a step
// with one candidate takes no draw.
class Sampler {
 public:
  // Throws (exit code 2) for options out of range, when no id is allowed, and for more than
  // kSampleMaxVocab ids.
  Sampler(const SamplingOptions& options, const std::vector<bool>& allowed);
  // `logits` f32 [vocab]; `history`: ids the repetition penalty looks at. Throws when a logit is
  // not finite.
  [[nodiscard]] std::int64_t sample(std::span<const float> logits,
                                    std::span<const std::int64_t> history);
  // What sample() would draw from, in the order of ids: the tokens that survive, probabilities
  // summing to 1 (greedy: one token). Valid until the next call.
  [[nodiscard]] std::span<const Candidate> distribution(std::span<const float> logits,
                                                        std::span<const std::int64_t> history);

  [[nodiscard]] SampleRule rule() const;
  // The next `count` draws, for a device that samples by itself; skip_draws() tells how many of
  // them it took.
  [[nodiscard]] std::vector<double> next_draws(std::int64_t count) const;
  // As if it were made anew with this seed.
  void reseed(std::uint64_t seed) { random_.seed(seed); }
  void skip_draws(std::int64_t count) { random_.discard(static_cast<std::uint64_t>(count)); }

 private:
  [[nodiscard]] std::span<const WeightedToken> survivors(std::span<const float> logits,
                                                         std::span<const std::int64_t> history);

  SamplingOptions options_;
  std::int64_t vocab_;
  std::vector<std::uint32_t> allowed_;  // a set of ids
  std::mt19937_64 random_;
  // Scratch, kept so that a token allocates nothing.
  std::vector<std::uint32_t> repeated_;
  std::vector<WeightedToken> tokens_;
  std::vector<Candidate> candidates_;
};

}  // namespace qf
