#pragma once

#include <cuda_runtime_api.h>

#include "qwen3fp4/kernels/sample.h"

// Choosing a token on the device, so that the next step can start before the host has read it: the
// choice of kernels/cpu/sample.h for the same logits and draw, in every run. 2 launches for a
// greedy choice, 4 for a draw, 3 more each for top-k and top-p.
namespace qf::cuda {

// What a step leaves on the device. The caller zeroes it before the first one.
struct SampleState {
  std::uint32_t token;
  SampleStatus status;      // once it is not kChosen, steps leave the state as it is
  std::int64_t draws_used;  // a step with one candidate takes no draw
};

struct SampleStep {
  const float* logits;           // device [vocab]
  std::int64_t vocab;            // 1 .. kSampleMaxVocab
  const std::uint32_t* allowed;  // device: set of ids [id_set_words(vocab)]; nullptr: all
  std::uint32_t* repeated;       // device: set of ids the penalty applies to, the chosen token is
                                 // added; nullptr: none
  const double* draws;           // device [draws_made]: draw_from_bits() of the generator's numbers
  std::int64_t draws_made;       // draws[i] is draw number i since the state was zeroed
  SampleState* state;            // device
  SampleState* host_state;  // pinned host memory that a copy of the state goes to; nullptr: none
  void* workspace;          // device, sample_workspace_bytes(vocab), aligned to 16; need not be
                            // kept or zeroed between steps
};

[[nodiscard]] std::int64_t sample_workspace_bytes(std::int64_t vocab);

// Refuses (cudaErrorInvalidValue) a vocab or a rule out of range, and a workspace that is not
// aligned.
[[nodiscard]] cudaError_t sample_token(const SampleRule& rule, const SampleStep& step,
                                       cudaStream_t stream);

}  // namespace qf::cuda
