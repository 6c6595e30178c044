#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

// The loss of a chunk of the vocabulary and its gradient, each in one pass over the chunk's logits.
// All pointers are device pointers. Sums have a fixed order. Refused (cudaErrorInvalidValue): no
// logits, missing pointers, and what is beyond a grid.
namespace qf::cuda {

// f32 [rows, cols]: logits of tokens `first` .. first + cols - 1 of the vocabulary.
struct LogitChunk {
  const float* logits;
  std::int64_t rows, cols, first;
};

// logsumexp[row] = log sum_c exp(logits[row, c]); value[row] = the logit of token next[row], or 0
// where it lies in another chunk.
[[nodiscard]] cudaError_t cross_entropy(const LogitChunk& chunk, const std::int64_t* next,
                                        float* logsumexp, float* value, cudaStream_t stream);
// logsumexp as above, of the model and of the teacher, whose logits are [rows, cols] too;
// value[row] = sum_c p(c) (teacher[c] - logits[c]), where p is the teacher's distribution inside
// the chunk.
[[nodiscard]] cudaError_t divergence(const LogitChunk& chunk, const float* teacher,
                                     float* logsumexp, float* teacher_logsumexp, float* value,
                                     cudaStream_t stream);

// Gradients with respect to the logits, [rows, cols] of Out (float or __nv_bfloat16), from
// log-sum-exps over the whole vocabulary: weight (exp(logit - logsumexp[row]) - 1 for the token
// next[row], 0 for others) and, of a teacher, weight (exp(logit - logsumexp[row]) - exp(teacher -
// teacher_logsumexp[row])).
template <class Out>
[[nodiscard]] cudaError_t cross_entropy_gradient(const LogitChunk& chunk, const std::int64_t* next,
                                                 const float* logsumexp, float weight, Out* out,
                                                 cudaStream_t stream);
template <class Out>
[[nodiscard]] cudaError_t divergence_gradient(const LogitChunk& chunk, const float* teacher,
                                              const float* logsumexp,
                                              const float* teacher_logsumexp, float weight,
                                              Out* out, cudaStream_t stream);

}  // namespace qf::cuda
