#pragma once

#include <ATen/core/Tensor.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <vector>

#include "bench_kernel.h"
#include "qwen3fp4/backend/backend.h"
#include "qwen3fp4/backend/cuda_support.h"
#include "qwen3fp4/model/config.h"

// Rows of `bench --kernels --backend cuda`, by what they are for.
namespace qf {

// What the kernels are measured on.
struct CudaBenchDevice {
  const Backend& backend;  // `cuda`; place() gives the layout of this device
  ModelConfig config;      // whose shapes they take
  int major = 0, minor = 0;
  int multiprocessors = 0;
  [[nodiscard]] bool hopper() const { return major == 9 && minor == 0; }
};

[[nodiscard]] std::vector<BenchKernelGroup> cuda_linear_kernels(const CudaBenchDevice& device);
[[nodiscard]] std::vector<BenchKernelGroup> cuda_format_kernels(const CudaBenchDevice& device);
[[nodiscard]] std::vector<BenchKernelGroup> cuda_operation_kernels(const CudaBenchDevice& device);
[[nodiscard]] std::vector<BenchKernelGroup> cuda_choice_kernels(const CudaBenchDevice& device);
[[nodiscard]] std::vector<BenchKernelGroup> cuda_training_kernels(const CudaBenchDevice& device);

inline at::TensorOptions on_cuda(at::ScalarType type) { return at::device(at::kCUDA).dtype(type); }
inline __half* halves(const at::Tensor& t) { return device_data<__half>(t); }
inline __nv_bfloat16* bf16s(const at::Tensor& t) { return device_data<__nv_bfloat16>(t); }
inline float* floats(const at::Tensor& t) { return device_data<float>(t); }

}  // namespace qf
