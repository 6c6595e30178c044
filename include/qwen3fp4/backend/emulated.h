#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <utility>

#include "qwen3fp4/backend/backend.h"

namespace qf {

// f32 activations [T, I] as W4A4 has them, for block-scaled FP4 tensor cores: block scales amax/6,
// under a tensor scale of each token's own, so that no token depends on which others run beside it.
// A token with a value that is not finite becomes NaN.
struct QuantisedActivations {
  explicit QuantisedActivations(const at::Tensor& x_TI);
  [[nodiscard]] at::Tensor dequantize() const;
  at::Tensor scale_T1;  // each token's tensor scale, or NaN
  WeightMatrix blocks;  // x / scale, NVFP4 of tensor scale 1
};

// Another backend's operations in the arithmetic of other hardware, on any machine: with a
// 16-bit dtype every operation's result is rounded to it (sums inside an operation stay fp32, as on
// tensor cores), with kW4A4 the input of a linear with an NVFP4 weight is quantised. To measure
// what such an arithmetic costs in accuracy, not for speed.
class EmulatedBackend final : public Backend {
 public:
  // kReference as `linear_mode` is not this class's doing: its `inner` has that mode.
  EmulatedBackend(std::unique_ptr<Backend> inner, ComputeDtype dtype, LinearMode linear_mode);
  [[nodiscard]] std::string_view name() const override { return inner_->name(); }
  [[nodiscard]] std::string description() const override;
  [[nodiscard]] LinearMode linear_mode() const override;
  [[nodiscard]] at::Device device() const override { return inner_->device(); }
  [[nodiscard]] WeightMatrix place(WeightMatrix weight) const override {
    return inner_->place(std::move(weight));
  }
  [[nodiscard]] at::TensorOptions cache_options() const override { return inner_->cache_options(); }
  [[nodiscard]] at::Tensor embed(const at::Tensor& ids_T,
                                 const WeightMatrix& weight) const override {
    return inner_->embed(ids_T, weight);
  }
  [[nodiscard]] at::Tensor linear(const at::Tensor& x_TI,
                                  const WeightMatrix& weight) const override;
  [[nodiscard]] at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight,
                                    double eps) const override;
  [[nodiscard]] at::Tensor apply_rope(const at::Tensor& x_THE, const at::Tensor& cos_TE,
                                      const at::Tensor& sin_TE) const override;
  [[nodiscard]] at::Tensor attention(const at::Tensor& q_THE, const at::Tensor& k_SKE,
                                     const at::Tensor& v_SKE) const override;
  [[nodiscard]] at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) const override;
  [[nodiscard]] at::Tensor add(const at::Tensor& a, const at::Tensor& b) const override;
  [[nodiscard]] double measure_read_bandwidth() const override {
    return inner_->measure_read_bandwidth();
  }
  [[nodiscard]] std::int64_t memory_peak() const override { return inner_->memory_peak(); }

 private:
  [[nodiscard]] at::Tensor rounded(const at::Tensor& y) const;

  std::unique_ptr<Backend> inner_;
  ComputeDtype dtype_;
  LinearMode linear_mode_;
};

}  // namespace qf
