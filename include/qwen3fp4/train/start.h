#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "qwen3fp4/model/config.h"
#include "qwen3fp4/model/weights.h"
#include "qwen3fp4/run/checkpoint_source.h"
#include "qwen3fp4/train/model_weights.h"
#include "qwen3fp4/train/trained_weight.h"

namespace qf {

// Which weights train, and how they start.
struct TrainStart {
  TrainProfile profile = TrainProfile::kDefault;
  std::int64_t last_layers = 0;  // only these many layers, with the final norm and head; 0: all
  std::string freeze = {};       // ECMAScript regex of weights that stay as they are
  bool embedding = false;        // the embedding too
  std::uint64_t seed = 0;
  bool offload_moments = false;
  bool offload_master = false;
  // The weights before they were quantised: where masters start inside their cells. nullptr:
  // anywhere, at random. Borrowed.
  const CheckpointSource* master = nullptr;
};

// For one ModelWeights::load(). Throws (exit code 2) for a malformed pattern, too many layers, and
// the embedding together with last_layers.
[[nodiscard]] MakeTrained make_trained(const ModelConfig& config, const TrainStart& start);

// Whether a weight trains.
[[nodiscard]] std::function<bool(const WeightSpec&)> trained_weights(const ModelConfig& config,
                                                                     const TrainStart& start);

// The median block scale (times its tensor scale) of the NVFP4 linears that train, each counted by
// its own median: learning rates are stated against it. 0 when there are none.
[[nodiscard]] double median_block_scale(const ModelWeights& model);

}  // namespace qf
