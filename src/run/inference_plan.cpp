#include "qwen3fp4/run/inference_plan.h"

#include <ATen/ATen.h>

#include <algorithm>

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
  check_kv_cache(run.kv_cache, backend.device());
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
  if (cuda) plan.held.emplace_back("workspace of products", kCublasWorkspace);
  // The residual stream before and after, the layer's normed input, a product; cos and sin.
  const std::int64_t stream = tokens * (hidden * (4 + 4 + 2 * type) + config.head_dim * 8);
  // A tile of dense weights for each thread, and its product.
  const std::int64_t tiles =
      cuda || tokens <= CpuBackend::kFusedTokens
          ? 0
          : parallel_threads() * CpuBackend::kTileRows * (config.intermediate_size + tokens) * 4;
  const std::int64_t scores = cuda ? 0
                                   : parallel_threads() * std::min(tokens, kAttentionTile) * group *
                                         std::min(run.prompt, run.context) * 2 * 4;
  plan.phases = {
      {"prompt: a layer's attention",
       stream + tokens * (3 * queries + 3 * keys) * type + std::max(scores, tiles)},
      {"prompt: a layer's MLP", stream + tokens * config.intermediate_size * 3 * type + tiles},
      {"logits", run.logit_rows * config.vocab_size * run.logit_bytes}};
  return plan;
}

}  // namespace qf
