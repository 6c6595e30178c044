#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string_view>

#include "qwen3fp4/backend/backend.h"
#include "qwen3fp4/train/batch.h"
#include "qwen3fp4/train/model_weights.h"
#include "qwen3fp4/train/packed_rows.h"
#include "qwen3fp4/train/schedule.h"

namespace qf {

// How much of the logits exists at a time: [tokens, head_rows] as f32, and head_rows rows of the
// head dequantised and of its gradient.
struct LossChunks {
  std::int64_t head_rows = 8192;
  std::int64_t tokens = 2048;
};

// As it trains by default: kBF16 on cuda, else kF32.
[[nodiscard]] ComputeDtype default_compute(std::string_view backend);

struct TrainSettings {
  ComputeDtype compute = ComputeDtype::kF32;
  LearningSchedule schedule;
  double beta1 = 0.9;
  double beta2 = 0.99;
  double epsilon = 1e-8;
  double weight_decay = 0;  // of linears and head, not of norms
  // The largest global norm of a step's gradient, which is scaled down to it; 0: no clipping.
  double clip = 1.0;
  // By this step's own norm, at the price of a second backward pass. Otherwise by the last step's,
  // except in the first one.
  bool clip_exact = false;
  // The loss is the mean cross-entropy over the batch's kTokens targets, plus this times the mean
  // KL(teacher || model) over its kTeacher targets.
  double kl_weight = 1;
  // Whole sequences run together until they have more tokens than this.
  std::int64_t micro_batch_tokens = 8192;
  // Rows of a weight that one call of the optimiser takes; 0: all there are. Never changes a bit.
  std::int64_t step_chunk_rows = 0;
  LossChunks loss_chunks;
  std::uint64_t seed = 0;
};

struct BatchLoss {
  double loss = 0;
  double cross_entropy = 0;  // means; 0 without such targets
  double kl = 0;
  std::int64_t token_targets = 0, teacher_targets = 0;
  std::int64_t tokens = 0;
};

struct StepResult {
  std::int64_t step = 0;  // counts from 1
  BatchLoss batch;
  double learning_rate = 0;
  double gradient_norm = 0;   // before clipping
  double gradient_scale = 1;  // what clipping multiplied it with
};

// The best of the evaluations on held-out data so far.
struct BestEvaluation {
  std::int64_t step = 0;  // 0: none yet
  double loss = 0;
  std::int64_t waited = 0;  // evaluations since, none of them better
};

// Where a run stands, beside the weights' own states.
struct TrainProgress {
  std::int64_t steps_done = 0;
  double last_norm = 0;
  BestEvaluation best = {};
};

// Trains a model's weights. One step's memory: the inputs of all blocks, and the weights,
// activations and gradients of one block.
class Trainer {
 public:
  // Borrows both; `teacher` (nullptr: none) is what kTeacher targets are compared with, and must
  // have the model's vocabulary.
  Trainer(const ModelWeights& model, const ModelWeights* teacher, TrainSettings settings);

  // Throws (exit code 3), naming the step and the first layer and operation, for a loss or gradient
  // that is not finite. After that the weights are not to be used any more: nothing is saved.
  // check_stop_request() between the layers of the forward pass.
  StepResult step(const TrainBatch& batch);
  // False once a step has thrown while it changed weights: they are then of no step, and nothing
  // that a checkpoint could hold.
  [[nodiscard]] bool whole() const { return !applying_; }
  // The loss alone.
  [[nodiscard]] BatchLoss evaluate(const TrainBatch& batch);

  [[nodiscard]] const TrainSettings& settings() const { return settings_; }
  [[nodiscard]] const TrainProgress& progress() const { return progress_; }
  void resume(const TrainProgress& progress) { progress_ = progress; }
  // Counts an evaluation after the last step; true when it is the best so far.
  bool record_evaluation(double loss);
  [[nodiscard]] const ModelWeights& model() const { return model_; }

 private:
  friend class TrainStep;
  const ModelWeights& model_;
  const ModelWeights* teacher_;
  TrainSettings settings_;
  RowPacker packer_;
  std::optional<RowPacker> teacher_packer_;
  TrainProgress progress_;
  bool applying_ = false;
};

}  // namespace qf
