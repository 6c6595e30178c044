#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>

#include "qwen3fp4/model/qwen3_model.h"
#include "qwen3fp4/model/weights.h"
#include "qwen3fp4/run/checkpoint_source.h"

namespace qf {

// f32 of the spec's shape: a weight before it was quantised; of a head that the source ties, the
// embedding. Throws, naming the weight and `flag`, where the source has none of that shape.
[[nodiscard]] at::Tensor master_of(const CheckpointSource& source, const WeightSpec& spec,
                                   std::string_view flag);

// A model in main memory with every packed weight as it was before it was quantised: dense, of the
// type in which `source` has it (f32 of block-quantised ones). The others are shared.
[[nodiscard]] Qwen3Model with_masters(const Qwen3Model& model, const CheckpointSource& source,
                                      std::string_view flag);

// The first weight that is packed, by name; empty when none is, so that the model is its own
// master.
[[nodiscard]] std::string first_packed_weight(const Qwen3Model& model);

}  // namespace qf
