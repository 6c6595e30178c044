#pragma once

#include <cstdint>

#include "qwen3fp4/kernels/sample.h"

// Choosing a token from logits on the CPU: the reference of kernels/cuda/sample.h.
namespace qf {

struct SampleLogits {
  const float* logits;            // [vocab]
  std::int64_t vocab;             // 1 .. kSampleMaxVocab
  const std::uint32_t* allowed;   // set of ids [id_set_words(vocab)]; nullptr: all
  const std::uint32_t* repeated;  // set of ids the penalty applies to; nullptr: none
};

// A token that may be drawn, as often as its share of the sum of weights.
struct WeightedToken {
  std::uint32_t key;  // sample_key() of the penalised logit
  std::int32_t id;
  std::uint64_t weight;
};

struct Survivors {
  SampleStatus status;
  std::int64_t count;  // 0 unless the status is kChosen
};
// The tokens that the rule leaves, in the order of ids, to `tokens` (room for vocab of them).
[[nodiscard]] Survivors surviving_tokens(const SampleRule& rule, const SampleLogits& in,
                                         WeightedToken* tokens);

// The id that a draw in [0, 1) means. count > 0.
[[nodiscard]] std::int64_t drawn_token(const WeightedToken* tokens, std::int64_t count,
                                       double draw);

}  // namespace qf
