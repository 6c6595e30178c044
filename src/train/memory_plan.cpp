#include "qwen3fp4/train/memory_plan.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <string_view>

#include "operations.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/tensor_info.h"
#include "qwen3fp4/model/packed_entries.h"
#include "qwen3fp4/model/weights.h"
#include "qwen3fp4/run/inference_plan.h"
#include "qwen3fp4/run/name_filter.h"
#include "qwen3fp4/train/trained_weight.h"

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

Widths widths_of(const ModelConfig& config, const TrainSettings& settings) {
  Widths w{.hidden = config.hidden_size,
           .queries = config.num_attention_heads * config.head_dim,
           .keys = config.num_key_value_heads * config.head_dim,
           .intermediate = config.intermediate_size,
           .type = settings.compute == ComputeDtype::kF32 ? 4 : 2};
  const std::int64_t outputs[] = {w.queries, w.keys, w.keys, w.intermediate, w.intermediate};
  for (const std::int64_t rows : outputs) w.layer_values += rows * w.hidden;
  w.layer_values += w.hidden * (w.queries + w.intermediate);  // o, down
  w.largest_values = w.hidden * std::max(w.queries, w.intermediate);
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

// cuBLAS's own memory, which libtorch's allocator gives it: 32 MiB on Hopper, less elsewhere.
constexpr std::int64_t kProductsWorkspace = std::int64_t{32} << 20;

std::int64_t head_bytes(const TrainShapes& shapes, const TrainSettings& settings, const Counts& n,
                        const Widths& w) {
  const std::int64_t rows = std::min(settings.loss_chunks.head_rows, shapes.config.vocab_size);
  const std::int64_t tokens = std::min(settings.loss_chunks.tokens, n.targets);
  const auto type = w.type == 4 ? at::kFloat : at::kBFloat16;
  const std::int64_t operands = shapes.on_device ? 0
                                                 : (n.teacher_targets > 0 ? 3 : 2) *
                                                       RightOperand::bytes(rows * w.hidden, type);
  const std::int64_t chunk_weights = rows * w.hidden * (w.type + 4) + operands;
  // Logits, one more like them while they change, and their gradient in the compute type. The CPU
  // makes them some rows at a time.
  const std::int64_t logits = tokens * rows * (w.type + (shapes.on_device ? 8 : 0));
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

TrainShapes shapes_of(const ModelWeights& model, const ModelWeights* teacher) {
  return {.config = model.config(),
          .on_device = model.backend().device().is_cuda(),
          .weights = model.weight_bytes(),
          .states = model.state_bytes(),
          .teacher = teacher != nullptr ? own_bytes(*teacher, model) : 0,
          .first_trained_layer = model.first_trained_layer()};
}

namespace {

// Adds what trains: states, and a copy of its codes where the start is kept.
void add_trained(TrainShapes& shapes, const TrainStart& start, bool with_head, bool keeps_copy,
                 const std::function<WeightFormat(const WeightSpec&)>& format_of) {
  shapes.first_trained_layer = shapes.config.num_hidden_layers;
  const auto trains = trained_weights(shapes.config, start);
  NameFilter freeze("--freeze", "weight", start.freeze);
  bool any = false;
  for_each_weight(shapes.config, with_head, [&](const WeightSpec& spec) {
    (void)freeze.matches(spec.name);
    if (!trains(spec)) return;
    any = true;
    const std::int64_t cols = spec.shape.back();
    const std::int64_t rows = element_count(spec.shape) / cols;
    const WeightFormat format = format_of(spec);
    shapes.states += state_bytes(start.profile, format, rows, cols);
    if (keeps_copy) {
      shapes.teacher += format == WeightFormat::kNvfp4 ? rows * cols / 2
                        : format == WeightFormat::kF32 ? rows * cols * 4
                                                       : rows * cols * 2;
    }
    if (spec.kind == WeightKind::kEmbedding) {
      check_embedding_trains(with_head);
      shapes.first_trained_layer = 0;
    }
    constexpr std::string_view kPrefix = "model.layers.";
    if (!spec.name.starts_with(kPrefix)) return;
    shapes.first_trained_layer = std::min<std::int64_t>(
        shapes.first_trained_layer, std::stoll(spec.name.substr(kPrefix.size())));
  });
  freeze.check_matched_something();
  if (!any) {
    fail(ExitCode::kUsage,
         "--freeze: expected something left to train, found that '{}' fits all that would",
         start.freeze);
  }
}

}  // namespace

TrainShapes shapes_of(const DatReader& file, const ModelConfig& config, const TrainStart& start,
                      bool on_device, bool keeps_copy) {
  TrainShapes shapes{.config = config, .on_device = on_device, .weights = weight_bytes(file)};
  std::set<std::string> packed;
  for (const PackedGroup& group : packed_groups(file)) packed.insert(group.weight);
  const bool with_head =
      packed.contains("lm_head.weight") || file.find("lm_head.weight") != nullptr;
  add_trained(shapes, start, with_head, keeps_copy, [&](const WeightSpec& spec) {
    if (packed.contains(spec.name)) return WeightFormat::kNvfp4;
    const TensorInfo* const dense = file.find(spec.name);
    const bool f32 = dense != nullptr && dense->type == DType::kF32;
    // Norms are f32 once they are loaded.
    return spec.kind == WeightKind::kNorm || f32 ? WeightFormat::kF32 : WeightFormat::kBF16;
  });
  return shapes;
}

TrainShapes synthetic_shapes(const ModelConfig& config, const TrainStart& start, bool on_device) {
  TrainShapes shapes{.config = config,
                     .on_device = on_device,
                     .weights = weight_bytes(config, WeightFormat::kNvfp4)};
  add_trained(shapes, start, /*with_head=*/true, /*keeps_copy=*/false, [](const WeightSpec& spec) {
    return spec.kind == WeightKind::kNorm ? WeightFormat::kF32 : WeightFormat::kNvfp4;
  });
  return shapes;
}

MemoryPlan plan_memory(const TrainShapes& shapes, const TrainSettings& settings,
                       const std::vector<TrainBatch>& batches) {
  Counts n;
  for (const TrainBatch& batch : batches) n.add(batch, settings.micro_batch_tokens);
  const ModelConfig& config = shapes.config;
  const Widths w = widths_of(config, settings);
  const std::int64_t kept = config.num_hidden_layers - shapes.first_trained_layer;
  const std::int64_t operand =
      shapes.on_device
          ? 0
          : RightOperand::bytes(w.largest_values, w.type == 4 ? at::kFloat : at::kBFloat16);
  const std::int64_t layer_weights = w.layer_values * w.type + operand;
  const std::int64_t activations = n.micro_tokens * activation_bytes(w, config.qk_norm);
  const std::int64_t gradient =
      n.micro_batches > 1 ? w.layer_values * 4 : w.largest_values * w.type;

  MemoryPlan plan;
  if (!shapes.on_device) plan.libraries = kTrainingLibraries;
  plan.held = {{"weights", shapes.weights}, {"masters and optimiser states", shapes.states}};
  if (shapes.teacher > 0) plan.held.emplace_back("teacher", shapes.teacher);
  plan.held.emplace_back("inputs of the layers", (kept + 1) * n.tokens * w.hidden * w.type);
  plan.held.emplace_back("positions", n.tokens * config.head_dim * 8);
  if (shapes.on_device) plan.held.emplace_back("workspace of products", kProductsWorkspace);
  plan.phases = {
      {"forward: a layer's weights and activations", layer_weights + activations},
      {"loss: a chunk of the head, its logits and gradient", head_bytes(shapes, settings, n, w)},
      {"backward: a layer's weights, activations and gradients",
       layer_weights + activations + n.micro_tokens * mlp_backward_bytes(w) +
           n.tokens * w.hidden * 4 + gradient}};
  return plan;
}

}  // namespace qf
