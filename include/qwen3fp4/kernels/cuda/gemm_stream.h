#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include "qwen3fp4/kernels/cuda/stream_layout.h"

// Products of many tokens with weights in the stream layout, straight from their codes, on Hopper's
// tensor cores (sm_90a): y[t, r] = sum_c x[t, c] w[r, c]. Codes times E4M3 scales are numbers of
// either 16-bit type, exactly; they are multiplied by x there, and summed in fp32 in a fixed order:
// the same bits in every run with the same plan.
// |y - exact| <= cols * 2^-22 * sum |x w|, then y is rounded to its type.
//
// Refused (cudaErrorInvalidValue): empty or misshapen operands, pointers that are not aligned to 16
// bytes, a plan of another shape. Pointers inside are device pointers.
namespace qf::cuda {

// Weights of one launch: products of the same x, whose tiles fill the device together.
inline constexpr int kGemmMaxWeights = 3;
struct GemmWeights {
  const StreamView* views;  // all with the same cols
  int count;                // 1 .. kGemmMaxWeights
};

// How a launch is cut: tiles of `rows` of one weight x `tokens`. The first `whole` of them are
// computed as they are, the others in `splits` parts of their columns each, which the last of them
// to finish adds up, in their order.
struct GemmPlan {
  int rows, tokens;
  std::int64_t tiles, whole;
  int splits;
  [[nodiscard]] std::int64_t partial_floats() const {
    return (tiles - whole) * splits * rows * tokens;
  }
};
// For a device of so many multiprocessors.
[[nodiscard]] GemmPlan plan_gemm_stream(const GemmWeights& weights, std::int64_t tokens,
                                        int multiprocessors);

struct GemmWorkspace {
  float* partial;          // [plan.partial_floats()]
  std::uint32_t* arrived;  // [plan.tiles - plan.whole], zero before a launch and again after it
};

// x [tokens, cols], y[i] [tokens, views[i].rows]. In: __half, __nv_bfloat16; Out: In or float.
template <class In, class Out>
struct GemmOperands {
  const In* x;
  std::int64_t tokens;
  Out* y[kGemmMaxWeights];
};
template <class In, class Out>
[[nodiscard]] cudaError_t gemm_stream(const GemmWeights& weights,
                                      const GemmOperands<In, Out>& operands, const GemmPlan& plan,
                                      const GemmWorkspace& workspace, cudaStream_t stream);

}  // namespace qf::cuda
