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

// One token that may be drawn, with its share of the draw.
struct Candidate {
  std::int64_t id;
  double probability;
};

// Picks the next token: penalty, temperature, top-k, top-p, min-p, in transformers' order. Ids
// whose `allowed` entry is false are never picked. The same seed and logits give the same tokens,
// with every compiler and library: the draw is our own inverse CDF over mt19937_64.
class Sampler {
 public:
  // Throws (exit code 2) for options out of range, and when no id is allowed.
  Sampler(const SamplingOptions& options, std::vector<bool> allowed);
  // `logits` f32 [vocab], finite; `history`: ids the repetition penalty looks at.
  [[nodiscard]] std::int64_t sample(std::span<const float> logits,
                                    std::span<const std::int64_t> history);
  // What sample() would draw from: the tokens that survive, probabilities summing to 1 (greedy: one
  // token). Valid until the next call.
  [[nodiscard]] std::span<const Candidate> distribution(std::span<const float> logits,
                                                        std::span<const std::int64_t> history);

 private:
  struct Scored {
    double score;  // after penalty and temperature, less the best token's
    std::int64_t id;
  };
  [[nodiscard]] std::span<const float> penalise(std::span<const float> logits,
                                                std::span<const std::int64_t> history);
  [[nodiscard]] std::int64_t best_id(std::span<const float> scores) const;
  void keep_top_k();
  void keep_top_p();

  SamplingOptions options_;
  std::vector<bool> allowed_;
  std::mt19937_64 random_;
  // Scratch, kept so that a token allocates nothing.
  std::vector<float> scores_;
  std::vector<Scored> kept_;
  std::vector<double> ranking_;
  std::vector<Candidate> candidates_;
};

}  // namespace qf
