#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

// The small operations of the forward pass in fp32, as backend/backend.h defines them. All pointers
// are device pointers; outputs may be the inputs themselves, except rope's. The same bits in every
// run. Refuses (cudaErrorInvalidValue) empty shapes, those beyond a grid, and, for swiglu and add,
// pointers that are not aligned to 16 bytes.
namespace qf::cuda {

// y[r, c] = x[r, c] / sqrt(mean_c(x^2) + eps) * weight[c]
[[nodiscard]] cudaError_t rms_norm(const float* x, const float* weight, float eps,
                                   std::int64_t rows, std::int64_t cols, float* y,
                                   cudaStream_t stream);

struct RopeShape {
  std::int64_t tokens, heads, head_dim;  // head_dim even
};
// x, y [tokens, heads, head_dim], cos and sin [tokens, head_dim]: feature i turns with i + E/2.
[[nodiscard]] cudaError_t apply_rope(const float* x, const float* cos, const float* sin,
                                     const RopeShape& shape, float* y, cudaStream_t stream);

// y = silu(gate) * up
[[nodiscard]] cudaError_t swiglu(const float* gate, const float* up, std::int64_t count, float* y,
                                 cudaStream_t stream);
// y = a + b
[[nodiscard]] cudaError_t add(const float* a, const float* b, std::int64_t count, float* y,
                              cudaStream_t stream);

}  // namespace qf::cuda
