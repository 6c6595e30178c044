#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "qwen3fp4/model/qwen3_model.h"
#include "qwen3fp4/model/weight_source.h"

namespace qf {

// The weights of a loaded model once more, sharing its tensors. Not of one whose backend has put
// them in another layout.
class ModelSource : public WeightSource {
 public:
  // Borrows `model`.
  explicit ModelSource(const Qwen3Model& model) : model_(model) {}
  [[nodiscard]] bool has(const std::string& weight) const override;
  [[nodiscard]] WeightMatrix matrix(const WeightSpec& spec) override;
  [[nodiscard]] at::Tensor norm(const WeightSpec& spec) override;
  void check_nothing_left() const override {}

 private:
  const Qwen3Model& model_;
};

}  // namespace qf
