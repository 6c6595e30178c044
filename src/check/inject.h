#pragma once

#include <cstdint>
#include <memory>

#include "qwen3fp4/backend/backend.h"
#include "qwen3fp4/check/fault.h"

namespace qf {

// Of the weights, else of the operations.
[[nodiscard]] bool is_weight_fault(const Fault& fault);
// Puts a fault of the weights into `model`; does nothing for the others.
void inject_into_weights(const Injection& injection, Qwen3Model& model);

// Computes with `inner`, but wrongly where an injected fault of the operations says so. It has to
// be told where a pass is, for a backend does not know.
class FaultyBackend final : public Backend {
 public:
  // Borrows all; `model` is the one whose operations come.
  FaultyBackend(const Backend& inner, const Injection& injection, const ModelConfig& config);
  // `layer`: the one that runs next (-1 and the number of layers for what is around them), for
  // tokens from position `first` on. `weights`: of that layer, nullptr around them.
  void enter(std::int64_t layer, std::int64_t first, const DecoderLayer* weights);

  [[nodiscard]] std::string_view name() const override { return inner_.name(); }
  [[nodiscard]] std::string description() const override { return inner_.description(); }
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

 private:
  [[nodiscard]] bool strikes(std::string_view fault, std::string_view module) const;

  const Backend& inner_;
  const Injection& injection_;
  const ModelConfig& config_;
  std::int64_t layer_ = -1;
  std::int64_t first_ = 0;
  const DecoderLayer* weights_ = nullptr;
  mutable double fp16_unit_ = 0;
  mutable int ropes_ = 0;  // of this layer and piece so far: q's comes first
};

}  // namespace qf
