#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "qwen3fp4/kernels/kv_row.h"
#include "qwen3fp4/kernels/views.h"

// One decoded token as a chain of small kernels, to be captured into a CUDA graph once: whatever
// changes from token to token is read from device memory. Activations are f32. All pointers are
// device pointers. Sums have a fixed order: the same bits in every run. Launchers refuse
// (cudaErrorInvalidValue) shapes that they cannot do.
namespace qf::cuda {

// Where the step stands; the host writes it, or advance_token().
struct TokenState {
  std::int64_t position;  // tokens in the cache
  std::uint32_t token;    // to be run at `position`
};

// x[i] = table[state->token, i]
template <class T>
[[nodiscard]] cudaError_t embed_token(const T* table, std::int64_t hidden, const TokenState* state,
                                      float* x, cudaStream_t stream);

// x += addend (nullptr: nothing), then y = x / sqrt(mean(x^2) + eps) * weight; cols a multiple
// of 4.
struct NormStep {
  float* x;
  const float* addend;
  const float* weight;
  float eps;
  std::int64_t cols;
  float* y;
};
[[nodiscard]] cudaError_t add_rms_norm(const NormStep& step, cudaStream_t stream);

// One of the two packed formats.
struct TokenMatrix {
  Nvfp4View nvfp4;  // nvfp4.codes == nullptr: nf4
  Nf4View nf4;      // block a multiple of 16
};
// Up to three matrices [rows, cols] of one format and one input x [cols], cols a multiple of 16.
struct TokenLinear {
  TokenMatrix matrix[3];
  float* y[3];  // [rows]
  int count;
  const float* x;
};
// y[m][r] = sum_c matrix[m][r, c] x[c]. |y - exact| <= cols * 2^-23 * sum |w x|.
[[nodiscard]] cudaError_t linear_token(const TokenLinear& linear, cudaStream_t stream);
// y[0] = silu(matrix[0] x) * (matrix[1] x); two matrices of one shape.
[[nodiscard]] cudaError_t linear_swiglu_token(const TokenLinear& linear, cudaStream_t stream);

// A layer's attention of one token over the cache. head_dim 32, 64, 96, 128 or 256; heads a
// multiple of kv_heads, at most 8 times. T is float, __half, __nv_bfloat16 or E4M3.
template <class T>
struct TokenAttention {
  std::int64_t heads, kv_heads, head_dim;
  std::int64_t context;  // positions of the cache
  T* keys;               // [kv_heads, context, head_dim]
  T* values;             // [kv_heads, context, head_dim]
  // [kv_heads, kv_scale_stride(context)]; of E4M3 alone
  float *key_scales = nullptr, *value_scales = nullptr;
  const float *cos, *sin;        // [context, head_dim]
  const float *q_norm, *k_norm;  // [head_dim]; nullptr: none
  float eps;
  float* q;            // [heads, head_dim]: in: the product; placed: normed and turned
  const float *k, *v;  // [kv_heads, head_dim]
  float* partial;      // [token_attention_floats()]
  float* out;          // [heads, head_dim]
  const TokenState* state;
};
// Floats of `partial`.
[[nodiscard]] std::int64_t token_attention_floats(std::int64_t heads, std::int64_t head_dim);
// Norms and turns q in place; norms and turns k and puts it and v into the cache (rounded to T, or
// as kernels/kv_row.h has it).
template <class T>
[[nodiscard]] cudaError_t place_heads(const TokenAttention<T>& a, cudaStream_t stream);
// out = softmax(q . keys / sqrt(head_dim)) values, over positions 0 .. state->position.
template <class T>
[[nodiscard]] cudaError_t attend_token(const TokenAttention<T>& a, cudaStream_t stream);

// state->token = *token, ++state->position.
[[nodiscard]] cudaError_t advance_token(const std::uint32_t* token, TokenState* state,
                                        cudaStream_t stream);

}  // namespace qf::cuda
