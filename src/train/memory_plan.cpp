#include "qwen3fp4/train/memory_plan.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <set>

namespace qf {
namespace {

// The largest counts of any batch.
struct Counts {
  std::int64_t tokens = 0;        // of a batch
  std::int64_t micro_tokens = 0;  // of a micro-batch
  std::int64_t micro_batches = 0;
  std::int64_t targets = 0;
  std::int64_t teacher_targets = 0;

  void add(const TrainBatch& batch, std::int64_t micro_batch_tokens);
};

void Counts::add(const TrainBatch& batch, std::int64_t micro_batch_tokens) {
  std::int64_t all = 0;
  std::int64_t micro = 0;
  std::int64_t cuts = batch.empty() ? 0 : 1;
  std::int64_t marked = 0;
  std::int64_t taught = 0;
  for (const TrainSequence& sequence : batch) {
    const std::int64_t length = std::ssize(sequence.ids);
    if (micro > 0 && micro + length > micro_batch_tokens) {
      ++cuts;
      micro = 0;
    }
    micro += length;
    micro_tokens = std::max(micro_tokens, micro);
    all += length;
    const auto count = std::ranges::count(sequence.targets, true);
    marked += count;
    if (sequence.kind == TargetKind::kTeacher) taught += count;
  }
  tokens = std::max(tokens, all);
  micro_batches = std::max(micro_batches, cuts);
  targets = std::max(targets, marked);
  teacher_targets = std::max(teacher_targets, taught);
}

struct Widths {
  std::int64_t hidden, queries, keys, intermediate, type;
  std::int64_t layer_values = 0;    // of a layer's linears
  std::int64_t largest_values = 0;  // of its largest
};

Widths widths_of(const ModelWeights& model, const TrainSettings& settings) {
  const ModelConfig& config = model.config();
  Widths w{.hidden = config.hidden_size,
           .queries = config.num_attention_heads * config.head_dim,
           .keys = config.num_key_value_heads * config.head_dim,
           .intermediate = config.intermediate_size,
           .type = settings.compute == ComputeDtype::kF32 ? 4 : 2};
  for (const auto& weight : model.layer(0).linears) {
    const std::int64_t values = weight->weight().out_features() * weight->weight().in_features();
    w.layer_values += values;
    w.largest_values = std::max(w.largest_values, values);
  }
  return w;
}

// Bytes a token of BlockActivations, and of the way back through the MLP, which holds the most.
// f32 compute shares what needs no conversion.
std::int64_t activation_bytes(const Widths& w, bool qk_norm) {
  const std::int64_t own = w.type == 4 ? 0 : 1;
  const std::int64_t typed = w.hidden * 2 + w.queries * 2 + w.keys * 2 + w.intermediate * 3;
  const std::int64_t f32 = w.hidden * (1 + own) + (qk_norm ? w.queries + w.keys : 0);
  return typed * w.type + f32 * 4;
}
std::int64_t mlp_backward_bytes(const Widths& w) {
  return w.intermediate * 3 * w.type + w.hidden * (4 + (w.type == 4 ? 0 : w.type));
}

std::int64_t head_bytes(const ModelWeights& model, const TrainSettings& settings, const Counts& n,
                        const Widths& w) {
  const std::int64_t rows =
      std::min(settings.loss_chunks.head_rows, model.head().weight().out_features());
  const std::int64_t tokens = std::min(settings.loss_chunks.tokens, n.targets);
  const std::int64_t chunk_weights = rows * w.hidden * (w.type + 4);
  // Logits, one more like them while they change, and their gradient in the compute type. The CPU
  // makes them some rows at a time.
  const bool cuda = model.backend().device().is_cuda();
  const std::int64_t logits = tokens * rows * (w.type + (cuda ? 8 : 0));
  const std::int64_t states = n.targets * w.hidden * (4 + w.type + 4);
  return chunk_weights + logits + states + n.teacher_targets * w.hidden * w.type;
}

// Storage of the weights that `model` does not share with `other`.
std::int64_t own_bytes(const ModelWeights& model, const ModelWeights& other) {
  std::set<const void*> known;
  const auto visit = [](const ModelWeight& weight, const auto& use) {
    const WeightMatrix& matrix = weight.weight();
    use(matrix.codes());
    if (matrix.scales().defined()) use(matrix.scales());
  };
  other.for_each([&](const ModelWeight& weight) {
    visit(weight, [&](const at::Tensor& t) { known.insert(t.const_data_ptr()); });
  });
  std::size_t bytes = 0;
  model.for_each([&](const ModelWeight& weight) {
    visit(weight, [&](const at::Tensor& t) {
      if (!known.contains(t.const_data_ptr())) bytes += t.nbytes();
    });
  });
  return static_cast<std::int64_t>(bytes);
}

}  // namespace

std::int64_t MemoryPlan::peak() const {
  std::int64_t sum = 0;
  for (const auto& [name, bytes] : held) sum += bytes;
  std::int64_t most = 0;
  for (const auto& [name, bytes] : phases) most = std::max(most, bytes);
  return sum + most;
}

MemoryPlan plan_memory(const ModelWeights& model, const ModelWeights* teacher,
                       const TrainSettings& settings, const std::vector<TrainBatch>& batches) {
  Counts n;
  for (const TrainBatch& batch : batches) n.add(batch, settings.micro_batch_tokens);
  const Widths w = widths_of(model, settings);
  const ModelConfig& config = model.config();
  const std::int64_t kept = config.num_hidden_layers - model.first_trained_layer();
  const std::int64_t layer_weights = w.layer_values * w.type;
  const std::int64_t activations = n.micro_tokens * activation_bytes(w, config.qk_norm);
  const std::int64_t gradient =
      n.micro_batches > 1 ? w.layer_values * 4 : w.largest_values * w.type;

  MemoryPlan plan;
  plan.held = {{"weights", model.weight_bytes()},
               {"masters and optimiser states", model.state_bytes()}};
  if (teacher != nullptr) plan.held.emplace_back("teacher", own_bytes(*teacher, model));
  plan.held.emplace_back("inputs of the layers", (kept + 1) * n.tokens * w.hidden * w.type);
  plan.held.emplace_back("positions", n.tokens * config.head_dim * 8);
  plan.phases = {
      {"forward: a layer's weights and activations", layer_weights + activations},
      {"loss: a chunk of the head, its logits and gradient", head_bytes(model, settings, n, w)},
      {"backward: a layer's weights, activations and gradients",
       layer_weights + activations + n.micro_tokens * mlp_backward_bytes(w) +
           n.tokens * w.hidden * 4 + gradient}};
  return plan;
}

}  // namespace qf
