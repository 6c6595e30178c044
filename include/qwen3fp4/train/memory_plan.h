#pragma once

#include <cstdint>
#include <vector>

#include "qwen3fp4/formats/dat.h"
#include "qwen3fp4/memory/plan.h"
#include "qwen3fp4/train/batch.h"
#include "qwen3fp4/train/model_weights.h"
#include "qwen3fp4/train/start.h"
#include "qwen3fp4/train/trainer.h"

namespace qf {

// The sizes of a model to train that a plan needs.
struct TrainShapes {
  ModelConfig config;
  bool on_device = false;  // a GPU
  std::int64_t weights = 0, states = 0;
  std::int64_t teacher = 0;  // bytes of a teacher's weights that it does not share with the model
  std::int64_t first_trained_layer = 0;
};
// Of loaded models; `teacher`: nullptr without.
[[nodiscard]] TrainShapes shapes_of(const ModelWeights& model, const ModelWeights* teacher);
// Of a file by its headers, as ModelWeights::load() with make_trained() would make it.
// `keeps_copy`: the model as it is at the start is a teacher.
[[nodiscard]] TrainShapes shapes_of(const DatReader& file, const ModelConfig& config,
                                    const TrainStart& start, bool on_device, bool keeps_copy);
// Of random weights: projections and head in NVFP4.
[[nodiscard]] TrainShapes synthetic_shapes(const ModelConfig& config, const TrainStart& start,
                                           bool on_device);

// For steps like those of `batches`.
[[nodiscard]] MemoryPlan plan_memory(const TrainShapes& shapes, const TrainSettings& settings,
                                     const std::vector<TrainBatch>& batches);

}  // namespace qf
