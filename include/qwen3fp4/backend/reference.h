#pragma once

#include "qwen3fp4/backend/backend.h"

namespace qf {

// Plain libtorch in fp32, the weight unpacked whole for every product: what the others are compared
// with.
class ReferenceBackend final : public Backend {
 public:
  [[nodiscard]] std::string_view name() const override { return "reference"; }
  [[nodiscard]] std::string description() const override;
  [[nodiscard]] LinearMode linear_mode() const override { return LinearMode::kReference; }
  [[nodiscard]] at::Tensor linear(const at::Tensor& x_TI,
                                  const WeightMatrix& weight) const override;
};

}  // namespace qf
