#pragma once

#include "qwen3fp4/model/qwen3_model.h"
#include "qwen3fp4/train/model_weights.h"

namespace qf {

// A model in training as it is now, for generating: it computes with the same codes and norms, on
// the same backend. Shares what that backend reads as training stores it, so it is good until the
// next step; where it wants another layout (cuda), it holds a copy of the codes.
[[nodiscard]] Qwen3Model snapshot(const ModelWeights& model);

}  // namespace qf
