#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

// The small operations of the forward pass, as backend/backend.h defines them: computed in fp32
// from operands in f32, fp16 or bf16, the result rounded to nearest even where it is narrower. All
// pointers are device pointers; outputs may be the inputs themselves where the types agree, except
// rope's. The same bits in every run. Refuses (cudaErrorInvalidValue) empty shapes, those beyond a
// grid, and, for swiglu and add, pointers that are not aligned to 16 bytes.
//
// Instances: T is float, __half or __nv_bfloat16; In is float or T's 16-bit type.
namespace qf::cuda {

struct NormShape {
  std::int64_t rows, cols;
};
// y[r, c] = x[r, c] / sqrt(mean_c(x^2) + eps) * weight[c]
template <class In, class T>
[[nodiscard]] cudaError_t rms_norm(const In* x, const float* weight, float eps,
                                   const NormShape& shape, T* y, cudaStream_t stream);

struct RopeShape {
  std::int64_t tokens, heads, head_dim;  // head_dim even
};
// x, y [tokens, heads, head_dim], cos and sin [tokens, head_dim]: feature i turns with i + E/2.
template <class T>
[[nodiscard]] cudaError_t apply_rope(const T* x, const float* cos, const float* sin,
                                     const RopeShape& shape, T* y, cudaStream_t stream);

// y = silu(gate) * up
template <class T>
[[nodiscard]] cudaError_t swiglu(const T* gate, const T* up, std::int64_t count, T* y,
                                 cudaStream_t stream);
// y = a + b
template <class T>
[[nodiscard]] cudaError_t add(const float* a, const T* b, std::int64_t count, float* y,
                              cudaStream_t stream);

}  // namespace qf::cuda
