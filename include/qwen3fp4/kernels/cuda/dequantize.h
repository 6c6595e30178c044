#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include "qwen3fp4/kernels/views.h"

// The formulas of kernels/cpu/dequantize.h: f32 with the same bits, fp16 and bf16 the nearest to
// them. All pointers are device pointers; `out` is [w.rows, w.cols] of float, __half or
// __nv_bfloat16. Refuses (cudaErrorInvalidValue) empty or misshapen views; otherwise the launch's
// status.
namespace qf::cuda {

template <class Out>
[[nodiscard]] cudaError_t dequantize_nvfp4(const Nvfp4View& w, Out* out, cudaStream_t stream);
// Several weights in one launch.
template <class Out>
struct DequantizeJob {
  Nvfp4View weight;
  Out* out;
};
inline constexpr int kDequantizeMostJobs = 8;
template <class Out>
[[nodiscard]] cudaError_t dequantize_nvfp4(const DequantizeJob<Out>* jobs, int count,
                                           cudaStream_t stream);
template <class Out>
[[nodiscard]] cudaError_t dequantize_nf4(const Nf4View& w, Out* out, cudaStream_t stream);

}  // namespace qf::cuda
