#pragma once

#include <ATen/core/Tensor.h>

#include <deque>
#include <initializer_list>
#include <string_view>
#include <utility>
#include <vector>

#include "qwen3fp4/backend/backend.h"

namespace qf {

enum class OpKind { kEmbedding, kLinear, kNorm, kRope, kAttention, kSwiglu, kAdd };

// What produced a tap's value, and from what.
struct Operation {
  OpKind kind = OpKind::kEmbedding;
  // kLinear: x [T, I]. kNorm: x, weight. kRope: x [T, H, E], cos, sin [T, E]. kAttention: q [T, H,
  // E], k, v [S, K, E]. kSwiglu: gate, up. kAdd: a, b.
  std::vector<at::Tensor> inputs = {};
  const WeightMatrix* weight = nullptr;  // kLinear
  double eps = 0;                        // kNorm
};

// Passes everything on to `inner` and remembers the last operation. A tap that follows is its
// output's; those that follow linears() are its outputs', in their order.
class RecordingBackend final : public Backend {
 public:
  explicit RecordingBackend(const Backend& inner) : inner_(inner) {}
  [[nodiscard]] std::string_view name() const override { return inner_.name(); }
  [[nodiscard]] std::string description() const override { return inner_.description(); }
  // To be called once a tap.
  [[nodiscard]] const Operation& of_next_tap() {
    if (!waiting_.empty()) {
      last_ = std::move(waiting_.front());
      waiting_.pop_front();
    }
    return last_;
  }

  [[nodiscard]] at::Tensor linear(const at::Tensor& x_TI,
                                  const WeightMatrix& weight) const override {
    last_ = {.kind = OpKind::kLinear, .inputs = {x_TI}, .weight = &weight};
    return inner_.linear(x_TI, weight);
  }
  [[nodiscard]] std::vector<at::Tensor> linears(
      const at::Tensor& x_TI, std::initializer_list<const WeightMatrix*> weights) const override {
    for (const WeightMatrix* weight : weights) {
      waiting_.push_back({.kind = OpKind::kLinear, .inputs = {x_TI}, .weight = weight});
    }
    return inner_.linears(x_TI, weights);
  }
  [[nodiscard]] at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight,
                                    double eps) const override {
    last_ = {.kind = OpKind::kNorm, .inputs = {x, weight}, .eps = eps};
    return inner_.rms_norm(x, weight, eps);
  }
  [[nodiscard]] at::Tensor apply_rope(const at::Tensor& x_THE, const at::Tensor& cos_TE,
                                      const at::Tensor& sin_TE) const override {
    last_ = {.kind = OpKind::kRope, .inputs = {x_THE, cos_TE, sin_TE}};
    return inner_.apply_rope(x_THE, cos_TE, sin_TE);
  }
  [[nodiscard]] at::Tensor attention(const at::Tensor& q_THE, const at::Tensor& k_SKE,
                                     const at::Tensor& v_SKE) const override {
    last_ = {.kind = OpKind::kAttention, .inputs = {q_THE, k_SKE, v_SKE}};
    return inner_.attention(q_THE, k_SKE, v_SKE);
  }
  [[nodiscard]] at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) const override {
    last_ = {.kind = OpKind::kSwiglu, .inputs = {gate, up}};
    return inner_.swiglu(gate, up);
  }
  [[nodiscard]] at::Tensor add(const at::Tensor& a, const at::Tensor& b) const override {
    last_ = {.kind = OpKind::kAdd, .inputs = {a, b}};
    return inner_.add(a, b);
  }

 private:
  const Backend& inner_;
  mutable Operation last_;
  mutable std::deque<Operation> waiting_;
};

}  // namespace qf
