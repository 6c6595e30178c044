#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "qwen3fp4/backend/backend.h"
#include "qwen3fp4/formats/dat.h"
#include "qwen3fp4/model/config.h"
#include "qwen3fp4/model/kv_cache.h"
#include "qwen3fp4/quant/weight_matrix.h"

namespace qf {

// Called with Hugging Face's module path ("model.layers.3.self_attn.q_proj") and that module's
// output, in forward order. Must not change the tensor.
using Tap = std::function<void(std::string_view module, const at::Tensor& output)>;

struct DecoderLayer {
  at::Tensor input_layernorm;           // [D]
  WeightMatrix q_proj, k_proj, v_proj;  // [H*E, D], [K*E, D], [K*E, D]
  at::Tensor q_norm, k_norm;            // [E]; undefined without qk_norm
  WeightMatrix o_proj;                  // [D, H*E]
  at::Tensor post_attention_layernorm;  // [D]
  WeightMatrix gate_proj, up_proj;      // [F, D]
  WeightMatrix down_proj;               // [D, F]
};

// Qwen3, and the Llama family as its special case without q/k norm. One forward pass for every
// backend: what differs between them is behind Backend.
class Qwen3Model {
 public:
  // Every weight of the inventory exactly once; gaps, leftovers and wrong shapes are refused by
  // name. Peak memory: the file's tensors plus one.
  // `progress` gets (bytes read, bytes in all).
  [[nodiscard]] static Qwen3Model load(
      ModelConfig config, const DatReader& weights, const Backend& backend,
      const std::function<void(std::int64_t, std::int64_t)>& progress = {});

  // Runs `tokens` behind what `cache` holds and advances it. Returns the final-normed hidden states
  // [T, D]; a tap sees every module's output.
  [[nodiscard]] at::Tensor forward(std::span<const std::int64_t> tokens, KvCache& cache,
                                   const Tap& tap = {}) const;
  // f32 [n, vocab] of rows of forward()'s result.
  [[nodiscard]] at::Tensor logits(const at::Tensor& hidden_TD) const;

  [[nodiscard]] const ModelConfig& config() const { return config_; }
  [[nodiscard]] const Backend& backend() const { return *backend_; }
  // Bytes of all weights held.
  [[nodiscard]] std::int64_t weight_bytes() const;
  // Bytes of weights that one decoded token reads (everything but the embedding table's other
  // rows).
  [[nodiscard]] std::int64_t decode_bytes() const;

 private:
  Qwen3Model() = default;
  ModelConfig config_;
  const Backend* backend_ = nullptr;
  std::optional<WeightMatrix> embed_tokens_;  // [V, D]
  std::vector<DecoderLayer> layers_;
  at::Tensor norm_;                      // [D]
  std::optional<WeightMatrix> lm_head_;  // [V, D]; absent when tied
  at::Tensor inv_freq_;                  // [E/2] f32
};

}  // namespace qf
