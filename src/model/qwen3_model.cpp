#include "qwen3fp4/model/qwen3_model.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <map>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/model/rope.h"
#include "qwen3fp4/model/weights.h"
#include "qwen3fp4/quant/parallel.h"
#include "weight_loader.h"

// Shapes in this file: T new tokens, S cached tokens with the new ones, D hidden_size, V
// vocab_size, F intermediate_size, H query heads, K key/value heads, E head_dim.
namespace qf {
namespace {

// Names are put together only when somebody listens.
class LayerTap {
 public:
  LayerTap(const Tap& tap, std::int64_t layer) : tap_(tap), layer_(layer) {}
  at::Tensor operator()(std::string_view module, const at::Tensor& output) const {
    if (!tap_) return output;
    return tap_(fmt::format("model.layers.{}{}", layer_, module), output.to(at::kFloat));
  }

 private:
  const Tap& tap_;
  std::int64_t layer_;
};

// Hands out what the inventory loaded, by name, and forgets it.
template <class T>
T taken(std::map<std::string, T>& loaded, const std::string& name) {
  auto node = loaded.extract(name);
  if (node.empty()) throw std::logic_error("the inventory has no " + name);
  return std::move(node.mapped());
}

}  // namespace

const WeightMatrix& weight_of(const DecoderLayer& layer, std::string_view module) {
  if (module == "self_attn.q_proj") return layer.q_proj;
  if (module == "self_attn.k_proj") return layer.k_proj;
  if (module == "self_attn.v_proj") return layer.v_proj;
  if (module == "self_attn.o_proj") return layer.o_proj;
  if (module == "mlp.gate_proj") return layer.gate_proj;
  if (module == "mlp.up_proj") return layer.up_proj;
  if (module == "mlp.down_proj") return layer.down_proj;
  throw std::logic_error(fmt::format("a layer has no weight {}", module));
}

const at::Tensor& norm_of(const DecoderLayer& layer, std::string_view module) {
  if (module == "input_layernorm") return layer.input_layernorm;
  if (module == "self_attn.q_norm") return layer.q_norm;
  if (module == "self_attn.k_norm") return layer.k_norm;
  if (module == "post_attention_layernorm") return layer.post_attention_layernorm;
  throw std::logic_error(fmt::format("a layer has no norm {}", module));
}

Qwen3Model Qwen3Model::load(ModelConfig config, const DatReader& weights, const Backend& backend,
                            const std::function<void(std::int64_t, std::int64_t)>& progress) {
  WeightLoader loader(weights, progress);
  return load(std::move(config), loader, backend);
}

Qwen3Model Qwen3Model::load(ModelConfig config, WeightSource& source, const Backend& backend) {
  const c10::InferenceMode no_autograd;
  std::map<std::string, WeightMatrix> matrices;
  std::map<std::string, at::Tensor> norms;
  // Files in the wild keep a quantised head beside the raw embedding of a tied model.
  const bool with_head = !config.tie_word_embeddings || source.has("lm_head.weight");
  for_each_weight(config, with_head, [&](const WeightSpec& spec) {
    if (spec.kind == WeightKind::kNorm) {
      norms.emplace(spec.name, source.norm(spec).to(backend.device()));
    } else {
      matrices.emplace(spec.name, backend.place(source.matrix(spec)));
    }
  });
  source.check_nothing_left();

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
  model.rope_ = std::make_shared<RopeTable>(config, backend.device());
  model.config_ = std::move(config);
  return model;
}

Qwen3Model Qwen3Model::with_backend(const Backend& backend) const {
  Qwen3Model copy = *this;
  copy.backend_ = &backend;
  copy.rope_ = std::make_shared<RopeTable>(config_, backend.device());
  const auto place = [&](WeightMatrix& weight) { weight = backend.place(std::move(weight)); };
  const auto move = [&](at::Tensor& norm) {
    if (norm.defined()) norm = norm.to(backend.device());
  };
  place(*copy.embed_tokens_);
  for (DecoderLayer& layer : copy.layers_) {
    for (WeightMatrix* weight : {&layer.q_proj, &layer.k_proj, &layer.v_proj, &layer.o_proj,
                                 &layer.gate_proj, &layer.up_proj, &layer.down_proj}) {
      place(*weight);
    }
    for (at::Tensor* norm :
         {&layer.input_layernorm, &layer.q_norm, &layer.k_norm, &layer.post_attention_layernorm}) {
      move(*norm);
    }
  }
  move(copy.norm_);
  if (copy.lm_head_) place(*copy.lm_head_);
  return copy;
}

void Qwen3Model::replace_weight(std::int64_t layer, std::string_view module, WeightMatrix weight) {
  auto& old = const_cast<WeightMatrix&>(this->weight(layer, module));
  QF_CHECK(weight.out_features() == old.out_features() && weight.in_features() == old.in_features(),
           "{}: expected a weight [{}, {}], got [{}, {}]", module, old.out_features(),
           old.in_features(), weight.out_features(), weight.in_features());
  old = std::move(weight);
}

ForwardPass::ForwardPass(const Qwen3Model& model, std::span<const std::int64_t> tokens,
                         KvCache& cache, std::int64_t first, Tap tap)
    : model_(model), tokens_(tokens), tap_(std::move(tap)) {
  check_tokens();
  attend_ = [&model, &cache, first](std::int64_t layer, const at::Tensor& q_THE,
                                    const at::Tensor& k_TKE, const at::Tensor& v_TKE) {
    const auto [k_SKE, v_SKE] = cache.store(layer, first, k_TKE, v_TKE);
    return model.backend_->attention(q_THE, k_SKE, v_SKE);
  };
  std::tie(cos_, sin_) = model.rope_->rows(first, std::ssize(tokens));
}

ForwardPass::ForwardPass(const Qwen3Model& model, std::span<const std::int64_t> tokens,
                         std::span<const std::int64_t> positions, Attend attend)
    : model_(model), tokens_(tokens), attend_(std::move(attend)) {
  check_tokens();
  QF_CHECK(positions.size() == tokens.size(), "expected a position for each of {} tokens, got {}",
           tokens.size(), positions.size());
  const auto [cos, sin] = model.rope_->rows(0, std::ranges::max(positions) + 1);
  const auto index =
      at::tensor(c10::ArrayRef<std::int64_t>(positions.data(), positions.size()), at::kLong)
          .to(cos.device());
  cos_ = cos.index_select(0, index);
  sin_ = sin.index_select(0, index);
}

void ForwardPass::check_tokens() const {
  QF_CHECK(!tokens_.empty(), "expected at least one token");
  for (const std::int64_t id : tokens_) {
    QF_CHECK(id >= 0 && id < model_.config_.vocab_size, "expected token ids from 0 to {}, found {}",
             model_.config_.vocab_size - 1, id);
  }
}

at::Tensor ForwardPass::embed() const {
  const auto ids =
      at::tensor(c10::ArrayRef<std::int64_t>(tokens_.data(), tokens_.size()), at::kLong);
  const auto x_TD = model_.backend_->embed(ids, *model_.embed_tokens_);
  return tap_ ? tap_("model.embed_tokens", x_TD) : x_TD;
}

at::Tensor ForwardPass::layer(std::int64_t index, const at::Tensor& x_TD) const {
  const DecoderLayer& layer = model_.layers_[static_cast<std::size_t>(index)];
  const Backend& backend = *model_.backend_;
  const LayerTap tap(tap_, index);
  const double eps = model_.config_.rms_norm_eps;

  const auto normed_TD =
      tap(".input_layernorm", backend.rms_norm(x_TD, layer.input_layernorm, eps));
  const auto attended_TD = tap(".self_attn", self_attention(layer, normed_TD, index));
  const auto h_TD = tap(".self_attn_residual", backend.add(x_TD, attended_TD));
  const auto normed_h_TD =
      tap(".post_attention_layernorm", backend.rms_norm(h_TD, layer.post_attention_layernorm, eps));
  return tap("", backend.add(h_TD, tap(".mlp", mlp(layer, normed_h_TD, index))));
}

at::Tensor ForwardPass::self_attention(const DecoderLayer& layer, const at::Tensor& x_TD,
                                       std::int64_t index) const {
  const Backend& backend = *model_.backend_;
  const ModelConfig& config = model_.config_;
  const LayerTap tap(tap_, index);
  const std::int64_t heads = config.num_attention_heads;
  const std::int64_t kv_heads = config.num_key_value_heads;
  const std::int64_t tokens = x_TD.size(0);
  const auto split = [&](const at::Tensor& y, std::int64_t count) {
    return y.view({tokens, count, config.head_dim});
  };

  const auto qkv = backend.linears(x_TD, {&layer.q_proj, &layer.k_proj, &layer.v_proj});
  auto q_THE = split(tap(".self_attn.q_proj", qkv[0]), heads);
  auto k_TKE = split(tap(".self_attn.k_proj", qkv[1]), kv_heads);
  const auto v_TKE = split(tap(".self_attn.v_proj", qkv[2]), kv_heads);
  if (config.qk_norm) {
    const double eps = config.rms_norm_eps;
    q_THE = tap(".self_attn.q_norm", backend.rms_norm(q_THE, layer.q_norm, eps));
    k_TKE = tap(".self_attn.k_norm", backend.rms_norm(k_TKE, layer.k_norm, eps));
  }
  q_THE = tap(".self_attn.q_rope", backend.apply_rope(q_THE, cos_, sin_));
  k_TKE = tap(".self_attn.k_rope", backend.apply_rope(k_TKE, cos_, sin_));
  const auto attended_THE = tap(".self_attn.attention", attend_(index, q_THE, k_TKE, v_TKE));
  return tap(".self_attn.o_proj",
             backend.linear(attended_THE.reshape({tokens, heads * config.head_dim}), layer.o_proj));
}

at::Tensor ForwardPass::mlp(const DecoderLayer& layer, const at::Tensor& x_TD,
                            std::int64_t index) const {
  const Backend& backend = *model_.backend_;
  const LayerTap tap(tap_, index);
  const auto gate_up = backend.linears(x_TD, {&layer.gate_proj, &layer.up_proj});
  const auto gate_TF = tap(".mlp.gate_proj", gate_up[0]);
  const auto up_TF = tap(".mlp.up_proj", gate_up[1]);
  const auto hidden_TF = tap(".mlp.swiglu", backend.swiglu(gate_TF, up_TF));
  return tap(".mlp.down_proj", backend.linear(hidden_TF, layer.down_proj));
}

at::Tensor ForwardPass::final_norm(const at::Tensor& x_TD) const {
  const auto normed_TD = model_.backend_->rms_norm(x_TD, model_.norm_, model_.config_.rms_norm_eps);
  return tap_ ? tap_("model.norm", normed_TD.to(at::kFloat)) : normed_TD;
}

namespace {

at::Tensor run_all(const ForwardPass& pass, std::int64_t layers) {
  auto x_TD = pass.embed();
  for (std::int64_t i = 0; i < layers; ++i) {
    check_stop_request();
    x_TD = pass.layer(i, x_TD);
  }
  return x_TD;
}

}  // namespace

at::Tensor Qwen3Model::forward(std::span<const std::int64_t> tokens, KvCache& cache,
                               const Tap& tap) const {
  const c10::InferenceMode no_autograd;
  const StoppableLoops loops;  // the cache's length says what of it counts
  cache.check_room(static_cast<std::int64_t>(tokens.size()));
  // A tap sees modules once, so it takes all tokens at once.
  const std::size_t most = tap ? tokens.size() : static_cast<std::size_t>(kForwardTokens);
  std::vector<at::Tensor> pieces;
  do {
    const auto piece = tokens.first(std::min(most, tokens.size()));
    const ForwardPass pass(*this, piece, cache, cache.length(), tap);
    const auto x_TD = run_all(pass, config_.num_hidden_layers);
    cache.advance(static_cast<std::int64_t>(piece.size()));
    pieces.push_back(pass.final_norm(x_TD));
    tokens = tokens.subspan(piece.size());
  } while (!tokens.empty());
  return pieces.size() == 1 ? pieces.front() : at::cat(pieces);
}

at::Tensor Qwen3Model::forward(std::span<const std::int64_t> tokens,
                               std::span<const std::int64_t> positions,
                               const Attend& attend) const {
  const c10::InferenceMode no_autograd;
  const StoppableLoops loops;
  const ForwardPass pass(*this, tokens, positions, attend);
  return pass.final_norm(run_all(pass, config_.num_hidden_layers));
}

at::Tensor Qwen3Model::logits(const at::Tensor& hidden_TD, const Tap& tap) const {
  const c10::InferenceMode no_autograd;
  const StoppableLoops loops;
  const auto logits = backend_->logits(hidden_TD, lm_head());
  return tap ? tap("lm_head", logits) : logits;
}

std::vector<at::Tensor> Qwen3Model::tensors() const {
  std::vector<at::Tensor> all{norm_};
  const auto add = [&](const WeightMatrix& weight) {
    for (const at::Tensor* t : {&weight.codes(), &weight.scales(), &weight.code_book()}) {
      if (t->defined()) all.push_back(*t);
    }
  };
  add(*embed_tokens_);
  if (lm_head_) add(*lm_head_);
  for (const DecoderLayer& layer : layers_) {
    for (const auto module : kLayerLinears) add(weight_of(layer, module));
    for (const auto module : kLayerNorms) {
      if (norm_of(layer, module).defined()) all.push_back(norm_of(layer, module));
    }
  }
  return all;
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
