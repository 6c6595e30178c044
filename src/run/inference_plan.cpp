#include "qwen3fp4/run/inference_plan.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <initializer_list>

#include "qwen3fp4/backend/cpu.h"
#include "qwen3fp4/formats/tensor_info.h"
#include "qwen3fp4/model/qwen3_model.h"
#include "qwen3fp4/model/weights.h"
#include "qwen3fp4/quant/parallel.h"

// Shapes in this file: T tokens of a prompt at a time, S of the cache, D hidden_size, F
// intermediate_size, H query heads, K key/value heads, E head_dim.
namespace qf {
namespace {

// Query rows of a task of attention on the CPU (backend.cpp), whose scores exist twice.
constexpr std::int64_t kAttentionTile = 128;
// cuBLAS's own, as libtorch sets it up on Hopper.
constexpr std::int64_t kCublasWorkspace = std::int64_t{32} << 20;

std::int64_t bytes_of(const WeightSpec& spec, WeightFormat format) {
  const std::int64_t values = element_count(spec.shape);
  if (spec.kind == WeightKind::kNorm) return values * 4;
  if (spec.kind == WeightKind::kEmbedding) return values * 2;
  switch (format) {
    case WeightFormat::kNvfp4:
      return values / 2 + values / 16;
    case WeightFormat::kNf4:
      return values / 2 + values / 64 * 4;
    case WeightFormat::kF32:
      return values * 4;
    case WeightFormat::kF16:
    case WeightFormat::kBF16:
      return values * 2;
  }
  return 0;
}

// What linear() holds beside its input and its result, by a mode that is not kW4A16.
struct LinearExtra {
  LinearMode mode;
  bool cuda;
  std::int64_t narrow_bytes;  // of an activation, on a device
  std::int64_t tiles;         // that a product unpacks meanwhile, on a CPU

  // Of the largest among products of `tokens` with weights of these shapes [O, I].
  [[nodiscard]] std::int64_t most(std::int64_t tokens,
                                  std::initializer_list<std::array<std::int64_t, 2>> shapes) const {
    std::int64_t most = 0;
    for (const auto& [out, in] : shapes) most = std::max(most, of(tokens, out, in));
    return most;
  }

 private:
  [[nodiscard]] std::int64_t of(std::int64_t tokens, std::int64_t out, std::int64_t in) const {
    const std::int64_t codes = tokens * (in / 2 + in / kNvfp4Block);
    // A device's 16-bit activations in f32, before and after.
    const std::int64_t widened = cuda && narrow_bytes < 4 ? tokens * (in + out) * 4 : 0;
    switch (mode) {
      case LinearMode::kW4A16:
        return tiles;
      case LinearMode::kReference:
        return out * in * 4 + widened;
      case LinearMode::kW4A4:
        if (cuda) return codes + widened;
        // Over their token's scale, and without what is not finite; then values that are
        // multiplied.
        return codes + std::max(tokens * in * 4 * 2, tokens * in * 4 + tiles);
    }
    return 0;
  }
};

}  // namespace

std::int64_t weight_bytes(const DatReader& file) {
  std::int64_t sum = 0;
  for (const TensorInfo& entry : file.entries()) sum += entry.bytes;
  return sum;
}

std::int64_t weight_bytes(const ModelConfig& config, WeightFormat format) {
  std::int64_t sum = 0;
  for_each_weight(config, /*with_head=*/true,
                  [&](const WeightSpec& spec) { sum += bytes_of(spec, format); });
  return sum;
}

MemoryPlan plan_inference(const ModelConfig& config, std::int64_t weights, const Backend& backend,
                          const InferenceRun& run) {
  check_kv_cache(run.kv_cache, config.head_dim, backend.device());
  const bool cuda = backend.device().is_cuda();
  const at::ScalarType read = c10::typeMetaToScalarType(backend.cache_options().dtype());
  const auto type = static_cast<std::int64_t>(c10::elementSize(read));
  const std::int64_t tokens = std::min(run.prompt, Qwen3Model::kForwardTokens);
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t queries = config.num_attention_heads * config.head_dim;
  const std::int64_t keys = config.num_key_value_heads * config.head_dim;
  const std::int64_t group = config.num_attention_heads / config.num_key_value_heads;

  const KvCacheBytes cache = kv_cache_bytes(config, run.context, read, run.kv_cache);

  MemoryPlan plan;
  if (!cuda) plan.libraries = kInferenceLibraries;
  plan.held = {{"weights", weights},
               {"keys and values", cache.stored},
               {"final hidden states", run.prompt * hidden * 4}};
  if (cache.layer_read > 0) {
    plan.held.emplace_back("a layer's keys and values as attention reads them", cache.layer_read);
  }
  const LinearMode mode = backend.linear_mode();
  if (cuda) {
    // Fp4Linear has one of the same size.
    plan.held.emplace_back("workspace of products",
                           kCublasWorkspace * (mode == LinearMode::kW4A4 ? 2 : 1));
  }
  // The residual stream before and after, the layer's normed input, a product; cos and sin.
  const std::int64_t stream = tokens * (hidden * (4 + 4 + 2 * type) + config.head_dim * 8);
  // A tile of dense weights for each thread, and its product.
  const std::int64_t tiles =
      cuda || mode == LinearMode::kReference || tokens <= CpuBackend::kFusedTokens
          ? 0
          : parallel_threads() * CpuBackend::kTileRows * (config.intermediate_size + tokens) * 4;
  const std::int64_t scores = cuda ? 0
                                   : parallel_threads() * std::min(tokens, kAttentionTile) * group *
                                         std::min(run.prompt, run.context) * 2 * 4;
  const LinearExtra extra{mode, cuda, type, tiles};
  const std::int64_t attention =
      extra.most(tokens, {{queries, hidden}, {keys, hidden}, {hidden, queries}});
  const std::int64_t mlp =
      extra.most(tokens, {{config.intermediate_size, hidden}, {hidden, config.intermediate_size}});
  const std::int64_t head =
      mode == LinearMode::kW4A16 ? 0 : extra.most(run.logit_rows, {{config.vocab_size, hidden}});
  plan.phases = {
      {"prompt: a layer's attention",
       stream + tokens * (3 * queries + 3 * keys) * type + std::max(scores, attention)},
      {"prompt: a layer's MLP", stream + tokens * config.intermediate_size * 3 * type + mlp},
      {"logits", run.logit_rows * config.vocab_size * run.logit_bytes + head}};
  return plan;
}

}  // namespace qf
