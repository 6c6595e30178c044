#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "qwen3fp4/train/batch.h"
#include "qwen3fp4/train/model_weights.h"
#include "qwen3fp4/train/trainer.h"

namespace qf {

// What a run holds on its device: `held` from the first step to the last, and of `phases`, which
// follow each other in a step, one at a time. Bytes of tensors.
struct MemoryPlan {
  std::vector<std::pair<std::string, std::int64_t>> held, phases;
  [[nodiscard]] std::int64_t peak() const;
};
// For steps like those of `batches`. `teacher`: nullptr without; bytes that it shares with the
// model are not counted again.
[[nodiscard]] MemoryPlan plan_memory(const ModelWeights& model, const ModelWeights* teacher,
                                     const TrainSettings& settings,
                                     const std::vector<TrainBatch>& batches);

}  // namespace qf
