#pragma once

#include <memory>

#include "qwen3fp4/kernels/adam_step.h"
#include "qwen3fp4/train/trained_weight.h"

namespace qf {

// The step as the kernels take it.
[[nodiscard]] AdamRule adam_rule(const AdamStep& step, std::uint32_t tensor);
// Throws unless `gradient` is f32 or bf16 [count, cols] on `device`.
void check_gradient(const at::Tensor& gradient, at::IntArrayRef shape, at::Device device);

// An NVFP4 weight with E4M3 scales in rows.
[[nodiscard]] std::unique_ptr<TrainedWeight> make_packed_weight(
    const WeightMatrix& weight, const TrainedWeightOptions& options);

}  // namespace qf
