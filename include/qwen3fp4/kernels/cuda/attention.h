#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

// Causal attention of the last `tokens` of `positions`, for prompts, on Hopper's tensor cores
// (sm_90a): online softmax over tiles of 128 positions (Milakov and Gimelshein, "Online normalizer
// calculation for softmax", 2018; Dao, "FlashAttention-2", 2023), sums in fp32, scores' weights
// rounded to T. Query head h reads key/value head h / (heads / kv_heads). The same bits in every
// run.
//
// |out - exact| <= (2^-8 for bf16, 2^-11 for fp16) * 2 * max |v| of the head, and T's rounding.
//
// Refused (cudaErrorInvalidValue): empty or misshapen operands, other head_dim than 64 and 128,
// pointers that are not aligned to 16 bytes. Pointers are device pointers.
namespace qf::cuda {

struct AttentionShape {
  std::int64_t tokens, positions;  // tokens <= positions
  std::int64_t heads, kv_heads;    // heads: a multiple of kv_heads
  std::int64_t head_dim;           // 64 or 128
  // Elements from a position's key and value to the next one's, and from a head's to the next
  // head's: multiples of 8.
  std::int64_t position_stride, head_stride;
};
// q, out [tokens, heads, head_dim]; k, v [positions, kv_heads, head_dim] by the strides.
template <class T>
struct AttentionOperands {
  const T* q;
  const T* k;
  const T* v;
  T* out;
  // For a backward: of token t and head h at [h * logsumexp_stride + t], the logarithm of the sum
  // of its exponentials. May be nullptr.
  float* logsumexp = nullptr;
  std::int64_t logsumexp_stride = 0;
};
template <class T>
[[nodiscard]] cudaError_t prompt_attention(const AttentionOperands<T>& operands,
                                           const AttentionShape& shape, cudaStream_t stream);

}  // namespace qf::cuda
