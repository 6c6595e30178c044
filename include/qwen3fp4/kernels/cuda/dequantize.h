#pragma once

#include <cuda_runtime_api.h>

#include "qwen3fp4/kernels/views.h"

// The same formulas and the same bits as kernels/cpu/dequantize.h. All pointers are device
// pointers; `out` is f32 [w.rows, w.cols] on the device. Refuses (cudaErrorInvalidValue) empty or
// misshapen views; otherwise the launch's status.
namespace qf::cuda {

[[nodiscard]] cudaError_t dequantize_nvfp4(const Nvfp4View& w, float* out, cudaStream_t stream);
[[nodiscard]] cudaError_t dequantize_nf4(const Nf4View& w, float* out, cudaStream_t stream);

}  // namespace qf::cuda
