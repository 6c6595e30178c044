#include "qwen3fp4/model/weights.h"

#include <fmt/format.h>

namespace qf {

void for_each_weight(const ModelConfig& config, bool with_head,
                     const std::function<void(const WeightSpec&)>& visit) {
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t intermediate = config.intermediate_size;
  const std::int64_t queries = config.num_attention_heads * config.head_dim;
  const std::int64_t keys = config.num_key_value_heads * config.head_dim;

  visit({"model.embed_tokens.weight", {config.vocab_size, hidden}, WeightKind::kEmbedding});
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    const auto add = [&](const char* module, std::vector<std::int64_t> shape, WeightKind kind) {
      visit({fmt::format("model.layers.{}.{}.weight", layer, module), std::move(shape), kind});
    };
    add("input_layernorm", {hidden}, WeightKind::kNorm);
    add("self_attn.q_proj", {queries, hidden}, WeightKind::kLinear);
    add("self_attn.k_proj", {keys, hidden}, WeightKind::kLinear);
    add("self_attn.v_proj", {keys, hidden}, WeightKind::kLinear);
    if (config.qk_norm) {
      add("self_attn.q_norm", {config.head_dim}, WeightKind::kNorm);
      add("self_attn.k_norm", {config.head_dim}, WeightKind::kNorm);
    }
    add("self_attn.o_proj", {hidden, queries}, WeightKind::kLinear);
    add("post_attention_layernorm", {hidden}, WeightKind::kNorm);
    add("mlp.gate_proj", {intermediate, hidden}, WeightKind::kLinear);
    add("mlp.up_proj", {intermediate, hidden}, WeightKind::kLinear);
    add("mlp.down_proj", {hidden, intermediate}, WeightKind::kLinear);
  }
  visit({"model.norm.weight", {hidden}, WeightKind::kNorm});
  if (with_head) visit({"lm_head.weight", {config.vocab_size, hidden}, WeightKind::kHead});
}

}  // namespace qf
