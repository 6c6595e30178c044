#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "qwen3fp4/kernels/cuda/fp4_gemm.h"
#include "qwen3fp4/quant/weight_matrix.h"

namespace qf {

// The `cuda` backend's products with LinearMode::kW4A4: activations quantised to NVFP4 on the
// device, a tensor scale a token, and multiplied with NVFP4 weights by cuBLASLt on FP4 tensor
// cores.
class Fp4Linear {
 public:
  // Throws (exit code 2), naming the device, where it or this build has no such products.
  Fp4Linear(std::string_view device_name, int major, int minor);

  // An NVFP4 weight with E4M3 scales, there as products take it: codes and scale tiles.
  [[nodiscard]] static WeightMatrix place(const WeightMatrix& weight, at::Device device);
  // x [T, I], f32 or a 16-bit type, times each of the weights [O, I] that place() made: [T, O] of
  // `type`, from fp32 sums. x is quantised once.
  [[nodiscard]] std::vector<at::Tensor> products(const at::Tensor& x_TI,
                                                 std::span<const WeightMatrix* const> weights,
                                                 at::ScalarType type);

  // What cuBLASLt may use, held from the first product on.
  static constexpr std::int64_t kWorkspaceBytes = std::int64_t{32} << 20;

 private:
  cuda::Fp4Gemm gemm_;
  at::Tensor workspace_;
};

}  // namespace qf
