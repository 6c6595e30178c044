#pragma once

#include <cuda_runtime_api.h>

#include "qwen3fp4/kernels/cuda/stream_layout.h"
#include "qwen3fp4/kernels/views.h"

// Products of a few tokens with packed rows straight from the codes, in fp32: y[t, r] = sum_c
// x[t, c] w[r, c]. All pointers are device pointers. The same bits in every run: sums are added in
// a fixed order, whatever the number of tokens. |y - exact| <= cols * 2^-23 * sum |x w|. Refused
// (cudaErrorInvalidValue): other numbers of tokens, empty or misshapen views, codes and x that are
// not aligned to 16 bytes.
namespace qf::cuda {

inline constexpr std::int64_t kLinearMaxTokens = 8;

struct LinearOperands {
  const float* x;       // [tokens, cols]
  float* y;             // [tokens, rows]
  std::int64_t tokens;  // 1 .. kLinearMaxTokens
};

[[nodiscard]] cudaError_t linear_nvfp4(const Nvfp4View& w, const LinearOperands& operands,
                                       cudaStream_t stream);
// cols and blocks must be multiples of 8.
[[nodiscard]] cudaError_t linear_nf4(const Nf4View& w, const LinearOperands& operands,
                                     cudaStream_t stream);

[[nodiscard]] cudaError_t linear_stream(const StreamView& w, const LinearOperands& operands,
                                        cudaStream_t stream);
[[nodiscard]] cudaError_t linear_stream(const StreamNf4View& w, const LinearOperands& operands,
                                        cudaStream_t stream);

}  // namespace qf::cuda
