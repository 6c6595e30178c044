#include "qwen3fp4/model/qwen3_model.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <map>
#include <string>
#include <utility>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/model/rope.h"
#include "qwen3fp4/model/weights.h"
#include "weight_loader.h"

// Shapes in this file: T new tokens, S cached tokens with the new ones, D hidden_size, V
// vocab_size, F intermediate_size, H query heads, K key/value heads, E head_dim.
namespace qf {
namespace {

// The parts of one forward pass that every layer needs.
struct Pass {
  const Backend& backend;
  const ModelConfig& config;
  KvCache& cache;
  const Tap& tap;
  at::Tensor cos_TE, sin_TE;
};

// Names are put together only when somebody listens.
class LayerTap {
 public:
  LayerTap(const Tap& tap, std::int64_t layer) : tap_(tap), layer_(layer) {}
  at::Tensor operator()(std::string_view module, at::Tensor output) const {
    if (tap_) tap_(fmt::format("model.layers.{}{}", layer_, module), output);
    return output;
  }

 private:
  const Tap& tap_;
  std::int64_t layer_;
};

at::Tensor self_attention(const Pass& pass, const DecoderLayer& layer, const at::Tensor& x_TD,
                          std::int64_t index) {
  const Backend& backend = pass.backend;
  const ModelConfig& config = pass.config;
  const LayerTap tap(pass.tap, index);
  const std::int64_t heads = config.num_attention_heads;
  const std::int64_t kv_heads = config.num_key_value_heads;
  const std::int64_t tokens = x_TD.size(0);
  const auto split = [&](const at::Tensor& y, std::int64_t count) {
    return y.view({tokens, count, config.head_dim});
  };

  auto q_THE = split(tap(".self_attn.q_proj", backend.linear(x_TD, layer.q_proj)), heads);
  auto k_TKE = split(tap(".self_attn.k_proj", backend.linear(x_TD, layer.k_proj)), kv_heads);
  const auto v_TKE = split(tap(".self_attn.v_proj", backend.linear(x_TD, layer.v_proj)), kv_heads);
  if (config.qk_norm) {
    const double eps = config.rms_norm_eps;
    q_THE = tap(".self_attn.q_norm", backend.rms_norm(q_THE, layer.q_norm, eps));
    k_TKE = tap(".self_attn.k_norm", backend.rms_norm(k_TKE, layer.k_norm, eps));
  }
  q_THE = backend.apply_rope(q_THE, pass.cos_TE, pass.sin_TE);
  k_TKE = backend.apply_rope(k_TKE, pass.cos_TE, pass.sin_TE);
  const auto [k_SKE, v_SKE] = pass.cache.store(index, k_TKE, v_TKE);
  const auto attended_THE = backend.attention(q_THE, k_SKE, v_SKE);
  return tap(".self_attn.o_proj",
             backend.linear(attended_THE.reshape({tokens, heads * config.head_dim}), layer.o_proj));
}

at::Tensor mlp(const Pass& pass, const DecoderLayer& layer, const at::Tensor& x_TD,
               std::int64_t index) {
  const LayerTap tap(pass.tap, index);
  const Backend& backend = pass.backend;
  const auto gate_TF = tap(".mlp.gate_proj", backend.linear(x_TD, layer.gate_proj));
  const auto up_TF = tap(".mlp.up_proj", backend.linear(x_TD, layer.up_proj));
  return tap(".mlp.down_proj", backend.linear(backend.swiglu(gate_TF, up_TF), layer.down_proj));
}

at::Tensor decoder_layer(const Pass& pass, const DecoderLayer& layer, const at::Tensor& x_TD,
                         std::int64_t index) {
  const LayerTap tap(pass.tap, index);
  const double eps = pass.config.rms_norm_eps;
  const auto normed_TD =
      tap(".input_layernorm", pass.backend.rms_norm(x_TD, layer.input_layernorm, eps));
  const auto h_TD = x_TD + tap(".self_attn", self_attention(pass, layer, normed_TD, index));
  const auto normed_h_TD = tap(".post_attention_layernorm",
                               pass.backend.rms_norm(h_TD, layer.post_attention_layernorm, eps));
  return tap("", h_TD + tap(".mlp", mlp(pass, layer, normed_h_TD, index)));
}

// Hands out what the inventory loaded, by name, and forgets it.
template <class T>
T taken(std::map<std::string, T>& loaded, const std::string& name) {
  auto node = loaded.extract(name);
  if (node.empty()) throw std::logic_error("the inventory has no " + name);
  return std::move(node.mapped());
}

}  // namespace

Qwen3Model Qwen3Model::load(ModelConfig config, const DatReader& weights, const Backend& backend,
                            const std::function<void(std::int64_t, std::int64_t)>& progress) {
  const c10::InferenceMode no_autograd;
  WeightLoader loader(weights, progress);
  std::map<std::string, WeightMatrix> matrices;
  std::map<std::string, at::Tensor> norms;
  // Files in the wild keep a quantised head beside the raw embedding of a tied model.
  const bool with_head = !config.tie_word_embeddings || loader.has("lm_head.weight");
  for_each_weight(config, with_head, [&](const WeightSpec& spec) {
    if (spec.kind == WeightKind::kNorm) {
      norms.emplace(spec.name, loader.norm(spec));
    } else {
      matrices.emplace(spec.name, loader.matrix(spec));
    }
  });
  loader.check_nothing_left();

  Qwen3Model model;
  model.backend_ = &backend;
  model.embed_tokens_ = taken(matrices, "model.embed_tokens.weight");
  for (std::int64_t i = 0; i < config.num_hidden_layers; ++i) {
    const auto name = [&](const char* module) {
      return fmt::format("model.layers.{}.{}.weight", i, module);
    };
    const auto head_norm = [&](const char* module) {
      return config.qk_norm ? taken(norms, name(module)) : at::Tensor();
    };
    model.layers_.push_back(DecoderLayer{
        .input_layernorm = taken(norms, name("input_layernorm")),
        .q_proj = taken(matrices, name("self_attn.q_proj")),
        .k_proj = taken(matrices, name("self_attn.k_proj")),
        .v_proj = taken(matrices, name("self_attn.v_proj")),
        .q_norm = head_norm("self_attn.q_norm"),
        .k_norm = head_norm("self_attn.k_norm"),
        .o_proj = taken(matrices, name("self_attn.o_proj")),
        .post_attention_layernorm = taken(norms, name("post_attention_layernorm")),
        .gate_proj = taken(matrices, name("mlp.gate_proj")),
        .up_proj = taken(matrices, name("mlp.up_proj")),
        .down_proj = taken(matrices, name("mlp.down_proj")),
    });
  }
  model.norm_ = taken(norms, "model.norm.weight");
  if (with_head) model.lm_head_ = taken(matrices, "lm_head.weight");
  model.inv_freq_ = rope_inverse_frequencies(config);
  model.config_ = std::move(config);
  return model;
}

at::Tensor Qwen3Model::forward(std::span<const std::int64_t> tokens, KvCache& cache,
                               const Tap& tap) const {
  const c10::InferenceMode no_autograd;
  const auto count = static_cast<std::int64_t>(tokens.size());
  QF_CHECK(count > 0, "expected at least one token");
  for (const std::int64_t id : tokens) {
    QF_CHECK(id >= 0 && id < config_.vocab_size, "expected token ids from 0 to {}, found {}",
             config_.vocab_size - 1, id);
  }
  cache.check_room(count);

  const auto ids = at::tensor(c10::ArrayRef<std::int64_t>(tokens.data(), tokens.size()), at::kLong);
  auto x_TD = embed_tokens_->gather_rows(ids);
  if (tap) tap("model.embed_tokens", x_TD);
  const auto [cos_TE, sin_TE] = rope_tables(config_, inv_freq_, cache.length(), count);
  const Pass pass{*backend_, config_, cache, tap, cos_TE, sin_TE};
  std::int64_t index = 0;
  for (const DecoderLayer& layer : layers_) x_TD = decoder_layer(pass, layer, x_TD, index++);
  cache.advance(count);
  x_TD = backend_->rms_norm(x_TD, norm_, config_.rms_norm_eps);
  if (tap) tap("model.norm", x_TD);
  return x_TD;
}

at::Tensor Qwen3Model::logits(const at::Tensor& hidden_TD) const {
  const c10::InferenceMode no_autograd;
  return backend_->linear(hidden_TD, lm_head_ ? *lm_head_ : *embed_tokens_);
}

std::int64_t Qwen3Model::decode_bytes() const {
  // A tied head reads the whole table; otherwise one row of it is the token's embedding.
  std::int64_t total = lm_head_ ? lm_head_->bytes() + embed_tokens_->bytes() / config_.vocab_size
                                : embed_tokens_->bytes();
  total += static_cast<std::int64_t>(norm_.nbytes());
  for (const DecoderLayer& layer : layers_) {
    for (const WeightMatrix* weight : {&layer.q_proj, &layer.k_proj, &layer.v_proj, &layer.o_proj,
                                       &layer.gate_proj, &layer.up_proj, &layer.down_proj}) {
      total += weight->bytes();
    }
    for (const at::Tensor* norm :
         {&layer.input_layernorm, &layer.q_norm, &layer.k_norm, &layer.post_attention_layernorm}) {
      if (norm->defined()) total += static_cast<std::int64_t>(norm->nbytes());
    }
  }
  return total;
}

std::int64_t Qwen3Model::weight_bytes() const {
  const std::int64_t row =
      lm_head_ ? embed_tokens_->bytes() / config_.vocab_size : embed_tokens_->bytes();
  return decode_bytes() - row + embed_tokens_->bytes();
}

}  // namespace qf
