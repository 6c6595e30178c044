#pragma once

#include <cstdint>

#include "qwen3fp4/backend/backend.h"
#include "qwen3fp4/formats/dat.h"
#include "qwen3fp4/memory/plan.h"
#include "qwen3fp4/model/config.h"
#include "qwen3fp4/model/kv_cache.h"
#include "qwen3fp4/quant/weight_matrix.h"

namespace qf {

// How much of a model a run uses at once.
struct InferenceRun {
  std::int64_t context = 0;      // tokens of the KV cache
  std::int64_t prompt = 0;       // of the longest prompt
  std::int64_t logit_rows = 1;   // positions whose logits are there at once,
  std::int64_t logit_bytes = 8;  // and what each of them takes: logits, and what is made of them
  KvCacheType kv_cache = KvCacheType::kAuto;
};

// Bytes of a model's weights in memory, from its file's headers, or by shapes: projections and head
// in `format`, embedding in bf16, norms in f32.
[[nodiscard]] std::int64_t weight_bytes(const DatReader& file);
[[nodiscard]] std::int64_t weight_bytes(const ModelConfig& config, WeightFormat format);

// Without reading a weight. `weights`: from weight_bytes().
[[nodiscard]] MemoryPlan plan_inference(const ModelConfig& config, std::int64_t weights,
                                        const Backend& backend, const InferenceRun& run);

}  // namespace qf
