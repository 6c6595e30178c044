#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include "qwen3fp4/quant/weight_matrix.h"

namespace qf {

// Our own bug when it fails, but one that would read past the end of a tensor: checked in release
// builds too.
inline void check_linear(const at::Tensor& x_TI, const WeightMatrix& weight) {
  TORCH_INTERNAL_ASSERT(x_TI.dim() == 2 && x_TI.size(1) == weight.in_features() &&
                            x_TI.scalar_type() == at::kFloat && x_TI.device().is_cpu(),
                        "linear: expected f32 [T, ", weight.in_features(), "], got ",
                        x_TI.scalar_type(), " ", x_TI.sizes());
}

}  // namespace qf
