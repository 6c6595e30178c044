#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "qwen3fp4/model/config.h"

namespace qf {

enum class WeightKind { kEmbedding, kNorm, kLinear, kHead };

struct WeightSpec {
  std::string name;  // Hugging Face's, e.g. "model.layers.3.self_attn.q_proj.weight"
  std::vector<std::int64_t> shape;
  WeightKind kind;
};

// THE inventory: every weight of a model exactly once, in forward order. Load, check, count,
// convert and save all walk it. The head (`lm_head.weight`) is last; `with_head` says whether the
// file holds one: always for untied models, and for tied ones whose head was quantised beside a raw
// embedding.
void for_each_weight(const ModelConfig& config, bool with_head,
                     const std::function<void(const WeightSpec&)>& visit);

}  // namespace qf
