#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "qwen3fp4/backend/backend.h"
#include "qwen3fp4/formats/dat.h"
#include "qwen3fp4/model/config.h"
#include "qwen3fp4/model/kv_cache.h"
#include "qwen3fp4/model/rope.h"
#include "qwen3fp4/model/weight_source.h"
#include "qwen3fp4/quant/weight_matrix.h"

namespace qf {

// Called with Hugging Face's module path ("model.layers.3.self_attn.q_proj") and that module's
// output in f32, in forward order; operations between modules have names of our own (doc/model.md).
// Returns what the pass goes on with: `output`, or another tensor of its shape. Must not write
// into `output`.
using Tap = std::function<at::Tensor(std::string_view module, const at::Tensor& output)>;

struct DecoderLayer {
  at::Tensor input_layernorm;           // [D]
  WeightMatrix q_proj, k_proj, v_proj;  // [H*E, D], [K*E, D], [K*E, D]
  at::Tensor q_norm, k_norm;            // [E]; undefined without qk_norm
  WeightMatrix o_proj;                  // [D, H*E]
  at::Tensor post_attention_layernorm;  // [D]
  WeightMatrix gate_proj, up_proj;      // [F, D]
  WeightMatrix down_proj;               // [D, F]
};

// The linears of a layer in forward order: "self_attn.q_proj", ..., "mlp.down_proj".
inline constexpr std::array<std::string_view, 7> kLayerLinears{
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj",    "mlp.up_proj",      "mlp.down_proj"};
[[nodiscard]] const WeightMatrix& weight_of(const DecoderLayer& layer, std::string_view module);
// Its norms, likewise; q_norm and k_norm are undefined tensors without qk_norm.
inline constexpr std::array<std::string_view, 4> kLayerNorms{
    "input_layernorm", "self_attn.q_norm", "self_attn.k_norm", "post_attention_layernorm"};
[[nodiscard]] const at::Tensor& norm_of(const DecoderLayer& layer, std::string_view module);

// Keeps a layer's new keys and values [T, K, E] (after RoPE) and returns what the queries [T, H, E]
// attend to, [T, H, E]: Backend::attention() of one cache or of several.
using Attend = std::function<at::Tensor(std::int64_t layer, const at::Tensor& q_THE,
                                        const at::Tensor& k_TKE, const at::Tensor& v_TKE)>;

// Qwen3, and the Llama family as its special case without q/k norm. One forward pass for every
// backend: what differs between them is behind Backend.
class Qwen3Model {
 public:
  // Every weight of the inventory exactly once, placed where `backend` reads it as soon as it is
  // there; gaps, leftovers and wrong shapes are refused by name. Peak memory: the weights plus what
  // the source needs for one.
  [[nodiscard]] static Qwen3Model load(ModelConfig config, WeightSource& source,
                                       const Backend& backend);
  // From a file. Peak memory: the file's tensors plus one. `progress` gets (bytes read, bytes in
  // all).
  [[nodiscard]] static Qwen3Model load(
      ModelConfig config, const DatReader& weights, const Backend& backend,
      const std::function<void(std::int64_t, std::int64_t)>& progress = {});

  // The same weights computed by another backend, which must outlive the copy. Shared where they
  // are on its device already, else copied there.
  [[nodiscard]] Qwen3Model with_backend(const Backend& backend) const;
  // Exchanges one weight of a layer for another of its shape; `module` as in "mlp.gate_proj". For
  // fault injection.
  void replace_weight(std::int64_t layer, std::string_view module, WeightMatrix weight);
  [[nodiscard]] const WeightMatrix& weight(std::int64_t layer, std::string_view module) const {
    return weight_of(layers_.at(static_cast<std::size_t>(layer)), module);
  }

  // Every tensor of every weight; a tied head is the embedding and comes once.
  [[nodiscard]] std::vector<at::Tensor> tensors() const;

  // Runs `tokens` behind what `cache` holds and advances it. Returns the final-normed hidden states
  // [T, D]; a tap sees every module's output. Activations exist of kForwardTokens at a time, of all
  // where there is a tap.
  static constexpr std::int64_t kForwardTokens = 2048;
  [[nodiscard]] at::Tensor forward(std::span<const std::int64_t> tokens, KvCache& cache,
                                   const Tap& tap = {}) const;
  // The same with token i at positions[i] and keys and values where `attend` keeps them: tokens of
  // several sequences in one pass, all at once.
  [[nodiscard]] at::Tensor forward(std::span<const std::int64_t> tokens,
                                   std::span<const std::int64_t> positions,
                                   const Attend& attend) const;
  // f32 [n, vocab] of rows of forward()'s result.
  [[nodiscard]] at::Tensor logits(const at::Tensor& hidden_TD, const Tap& tap = {}) const;

  [[nodiscard]] const ModelConfig& config() const { return config_; }
  [[nodiscard]] const std::vector<DecoderLayer>& layers() const { return layers_; }
  [[nodiscard]] const WeightMatrix& embed_tokens() const { return *embed_tokens_; }
  [[nodiscard]] const at::Tensor& norm() const { return norm_; }
  // The embedding where it is tied.
  [[nodiscard]] const WeightMatrix& lm_head() const {
    return lm_head_ ? *lm_head_ : *embed_tokens_;
  }
  [[nodiscard]] const Backend& backend() const { return *backend_; }
  // Bytes of all weights held.
  [[nodiscard]] std::int64_t weight_bytes() const;
  // Bytes of weights that one decoded token reads (everything but the embedding table's other
  // rows).
  [[nodiscard]] std::int64_t decode_bytes() const;

 private:
  friend class ForwardPass;
  Qwen3Model() = default;
  ModelConfig config_;
  const Backend* backend_ = nullptr;
  std::optional<WeightMatrix> embed_tokens_;  // [V, D]
  std::vector<DecoderLayer> layers_;
  at::Tensor norm_;                      // [D]
  std::optional<WeightMatrix> lm_head_;  // [V, D]; absent when tied
  std::shared_ptr<RopeTable> rope_;      // shared by copies on one backend; grows in forward()
};

// One pass of T tokens at positions first .. first + T - 1, a stage at a time: embed(), layer() for
// each layer in order, final_norm(). Qwen3Model::forward() is this from end to end; who compares
// two passes runs them side by side, so that only one layer's values are ever held.
class ForwardPass {
 public:
  // Borrows all but `tap`. Throws for ids that the model does not have.
  ForwardPass(const Qwen3Model& model, std::span<const std::int64_t> tokens, KvCache& cache,
              std::int64_t first, Tap tap);
  // Every token at its own position.
  ForwardPass(const Qwen3Model& model, std::span<const std::int64_t> tokens,
              std::span<const std::int64_t> positions, Attend attend);
  [[nodiscard]] at::Tensor embed() const;                                            // [T, D]
  [[nodiscard]] at::Tensor layer(std::int64_t index, const at::Tensor& x_TD) const;  // [T, D]
  [[nodiscard]] at::Tensor final_norm(const at::Tensor& x_TD) const;                 // [T, D]

 private:
  [[nodiscard]] at::Tensor self_attention(const DecoderLayer& layer, const at::Tensor& x_TD,
                                          std::int64_t index) const;
  [[nodiscard]] at::Tensor mlp(const DecoderLayer& layer, const at::Tensor& x_TD,
                               std::int64_t index) const;

  void check_tokens() const;

  const Qwen3Model& model_;
  std::span<const std::int64_t> tokens_;
  Attend attend_;
  Tap tap_;
  at::Tensor cos_, sin_;  // [T, E]
};

}  // namespace qf
