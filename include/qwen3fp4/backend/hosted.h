#pragma once

#include <memory>
#include <string>
#include <utility>

#include "qwen3fp4/backend/backend.h"

namespace qf {

// A backend of another device for callers whose tensors are all in main memory: every operation
// takes its inputs there and brings its result back. For comparing operation by operation; slow.
class HostedBackend final : public Backend {
 public:
  explicit HostedBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}
  [[nodiscard]] std::string_view name() const override { return inner_->name(); }
  [[nodiscard]] std::string description() const override { return inner_->description(); }
  [[nodiscard]] LinearMode linear_mode() const override { return inner_->linear_mode(); }
  [[nodiscard]] at::Tensor embed(const at::Tensor& ids_T,
                                 const WeightMatrix& weight) const override;
  [[nodiscard]] at::Tensor linear(const at::Tensor& x_TI,
                                  const WeightMatrix& weight) const override;
  [[nodiscard]] at::Tensor logits(const at::Tensor& hidden_TD,
                                  const WeightMatrix& weight) const override;
  [[nodiscard]] at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight,
                                    double eps) const override;
  [[nodiscard]] at::Tensor apply_rope(const at::Tensor& x_THE, const at::Tensor& cos_TE,
                                      const at::Tensor& sin_TE) const override;
  [[nodiscard]] at::Tensor attention(const at::Tensor& q_THE, const at::Tensor& k_SKE,
                                     const at::Tensor& v_SKE) const override;
  [[nodiscard]] at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) const override;
  [[nodiscard]] at::Tensor add(const at::Tensor& a, const at::Tensor& b) const override;

 private:
  [[nodiscard]] at::Tensor there(const at::Tensor& x) const { return x.to(inner_->device()); }
  [[nodiscard]] static at::Tensor here(const at::Tensor& x) { return x.to(at::kCPU, at::kFloat); }
  std::unique_ptr<Backend> inner_;
};

}  // namespace qf
