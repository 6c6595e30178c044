#include "gguf_names.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <array>
#include <utility>

namespace qf {
namespace {

using NamePair = std::pair<std::string_view, std::string_view>;

constexpr std::array<NamePair, 3> kModelNames = {{
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"},
}};
// Behind "blk.N." and "model.layers.N.".
constexpr std::array<NamePair, 11> kLayerNames = {{
    {"attn_norm.weight", "input_layernorm.weight"},
    {"attn_q.weight", "self_attn.q_proj.weight"},
    {"attn_k.weight", "self_attn.k_proj.weight"},
    {"attn_v.weight", "self_attn.v_proj.weight"},
    {"attn_q_norm.weight", "self_attn.q_norm.weight"},
    {"attn_k_norm.weight", "self_attn.k_norm.weight"},
    {"attn_output.weight", "self_attn.o_proj.weight"},
    {"ffn_norm.weight", "post_attention_layernorm.weight"},
    {"ffn_gate.weight", "mlp.gate_proj.weight"},
    {"ffn_up.weight", "mlp.up_proj.weight"},
    {"ffn_down.weight", "mlp.down_proj.weight"},
}};

constexpr std::string_view kGgufLayer = "blk.";
constexpr std::string_view kLayer = "model.layers.";

// {"3", "attn_q.weight"} of "blk.3.attn_q.weight"; empty texts for other names.
NamePair split_layer(std::string_view name, std::string_view prefix) {
  const auto dot = name.find('.', prefix.size());
  if (!name.starts_with(prefix) || dot == std::string_view::npos) return {};
  return {name.substr(prefix.size(), dot - prefix.size()), name.substr(dot + 1)};
}

}  // namespace

std::string hugging_face_name(std::string_view gguf_name) {
  for (const auto& [from, to] : kModelNames) {
    if (gguf_name == from) return std::string(to);
  }
  const auto [layer, name] = split_layer(gguf_name, kGgufLayer);
  for (const auto& [from, to] : kLayerNames) {
    if (name == from) return fmt::format("{}{}.{}", kLayer, layer, to);
  }
  return std::string(gguf_name);
}

std::string gguf_name(std::string_view hugging_face_name) {
  for (const auto& [to, from] : kModelNames) {
    if (hugging_face_name == from) return std::string(to);
  }
  const auto [layer, name] = split_layer(hugging_face_name, kLayer);
  for (const auto& [to, from] : kLayerNames) {
    if (name == from) return fmt::format("{}{}.{}", kGgufLayer, layer, to);
  }
  return std::string(hugging_face_name);
}

std::string scale_name(std::string_view gguf_name) {
  return std::string(gguf_name.substr(0, gguf_name.rfind('.'))) + ".scale";
}

std::int64_t permuted_heads(const ModelConfig& config, std::string_view weight) {
  if (weight.ends_with(".q_proj.weight")) return config.num_attention_heads;
  if (weight.ends_with(".k_proj.weight")) return config.num_key_value_heads;
  return 0;
}

at::Tensor hugging_face_rows(const at::Tensor& rows, std::int64_t heads) {
  const auto half = rows.size(0) / heads / 2;
  return rows.reshape({heads, half, 2, rows.size(1)})
      .transpose(1, 2)
      .reshape(rows.sizes())
      .contiguous();
}

at::Tensor gguf_rows(const at::Tensor& rows, std::int64_t heads) {
  const auto half = rows.size(0) / heads / 2;
  return rows.reshape({heads, 2, half, rows.size(1)})
      .transpose(1, 2)
      .reshape(rows.sizes())
      .contiguous();
}

}  // namespace qf
