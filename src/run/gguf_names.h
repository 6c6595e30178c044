#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <string_view>

#include "qwen3fp4/model/config.h"

// What GGUF calls the weights of a llama or qwen3 model, and in which order it has their rows.
namespace qf {

// "blk.3.attn_q.weight" -> "model.layers.3.self_attn.q_proj.weight". A name without a counterpart
// comes back as it is.
[[nodiscard]] std::string hugging_face_name(std::string_view gguf_name);
[[nodiscard]] std::string gguf_name(std::string_view hugging_face_name);
// "blk.3.attn_q.weight" -> "blk.3.attn_q.scale": the tensor scale of an NVFP4 weight.
[[nodiscard]] std::string scale_name(std::string_view gguf_name);

// Heads of a weight whose rows llama files have in another order (q and k); 0 for all others.
[[nodiscard]] std::int64_t permuted_heads(const ModelConfig& config, std::string_view weight);
// Rows 2i and 2i + 1 of a head there are i and i + head_dim/2 here ("rotate half"). Of [rows, any].
[[nodiscard]] at::Tensor hugging_face_rows(const at::Tensor& rows, std::int64_t heads);
[[nodiscard]] at::Tensor gguf_rows(const at::Tensor& rows, std::int64_t heads);

}  // namespace qf
