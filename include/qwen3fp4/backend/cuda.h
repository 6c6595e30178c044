#pragma once

#include <memory>
#include <string>

#include "qwen3fp4/backend/backend.h"

namespace qf {

[[nodiscard]] bool built_with_cuda();
// Why this build or machine has no `cuda` backend, in one clause; empty when it has.
[[nodiscard]] const std::string& no_cuda_reason();
// The first CUDA device. kF32: products and attention in fp32 of dequantised weights, keys and
// values cached in f32. kBF16: products of many tokens on fp16 tensor cores (inputs rounded to 11
// bits, weights exact but for NF4's 2^-11, fp32 sums), keys and values cached in bf16 and attention
// in bf16. Both: products of few tokens straight from packed codes in fp32, everything else in
// fp32.
[[nodiscard]] std::unique_ptr<Backend> make_cuda_backend(ComputeDtype dtype);

}  // namespace qf
