#include "train_runner.h"

#include <ATen/ATen.h>

#include <utility>

#include "qwen3fp4/model/model_source.h"
#include "qwen3fp4/train/forward.h"

namespace qf {
namespace {

PackedRows one_sequence(const ModelConfig& config, at::Device device,
                        std::span<const std::int64_t> ids) {
  const std::span<const std::int64_t> sequences[] = {ids};
  return RowPacker(config, device).pack(sequences);
}

}  // namespace

ModelWeights frozen_weights(const Qwen3Model& model, const Backend& backend) {
  ModelSource source(model);
  return ModelWeights::load(model.config(), source, backend,
                            [](const WeightSpec&, const WeightMatrix&) { return nullptr; });
}

TrainRunner::TrainRunner(const Qwen3Model& model, const Backend& backend, ComputeDtype dtype,
                         std::span<const std::int64_t> ids, RowTap tap)
    : weights_(frozen_weights(model, backend)),
      rows_(one_sequence(model.config(), backend.device(), ids)),
      type_(scalar_type(dtype)),
      tap_(std::move(tap)) {}

void TrainRunner::run(std::int64_t stage, const std::function<void(std::int64_t)>& before_piece) {
  if (before_piece) before_piece(0);
  const Tap tap = [this](std::string_view module, const at::Tensor& output) {
    const auto here = output.to(at::kCPU, at::kFloat);
    const auto next = tap_(module, 0, here);
    return next.is_same(here) ? output : next.to(output.options());
  };
  const TrainingPass pass(weights_, rows_, type_, tap);
  if (stage == 0) {
    x_ND_ = pass.embed();
  } else if (stage <= weights_.config().num_hidden_layers) {
    x_ND_ = pass.layer(stage - 1, x_ND_);
  } else {
    (void)pass.logits(pass.final_norm(std::exchange(x_ND_, {})));
  }
}

}  // namespace qf
