#pragma once

#include <string>
#include <vector>

#include "qwen3fp4/model/qwen3_model.h"

namespace qf {

struct ScaleCheckRow {
  std::string what;    // "model.layers.0.self_attn.q_proj: 128x4 tiles", "cpu, 5 tokens: scale 448"
  double max_abs = 0;  // the largest difference from what it should be; NaN counts as infinite
  [[nodiscard]] bool passed() const { return max_abs == 0; }
};

// Block scales of every NVFP4 weight, and of activations as wide as it, from rows to 128x4 tiles
// and back (padding must be 0); then layers whose weights, inputs and answers are written down
// here, one for each factor that a reader can get wrong, through every backend. All of it must be
// exact.
[[nodiscard]] std::vector<ScaleCheckRow> scale_check(const Qwen3Model& model);

// The layers alone, through one backend.
[[nodiscard]] std::vector<ScaleCheckRow> check_known_layers(const Backend& backend);

}  // namespace qf
