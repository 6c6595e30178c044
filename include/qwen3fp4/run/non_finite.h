#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "qwen3fp4/model/kv_cache.h"
#include "qwen3fp4/model/qwen3_model.h"

namespace qf {

[[nodiscard]] bool all_finite(std::span<const float> values);

struct NonFiniteOrigin {
  std::string module;         // Hugging Face's path, "model.layers.3.mlp.down_proj"
  std::int64_t position = 0;  // of the first token it happened to
};

// Runs tokens [first, end) of `tokens` again, over a cache cut back to `first`, and names the first
// module (in forward order) whose output is not finite; "lm_head" when only the logits are not.
[[nodiscard]] NonFiniteOrigin find_non_finite(const Qwen3Model& model, KvCache& cache,
                                              std::span<const std::int64_t> tokens,
                                              std::int64_t first);

}  // namespace qf
