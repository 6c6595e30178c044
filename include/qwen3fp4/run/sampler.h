#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace qf {

struct SamplingOptions {
  double temperature = 0;         // 0: greedy
  std::int64_t top_k = 0;         // 0: off
  double top_p = 1;               // 1: off
  double min_p = 0;               // 0: off
  double repetition_penalty = 1;  // 1: off; over prompt and answer, as transformers does
  std::uint64_t seed = 0;
};

// Picks the next token: penalty, temperature, top-k, top-p, min-p, in transformers' order. Ids whose
// `allowed` entry is false are never picked. The same seed and logits give the same tokens.
class Sampler {
 public:
  Sampler(const SamplingOptions& options, std::vector<bool> allowed);
  // `logits` f32 [vocab]; `history`: ids the repetition penalty looks at.
  [[nodiscard]] std::int64_t sample(std::span<const float> logits,
                                    std::span<const std::int64_t> history);

 private:
  SamplingOptions options_;
  std::vector<bool> allowed_;
  std::mt19937_64 random_;
};

}  // namespace qf
