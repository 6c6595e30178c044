#pragma once

#include <memory>
#include <string>

#include "qwen3fp4/backend/backend.h"

namespace qf {

[[nodiscard]] bool built_with_cuda();
// Why this build or machine has no `cuda` backend, in one clause; empty when it has.
[[nodiscard]] const std::string& no_cuda_reason();
// The first CUDA device. kF32: products and attention in fp32 of dequantised weights, keys and
// values cached in f32. kF16, kBF16: keys, values and attention in that type, and, of many tokens,
// all products on its tensor cores (NVFP4's codes times block scales are numbers of both types,
// NF4's weights are rounded; fp32 sums) and all results but the residual stream and the logits.
// All: products of few tokens straight from packed codes in fp32. That is kW4A16. kReference: every
// product in fp32 of a weight unpacked whole. kW4A4: products with NVFP4 weights on FP4 tensor
// cores (kernels/cuda/fp4_gemm.h), a token as it would be alone; throws (exit code 2) where device
// or build have none, before it allocates on the device. Never run: no such device was at hand.
[[nodiscard]] std::unique_ptr<Backend> make_cuda_backend(ComputeDtype dtype, LinearMode linear);

}  // namespace qf
