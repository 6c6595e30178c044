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

// A training step's norms of the residual stream, with what they need of the additions before them:
// cols a multiple of 4 up to kMostNormCols; In is float or T, T is __nv_bfloat16; pointers aligned
// to 16 bytes.
inline constexpr std::int64_t kMostNormCols = 8192;
// h = x + added; y = h * rstd * weight; rstd[r] = 1 / sqrt(mean_c(h^2) + eps).
template <class In, class T>
struct AddedNorm {
  const In* x;
  const T* added;  // or nullptr: h is x
  const float* weight;
  float eps;
  float* h;  // not written without `added`
  T* y;
  float* rstd;  // [rows]
};
template <class In, class T>
[[nodiscard]] cudaError_t add_norm(const AddedNorm<In, T>& norm, const NormShape& shape,
                                   cudaStream_t stream);
// From dy, that of y: dx = residual + the gradient of h, also rounded to `narrow`, and parts of the
// weight's gradient [kNormParts, cols], which add up to it.
inline constexpr int kNormParts = 264;
template <class In, class T>
struct NormGradient {
  const float* dy;
  const In* h;
  const float* rstd;
  const float* weight;
  const float* residual;
  float* dx;
  T* narrow;
  float* dweight_parts;
};
template <class In, class T>
[[nodiscard]] cudaError_t norm_backward(const NormGradient<In, T>& gradient, const NormShape& shape,
                                        cudaStream_t stream);

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
// The derivatives of swiglu() times those of its result, dy.
template <class T>
struct SwigluOperands {
  const T* gate;
  const T* up;
  const T* dy;
};
template <class T>
[[nodiscard]] cudaError_t swiglu_backward(const SwigluOperands<T>& in, std::int64_t count, T* dgate,
                                          T* dup, cudaStream_t stream);

// Heads on their way into attention, for training: RMS norm over each head (without `weight`:
// none), then RoPE. head_dim 64, 128 or 256; T is __nv_bfloat16.
struct RotationTables {
  const float* weight;  // [head_dim] or nullptr
  const float* cos;     // [tokens, head_dim]
  const float* sin;
};
// x, y [tokens, heads, head_dim]; rstd [tokens, heads]: 1 / sqrt(mean(x^2) + eps), where there is a
// norm.
template <class T>
[[nodiscard]] cudaError_t rotate_heads(const T* x, const RotationTables& tables, float eps,
                                       const RopeShape& shape, T* y, float* rstd,
                                       cudaStream_t stream);
// From dy, that of y: dx, and parts of the weight's gradient [kRotationParts, head_dim], which add
// up to it.
inline constexpr int kRotationParts = 264;
template <class T>
struct RotationGradient {
  const T* dy;
  const T* x;
  const float* rstd;
  T* dx;
  float* dweight_parts;
};
template <class T>
[[nodiscard]] cudaError_t rotate_heads_backward(const RotationGradient<T>& gradient,
                                                const RotationTables& tables,
                                                const RopeShape& shape, cudaStream_t stream);

// y = a + b
template <class T>
[[nodiscard]] cudaError_t add(const float* a, const T* b, std::int64_t count, float* y,
                              cudaStream_t stream);

}  // namespace qf::cuda
