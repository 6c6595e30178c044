#include "qwen3fp4/train/trainer.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>

#include "deterministic.h"
#include "gradient_step.h"
#include "head_loss.h"
#include "operations.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/memory/guard.h"
#include "qwen3fp4/train/forward.h"

// Shapes in this file: N rows (tokens) of a micro-batch, M rows whose prediction counts, D
// hidden_size.
namespace qf {
namespace {

// In the order in which the loss takes them.
constexpr std::array<TargetKind, 2> kKinds{TargetKind::kTokens, TargetKind::kTeacher};

using Sequences = std::vector<std::span<const std::int64_t>>;

// Rows whose prediction counts, and the tokens that follow them.
struct Targets {
  std::vector<std::int64_t> rows, next;
  void add(const TrainSequence& sequence, std::int64_t start) {
    for (std::size_t i = 1; i < sequence.ids.size(); ++i) {
      if (!sequence.targets[i]) continue;
      rows.push_back(start + static_cast<std::int64_t>(i) - 1);
      next.push_back(sequence.ids[i]);
    }
  }
  [[nodiscard]] std::int64_t count() const { return std::ssize(rows); }
};

// Sequences that go through a block together.
struct MicroBatch {
  PackedRows rows;
  std::array<Targets, kKinds.size()> targets;  // by kind
  std::optional<PackedRows> teacher_rows;      // the kTeacher sequences alone
  Targets teacher_targets;                     // the same targets, in teacher_rows
  std::vector<at::Tensor> inputs;              // of the blocks from the first trained one on
  at::Tensor x_ND;                             // the residual stream on its way up
  at::Tensor dx_ND;                            // f32: its gradient on its way down
};

at::Tensor on_device(const std::vector<std::int64_t>& values, at::Device device) {
  return at::tensor(values, at::kLong).to(device);
}

void check_sequence(const TrainSequence& sequence) {
  QF_CHECK(sequence.targets.size() == sequence.ids.size(),
           "a sequence of {} tokens: expected as many target marks, found {}", sequence.ids.size(),
           sequence.targets.size());
  QF_CHECK(sequence.ids.empty() || !sequence.targets.front(),
           "a sequence's first token cannot be a target: nothing comes before it");
}

class LayerSink final : public BlockSink {
 public:
  LayerSink(const LayerWeights& weights, GradientStep& step) : weights_(weights), step_(step) {}
  void linear(Linear which, const at::Tensor& dy_NO, const at::Tensor& x_NI) override {
    step_.linear(weights_[which], dy_NO, x_NI);
  }
  void norm(Norm which, const at::Tensor& gradient) override {
    step_.gradient(weights_[which], gradient.view({1, -1}));
  }

 private:
  const LayerWeights& weights_;
  GradientStep& step_;
};

}  // namespace

// One batch on its way through the model and back.
class TrainStep {
 public:
  TrainStep(Trainer& trainer, const TrainBatch& batch);
  // With the inputs that backward() needs, or without.
  BatchLoss forward(bool keep_inputs);
  // Returns the gradient's global norm. Not again after it was applied.
  double backward(const GradientStep::Options& options);
  [[nodiscard]] std::int64_t micro_batches() const { return std::ssize(micro_batches_); }

 private:
  void add_micro_batch(std::span<const TrainSequence> sequences);
  void run_layers(bool keep_inputs);
  void gather_targets();
  [[nodiscard]] std::vector<LossPart> loss_parts();
  [[nodiscard]] at::Tensor teacher_hidden();
  void check_finite(const BatchLoss& loss) const;
  void head_backward(GradientStep& step, bool last);
  void layer_backward(std::int64_t layer, GradientStep& step, bool last);
  void embedding_backward(GradientStep& step);

  const ModelWeights& model_;
  const ModelWeights* teacher_;
  const TrainSettings& settings_;
  RowPacker& packer_;
  std::optional<RowPacker>& teacher_packer_;
  std::int64_t step_;
  at::ScalarType type_;
  at::Device device_;
  std::vector<MicroBatch> micro_batches_;
  BatchLoss loss_;
  at::Tensor target_x_;  // [M, D] f32: the last block's output where the prediction counts
  at::Tensor target_rstd_;
  HeadLoss head_loss_;
};

TrainStep::TrainStep(Trainer& trainer, const TrainBatch& batch)
    : model_(trainer.model_),
      teacher_(trainer.teacher_),
      settings_(trainer.settings_),
      packer_(trainer.packer_),
      teacher_packer_(trainer.teacher_packer_),
      step_(trainer.progress_.steps_done + 1),
      type_(settings_.compute == ComputeDtype::kF32 ? at::kFloat : at::kBFloat16),
      device_(model_.backend().device()),
      head_loss_(model_.head(), teacher_ != nullptr ? &teacher_->head() : nullptr,
                 settings_.loss_chunks) {
  const std::span<const TrainSequence> all(batch);
  std::size_t first = 0;
  std::int64_t tokens = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    check_sequence(all[i]);
    const std::int64_t length = std::ssize(all[i].ids);
    if (i > first && tokens + length > settings_.micro_batch_tokens) {
      add_micro_batch(all.subspan(first, i - first));
      first = i;
      tokens = 0;
    }
    tokens += length;
  }
  if (first < all.size()) add_micro_batch(all.subspan(first));
  QF_CHECK(loss_.token_targets + loss_.teacher_targets > 0,
           "a batch of {} sequences: expected at least one target token, found none", all.size());
  QF_CHECK(loss_.teacher_targets == 0 || teacher_ != nullptr,
           "a batch has {} targets to compare with a teacher, and there is none (--teacher)",
           loss_.teacher_targets);
}

void TrainStep::add_micro_batch(std::span<const TrainSequence> sequences) {
  Sequences all;
  Sequences taught;
  MicroBatch micro;
  std::int64_t start = 0;
  std::int64_t taught_start = 0;
  for (const TrainSequence& sequence : sequences) {
    all.emplace_back(sequence.ids);
    micro.targets[static_cast<std::size_t>(sequence.kind)].add(sequence, start);
    start += std::ssize(sequence.ids);
    if (sequence.kind != TargetKind::kTeacher) continue;
    taught.emplace_back(sequence.ids);
    micro.teacher_targets.add(sequence, taught_start);
    taught_start += std::ssize(sequence.ids);
  }
  micro.rows = packer_.pack(all);
  if (micro.teacher_targets.count() > 0 && teacher_ != nullptr) {
    micro.teacher_rows = teacher_packer_->pack(taught);
  }
  loss_.tokens += start;
  loss_.token_targets += micro.targets[0].count();
  loss_.teacher_targets += micro.targets[1].count();
  micro_batches_.push_back(std::move(micro));
}

void TrainStep::run_layers(bool keep_inputs) {
  for (MicroBatch& micro : micro_batches_) micro.x_ND = model_.embed(micro.rows.ids).to(type_);
  const std::int64_t first_kept = model_.first_trained_layer();
  for (std::int64_t layer = 0; layer < model_.config().num_hidden_layers; ++layer) {
    check_stop_request();
    const auto weights = model_.block(layer, type_);
    for (MicroBatch& micro : micro_batches_) {
      const Block block{model_.config(), model_.backend(), weights, micro.rows, layer};
      if (keep_inputs && layer >= first_kept) micro.inputs.push_back(micro.x_ND);
      micro.x_ND = block_output(block, block_activations(block, micro.x_ND));
    }
  }
}

void TrainStep::gather_targets() {
  std::vector<at::Tensor> parts;
  for (const TargetKind kind : kKinds) {
    for (const MicroBatch& micro : micro_batches_) {
      const auto& rows = micro.targets[static_cast<std::size_t>(kind)].rows;
      parts.push_back(micro.x_ND.index_select(0, on_device(rows, device_)));
    }
  }
  target_x_ = at::cat(parts, 0).to(at::kFloat);
}

at::Tensor TrainStep::teacher_hidden() {
  std::vector<at::Tensor> parts;
  for (const MicroBatch& micro : micro_batches_) {
    if (!micro.teacher_rows) continue;
    const auto x_ND = run_blocks(*teacher_, *micro.teacher_rows, type_);
    const auto x_MD = x_ND.index_select(0, on_device(micro.teacher_targets.rows, device_));
    parts.push_back(final_norm(*teacher_, x_MD.to(at::kFloat)).hidden_MD.to(type_));
  }
  return at::cat(parts, 0);
}

std::vector<LossPart> TrainStep::loss_parts() {
  gather_targets();
  auto normed = final_norm(model_, target_x_);
  target_rstd_ = std::move(normed.rstd);
  const auto hidden_MD = normed.hidden_MD.to(type_);
  std::vector<LossPart> parts;
  if (loss_.token_targets > 0) {
    std::vector<std::int64_t> next;
    for (const MicroBatch& micro : micro_batches_) {
      next.insert(next.end(), micro.targets[0].next.begin(), micro.targets[0].next.end());
    }
    parts.push_back({.hidden_MD = hidden_MD.narrow(0, 0, loss_.token_targets),
                     .next_M = on_device(next, device_),
                     .row_weight = 1.0 / static_cast<double>(loss_.token_targets)});
  }
  if (loss_.teacher_targets > 0) {
    parts.push_back(
        {.hidden_MD = hidden_MD.narrow(0, loss_.token_targets, loss_.teacher_targets),
         .teacher_MD = teacher_hidden(),
         .row_weight = settings_.kl_weight / static_cast<double>(loss_.teacher_targets)});
  }
  return parts;
}

BatchLoss TrainStep::forward(bool keep_inputs) {
  run_layers(keep_inputs);
  const auto losses = head_loss_.forward(loss_parts());
  std::vector<at::Tensor> means;
  for (const at::Tensor& loss : losses) means.push_back(loss.to(at::kDouble).mean());
  const auto on_host = at::stack(means).to(at::kCPU);  // waits for the device
  std::size_t next = 0;
  const auto take = [&] { return on_host.const_data_ptr<double>()[next++]; };
  if (loss_.token_targets > 0) loss_.cross_entropy = take();
  if (loss_.teacher_targets > 0) loss_.kl = take();
  loss_.loss = loss_.cross_entropy + settings_.kl_weight * loss_.kl;
  check_finite(loss_);
  return loss_;
}

void TrainStep::check_finite(const BatchLoss& loss) const {
  if (std::isfinite(loss.loss)) return;
  for (const MicroBatch& micro : micro_batches_) {
    const auto module = first_non_finite(model_, micro.rows, type_);
    if (module.empty()) continue;
    fail(ExitCode::kNonFinite,
         "step {}: the loss is {}: the output of {} is the first that is not finite", step_,
         loss.loss, module);
  }
  fail(ExitCode::kNonFinite,
       "step {}: the loss is {}: the output of {} is the first that is not finite", step_,
       loss.loss, std::isfinite(loss.cross_entropy) ? "the teacher" : "lm_head");
}

void TrainStep::head_backward(GradientStep& step, bool last) {
  const ModelWeight& head = model_.head();
  HeadLoss::TakeGradient take;
  if (head.trained() != nullptr) {
    take = [&](std::int64_t first, const at::Tensor& gradient) {
      step.rows(head, first, gradient, first + gradient.size(0) == head.weight().out_features());
    };
  }
  const auto dhidden_MD = at::cat(head_loss_.backward(take), 0);
  const ModelWeight& norm = model_.norm();
  auto back =
      rms_norm_backward(dhidden_MD, target_x_, target_rstd_, norm.rows(at::kFloat).view({-1}));
  step.rows(norm, 0, back.weight.view({1, -1}), true);
  if (last) {
    head_loss_.forget();
    target_x_.reset();
  }
  for (MicroBatch& micro : micro_batches_) micro.dx_ND = at::zeros_like(micro.x_ND, at::kFloat);
  std::int64_t first = 0;
  for (const TargetKind kind : kKinds) {
    for (MicroBatch& micro : micro_batches_) {
      const Targets& targets = micro.targets[static_cast<std::size_t>(kind)];
      micro.dx_ND.index_copy_(0, on_device(targets.rows, device_),
                              back.x.narrow(0, first, targets.count()));
      first += targets.count();
    }
  }
}

void TrainStep::layer_backward(std::int64_t layer, GradientStep& step, bool last) {
  const auto weights = model_.block(layer, type_);
  LayerSink sink(model_.layer(layer), step);
  const auto kept = static_cast<std::size_t>(layer - model_.first_trained_layer());
  for (MicroBatch& micro : micro_batches_) {
    const Block block{model_.config(), model_.backend(), weights, micro.rows, layer};
    micro.dx_ND =
        block_backward(block, block_activations(block, micro.inputs[kept]), micro.dx_ND, sink);
    if (last) micro.inputs[kept].reset();
  }
  step.end_block();
}

// Every row is stepped: those that no token of the batch took have a gradient of 0, but moments of
// steps before.
void TrainStep::embedding_backward(GradientStep& step) {
  const ModelWeight& embedding = model_.embedding();
  if (embedding.trained() == nullptr) return;
  std::vector<at::Tensor> parts;
  std::vector<std::pair<std::int64_t, std::int64_t>> taken;  // token, row of all micro-batches
  for (const MicroBatch& micro : micro_batches_) {
    const auto* const ids = micro.rows.ids.const_data_ptr<std::int64_t>();
    for (std::int64_t i = 0; i < micro.rows.count(); ++i) {
      taken.emplace_back(ids[i], std::ssize(taken));
    }
    parts.push_back(micro.dx_ND);
  }
  const auto dx_ND = at::cat(parts);
  std::ranges::sort(taken);
  const std::int64_t vocab = embedding.weight().out_features();
  const std::int64_t chunk = settings_.loss_chunks.head_rows;
  auto next = taken.begin();
  for (std::int64_t first = 0; first < vocab; first += chunk) {
    const std::int64_t count = std::min(chunk, vocab - first);
    std::vector<std::int64_t> tokens;
    std::vector<std::int64_t> rows;
    for (; next != taken.end() && next->first < first + count; ++next) {
      tokens.push_back(next->first - first);
      rows.push_back(next->second);
    }
    auto gradient = at::zeros({count, dx_ND.size(1)}, dx_ND.options());
    if (!rows.empty()) {
      const DeterministicOrder order;
      gradient.index_add_(0, on_device(tokens, device_),
                          dx_ND.index_select(0, on_device(rows, device_)));
    }
    step.rows(embedding, first, gradient, first + count == vocab);
  }
}

double TrainStep::backward(const GradientStep::Options& options) {
  GradientStep step(options);
  head_backward(step, options.apply);
  const std::int64_t first = model_.first_trained_layer();
  for (std::int64_t layer = model_.config().num_hidden_layers - 1; layer >= first; --layer) {
    layer_backward(layer, step, options.apply);
  }
  embedding_backward(step);
  return step.norm();
}

ComputeDtype default_compute(std::string_view backend) {
  return backend == "cuda" ? ComputeDtype::kBF16 : ComputeDtype::kF32;
}

Trainer::Trainer(const ModelWeights& model, const ModelWeights* teacher, TrainSettings settings)
    : model_(model),
      teacher_(teacher),
      settings_(settings),
      packer_(model.config(), model.backend().device()) {
  QF_CHECK(teacher == nullptr || teacher->config().vocab_size == model.config().vocab_size,
           "the teacher: expected the model's {} tokens, found {}", model.config().vocab_size,
           teacher->config().vocab_size);
  if (teacher != nullptr) teacher_packer_.emplace(teacher->config(), teacher->backend().device());
  QF_CHECK(settings_.compute == ComputeDtype::kF32 || settings_.compute == ComputeDtype::kBF16,
           "training: expected to compute in fp32 or bf16, found another type");
  QF_CHECK(settings_.clip >= 0, "clipping: expected a norm of at least 0, found {}",
           settings_.clip);
}

StepResult Trainer::step(const TrainBatch& batch) {
  const c10::InferenceMode no_autograd;
  TrainStep step(*this, batch);
  StepResult result;
  result.step = progress_.steps_done + 1;
  result.batch = step.forward(/*keep_inputs=*/true);
  begin_memory_phase("forward_done");
  result.learning_rate = settings_.schedule.learning_rate(result.step);

  GradientStep::Options options{.micro_batches = step.micro_batches(),
                                .chunk_rows = settings_.step_chunk_rows};
  options.adam = {.learning_rate = result.learning_rate,
                  .beta1 = settings_.beta1,
                  .beta2 = settings_.beta2,
                  .epsilon = settings_.epsilon,
                  .weight_decay = settings_.weight_decay,
                  .step = result.step,
                  .seed = settings_.seed};
  if (settings_.clip > 0) {
    double norm = progress_.last_norm;
    if (settings_.clip_exact || result.step == 1) {
      options.apply = false;
      norm = step.backward(options);
      check_stop_request();
      options.apply = true;
    }
    if (norm > settings_.clip) result.gradient_scale = settings_.clip / norm;
  }
  options.adam.gradient_scale = result.gradient_scale;
  applying_ = true;
  result.gradient_norm = step.backward(options);
  applying_ = false;
  // One moment: each tensor's gradient is applied as soon as it is there.
  begin_memory_phase("backward_done");
  begin_memory_phase("optimizer_step_done");
  progress_.steps_done = result.step;
  progress_.last_norm = result.gradient_norm;
  return result;
}

bool Trainer::record_evaluation(double loss) {
  BestEvaluation& best = progress_.best;
  if (best.step > 0 && loss >= best.loss) {
    ++best.waited;
    return false;
  }
  best = {.step = progress_.steps_done, .loss = loss};
  return true;
}

BatchLoss Trainer::evaluate(const TrainBatch& batch) {
  const c10::InferenceMode no_autograd;
  return TrainStep(*this, batch).forward(/*keep_inputs=*/false);
}

}  // namespace qf
