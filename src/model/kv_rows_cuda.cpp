#include <ATen/ATen.h>

#include "kv_rows.h"
#include "qwen3fp4/backend/cuda_support.h"
#include "qwen3fp4/kernels/cuda/kv_cache.h"

namespace qf::on_cuda {
namespace {

cuda::KvRows rows_of(const at::Tensor& codes_KTE, const at::Tensor& scales_KT) {
  return {device_data<E4M3>(codes_KTE),
          device_data<float>(scales_KT),
          codes_KTE.size(0),
          codes_KTE.size(1),
          codes_KTE.size(2),
          codes_KTE.stride(0),
          scales_KT.stride(0)};
}

// use(values) with a pointer by CUDA's name of the tensor's type.
template <class Use>
void with_values(const at::Tensor& t, const Use& use) {
  switch (t.scalar_type()) {
    case at::kHalf:
      return use(device_data<__half>(t));
    case at::kBFloat16:
      return use(device_data<__nv_bfloat16>(t));
    default:
      TORCH_INTERNAL_ASSERT(t.scalar_type() == at::kFloat, "keys of type ", t.scalar_type());
      return use(device_data<float>(t));
  }
}

}  // namespace

void quantize_kv(const at::Tensor& x_TKE, const at::Tensor& codes_KTE,
                 const at::Tensor& scales_KT) {
  const auto x = x_TKE.contiguous();
  with_values(x, [&](const auto* values) {
    check_cuda(cuda::quantize_kv(values, rows_of(codes_KTE, scales_KT), current_stream()),
               "keys and values to fp8");
  });
}

void dequantize_kv(const at::Tensor& codes_KSE, const at::Tensor& scales_KS,
                   const at::Tensor& out_KSE) {
  with_values(out_KSE, [&](auto* values) {
    check_cuda(cuda::dequantize_kv(rows_of(codes_KSE, scales_KS), values, out_KSE.stride(0),
                                   current_stream()),
               "keys and values from fp8");
  });
}

}  // namespace qf::on_cuda
