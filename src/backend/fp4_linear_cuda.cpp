#include <ATen/ATen.h>
#include <fmt/format.h>

#include "fp4_linear.h"
#include "qwen3fp4/backend/cuda_support.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/kernels/cpu/scale_tiles.h"
#include "qwen3fp4/kernels/cuda/quantize.h"
#include "qwen3fp4/quant/scale_tiles.h"

// Shapes in this file: T tokens, I/O a linear's input and output features.
namespace qf {
namespace {

// Activations as cuda::quantize_activations() leaves them.
struct DeviceTokens {
  at::Tensor codes;         // u8 [T, I/2]
  at::Tensor tiles;         // u8 [scale_tiles_bytes(T, I/16)]
  at::Tensor token_scales;  // f32 [T]
  [[nodiscard]] ScaledFp4View view() const {
    return {codes.const_data_ptr<std::uint8_t>(), tiles.const_data_ptr<std::uint8_t>(),
            codes.size(0), codes.size(1) * 2};
  }
};

DeviceTokens quantise(const at::Tensor& x_TI) {
  const bool bf16 = x_TI.scalar_type() == at::kBFloat16;
  const auto x = bf16 ? x_TI.contiguous() : x_TI.to(at::kFloat).contiguous();
  const std::int64_t tokens = x.size(0);
  const std::int64_t inputs = x.size(1);
  const auto bytes = x.options().dtype(at::kByte);
  DeviceTokens out{at::empty({tokens, inputs / 2}, bytes),
                   at::empty({scale_tiles_bytes(tokens, inputs / kNvfp4Block)}, bytes),
                   at::empty({tokens}, x.options().dtype(at::kFloat))};
  const QuantisedTokens to{out.codes.mutable_data_ptr<std::uint8_t>(),
                           out.tiles.mutable_data_ptr<std::uint8_t>(),
                           out.token_scales.mutable_data_ptr<float>()};
  const auto run = [&](const auto* values) {
    check_cuda(cuda::quantize_activations({values, tokens, inputs}, to, current_stream()),
               "quantise activations");
  };
  if (bf16) {
    run(static_cast<const __nv_bfloat16*>(x.const_data_ptr()));
  } else {
    run(x.const_data_ptr<float>());
  }
  return out;
}

// Token scales belong to rows, which the product's one alpha cannot hold.
at::Tensor scaled(at::Tensor y_TO, const at::Tensor& token_scales, at::ScalarType type) {
  const cuda::RowScaling scaling{y_TO.const_data_ptr<float>(), token_scales.const_data_ptr<float>(),
                                 y_TO.size(0), y_TO.size(1)};
  auto out = type == at::kFloat ? y_TO : at::empty_like(y_TO, y_TO.options().dtype(type));
  const auto run = [&](auto* to) {
    check_cuda(cuda::scale_rows(scaling, to, current_stream()), "token scales");
  };
  switch (type) {
    case at::kHalf:
      run(static_cast<__half*>(out.mutable_data_ptr()));
      break;
    case at::kBFloat16:
      run(static_cast<__nv_bfloat16*>(out.mutable_data_ptr()));
      break;
    default:
      run(out.mutable_data_ptr<float>());
  }
  return out;
}

}  // namespace

Fp4Linear::Fp4Linear(std::string_view device_name, int major, int minor) {
  cuda::Fp4GemmStatus status = cuda::fp4_gemm_supported(major, minor);
  if (status.done()) status = gemm_.open();
  if (status.done()) return;
  fail(ExitCode::kUsage, "--linear w4a4 on {}: {}; here --linear takes auto, w4a16 and reference",
       device_name, cuda::message(status));
}

WeightMatrix Fp4Linear::place(const WeightMatrix& weight, at::Device device) {
  return WeightMatrix::nvfp4_tiled(weight.codes().to(device),
                                   scale_tiles(weight.scales().to(device)), weight.global_scale());
}

std::vector<at::Tensor> Fp4Linear::products(const at::Tensor& x_TI,
                                            std::span<const WeightMatrix* const> weights,
                                            at::ScalarType type) {
  if (!workspace_.defined()) {
    workspace_ = at::empty({kWorkspaceBytes}, x_TI.options().dtype(at::kByte));
  }
  const DeviceTokens x = quantise(x_TI);
  std::vector<at::Tensor> results;
  for (const WeightMatrix* weight : weights) {
    QF_CHECK(weight->tiled(),
             "--linear w4a4: expected NVFP4 weights with E4M3 block scales, got "
             "one with f32 block scales");
    auto y_TO = at::empty({x_TI.size(0), weight->out_features()}, x_TI.options().dtype(at::kFloat));
    // f32 and not bf16, which would round before the token's scale and after it.
    const auto status =
        gemm_.run({x.view(), weight->scaled_fp4_view(), weight->global_scale()},
                  y_TO.mutable_data_ptr<float>(), {workspace_.mutable_data_ptr(), kWorkspaceBytes},
                  current_stream());
    QF_CHECK(status.done(), "--linear w4a4: a product [{}, {}] x [{}, {}]: {}", x_TI.size(0),
             x_TI.size(1), weight->out_features(), weight->in_features(), cuda::message(status));
    results.push_back(scaled(std::move(y_TO), x.token_scales, type));
  }
  return results;
}

}  // namespace qf
