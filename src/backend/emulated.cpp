#include "qwen3fp4/backend/emulated.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <limits>

#include "qwen3fp4/kernels/fp4.h"
#include "qwen3fp4/quant/quantize.h"

namespace qf {

namespace {

at::Tensor token_scales(const at::Tensor& x_TI) {
  const auto amax_T1 = x_TI.abs().amax(-1, /*keepdim=*/true);
  // A scale of 0 would divide; an all-zero token needs none.
  const auto scale_T1 =
      (amax_T1 / (kE4M3Max * kE2M1Max)).clamp_min(std::numeric_limits<float>::min());
  return scale_T1.masked_fill(at::isfinite(amax_T1).logical_not(),
                              std::numeric_limits<float>::quiet_NaN());
}

}  // namespace

QuantisedActivations::QuantisedActivations(const at::Tensor& x_TI)
    : scale_T1(token_scales(x_TI)),
      blocks(quantize_nvfp4((x_TI / scale_T1).nan_to_num(0, 0, 0),
                            {.search = false, .two_level = false})) {}

at::Tensor QuantisedActivations::dequantize() const { return blocks.dequantize() * scale_T1; }

EmulatedBackend::EmulatedBackend(std::unique_ptr<Backend> inner, ComputeDtype dtype,
                                 LinearMode linear_mode)
    : inner_(std::move(inner)), dtype_(dtype), linear_mode_(linear_mode) {
  TORCH_INTERNAL_ASSERT(linear_mode != LinearMode::kReference);
}

LinearMode EmulatedBackend::linear_mode() const {
  return linear_mode_ == LinearMode::kW4A4 ? linear_mode_ : inner_->linear_mode();
}

std::string EmulatedBackend::description() const {
  return fmt::format(
      "{}; emulated: {}, activations {}", inner_->description(),
      dtype_ == ComputeDtype::kF32 ? "fp32"
                                   : fmt::format("results rounded to {}", dtype_name(dtype_)),
      linear_mode_ == LinearMode::kW4A4 ? "quantised to NVFP4 before NVFP4 weights (w4a4)"
                                        : "as they are");
}

at::Tensor EmulatedBackend::rounded(const at::Tensor& y) const {
  return y.to(scalar_type(dtype_)).to(at::kFloat);
}

at::Tensor EmulatedBackend::linear(const at::Tensor& x_TI, const WeightMatrix& weight) const {
  if (linear_mode_ == LinearMode::kW4A4 && weight.format() == WeightFormat::kNvfp4) {
    return rounded(inner_->linear(QuantisedActivations(x_TI).dequantize(), weight));
  }
  return rounded(inner_->linear(x_TI, weight));
}

at::Tensor EmulatedBackend::rms_norm(const at::Tensor& x, const at::Tensor& weight,
                                     double eps) const {
  return rounded(inner_->rms_norm(x, weight, eps));
}

at::Tensor EmulatedBackend::apply_rope(const at::Tensor& x_THE, const at::Tensor& cos_TE,
                                       const at::Tensor& sin_TE) const {
  return rounded(inner_->apply_rope(x_THE, cos_TE, sin_TE));
}

at::Tensor EmulatedBackend::attention(const at::Tensor& q_THE, const at::Tensor& k_SKE,
                                      const at::Tensor& v_SKE) const {
  return rounded(inner_->attention(q_THE, k_SKE, v_SKE));
}

at::Tensor EmulatedBackend::swiglu(const at::Tensor& gate, const at::Tensor& up) const {
  return rounded(inner_->swiglu(gate, up));
}

at::Tensor EmulatedBackend::add(const at::Tensor& a, const at::Tensor& b) const {
  return rounded(inner_->add(a, b));
}

}  // namespace qf
