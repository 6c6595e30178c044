#pragma once

#include <ATen/core/Tensor.h>

// Keys or values of some tokens of one layer, as the cache keeps them in FP8 (kernels/kv_row.h), on
// the device where the tensors are. Codes and scales are views of the cache: dense from token to
// token, not from head to head.
namespace qf {

void quantize_kv(const at::Tensor& x_TKE, const at::Tensor& codes_KTE, const at::Tensor& scales_KT);
// `out` likewise, in main memory f32.
void dequantize_kv(const at::Tensor& codes_KSE, const at::Tensor& scales_KS,
                   const at::Tensor& out_KSE);

// Both for tensors on a CUDA device.
namespace on_cuda {
void quantize_kv(const at::Tensor& x_TKE, const at::Tensor& codes_KTE, const at::Tensor& scales_KT);
void dequantize_kv(const at::Tensor& codes_KSE, const at::Tensor& scales_KS,
                   const at::Tensor& out_KSE);
}  // namespace on_cuda

}  // namespace qf
