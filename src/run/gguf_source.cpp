// GGUF checkpoints in Hugging Face's terms: tensor names, row order and configuration.
#include <ATen/ATen.h>

#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "checkpoint_sources.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/gguf.h"
#include "qwen3fp4/formats/tensor_info.h"
#include "qwen3fp4/text/tokenizer.h"

namespace qf {
namespace {

using Json = nlohmann::ordered_json;
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

// A name without a counterpart stays as it is: convert refuses it as a leftover, by that name.
std::string hugging_face_name(std::string_view gguf_name) {
  for (const auto& [from, to] : kModelNames) {
    if (gguf_name == from) return std::string(to);
  }
  constexpr std::string_view kPrefix = "blk.";
  const auto dot = gguf_name.find('.', kPrefix.size());
  if (!gguf_name.starts_with(kPrefix) || dot == std::string_view::npos) {
    return std::string(gguf_name);
  }
  for (const auto& [from, to] : kLayerNames) {
    if (gguf_name.substr(dot + 1) == from) {
      return fmt::format("model.layers.{}.{}",
                         gguf_name.substr(kPrefix.size(), dot - kPrefix.size()), to);
    }
  }
  return std::string(gguf_name);
}

// GGUF stores such numbers as f32: 1e-5 would otherwise become 9.999999747378752e-06.
double shortest_decimal(double stored) {
  std::array<char, 64> text{};
  const auto end =
      std::to_chars(text.data(), text.data() + text.size(), static_cast<float>(stored)).ptr;
  double value = 0;
  std::from_chars(text.data(), end, value);
  return value;
}

// Builds config.json and generation_config.json from the metadata.
class MetadataReader {
 public:
  explicit MetadataReader(const GgufFile& gguf)
      : gguf_(gguf), architecture_(gguf.text("general.architecture")) {
    QF_CHECK(architecture_ == "llama" || architecture_ == "qwen3",
             "{}: general.architecture: expected llama or qwen3, found '{}'", gguf.name(),
             architecture_);
  }

  [[nodiscard]] bool is_llama() const { return architecture_ == "llama"; }

  [[nodiscard]] Json config() const {
    const auto* embedding = gguf_.find("token_embd.weight");
    QF_CHECK(embedding != nullptr && embedding->shape.size() == 2,
             "{}: expected a tensor token_embd.weight [vocab, hidden], found {}", gguf_.name(),
             embedding == nullptr ? "none" : shape_text(embedding->shape));
    Json config;
    config["architectures"] = {is_llama() ? "LlamaForCausalLM" : "Qwen3ForCausalLM"};
    config["model_type"] = architecture_;
    config["attention_bias"] = false;
    config["hidden_act"] = "silu";
    config["hidden_size"] = integer("embedding_length");
    config["intermediate_size"] = integer("feed_forward_length");
    config["max_position_embeddings"] = integer("context_length");
    config["num_attention_heads"] = integer("attention.head_count");
    config["num_hidden_layers"] = integer("block_count");
    config["num_key_value_heads"] = has("attention.head_count_kv")
                                        ? integer("attention.head_count_kv")
                                        : integer("attention.head_count");
    config["head_dim"] = head_dim();
    config["rms_norm_eps"] = shortest_decimal(number("attention.layer_norm_rms_epsilon"));
    config["rope_theta"] = has("rope.freq_base") ? shortest_decimal(number("rope.freq_base")) : 1e4;
    config["rope_scaling"] = rope_scaling();
    config["tie_word_embeddings"] = gguf_.find("output.weight") == nullptr;
    config["vocab_size"] = embedding->shape[0];
    add_token_ids(config, "bos_token_id", "tokenizer.ggml.bos_token_id");
    add_token_ids(config, "eos_token_id", "tokenizer.ggml.eos_token_id");
    return config;
  }

  [[nodiscard]] Json generation_config() const {
    Json generation = Json::object();
    add_token_ids(generation, "bos_token_id", "tokenizer.ggml.bos_token_id");
    const auto ends = end_tokens();
    if (!ends.empty()) generation["eos_token_id"] = ends;
    add_token_ids(generation, "pad_token_id", "tokenizer.ggml.padding_token_id");
    constexpr std::array<NamePair, 4> kSampling = {{
        {"general.sampling.temp", "temperature"},
        {"general.sampling.top_k", "top_k"},
        {"general.sampling.top_p", "top_p"},
        {"general.sampling.min_p", "min_p"},
    }};
    for (const auto& [key, field] : kSampling) {
      if (!gguf_.has(key)) continue;
      if (field == "top_k") {
        generation["top_k"] = gguf_.integer(key);
      } else {
        generation[field] = shortest_decimal(gguf_.number(key));
      }
    }
    return generation;
  }

 private:
  [[nodiscard]] std::string key(std::string_view field) const {
    return fmt::format("{}.{}", architecture_, field);
  }
  [[nodiscard]] bool has(std::string_view field) const { return gguf_.has(key(field)); }
  [[nodiscard]] std::int64_t integer(std::string_view field) const {
    return gguf_.integer(key(field));
  }
  [[nodiscard]] double number(std::string_view field) const { return gguf_.number(key(field)); }

  [[nodiscard]] std::int64_t head_dim() const {
    const auto heads = integer("attention.head_count");
    QF_CHECK(heads > 0, "{}: {}: expected at least 1, found {}", gguf_.name(),
             key("attention.head_count"), heads);
    const auto dim = has("attention.key_length") ? integer("attention.key_length")
                                                 : integer("embedding_length") / heads;
    for (const std::string_view field : {"attention.value_length", "rope.dimension_count"}) {
      QF_CHECK(!has(field) || integer(field) == dim,
               "{}: {}: expected the head dimension {}, found {}", gguf_.name(), key(field), dim,
               integer(field));
    }
    return dim;
  }

  [[nodiscard]] Json rope_scaling() const {
    if (!has("rope.scaling.type")) return nullptr;
    const auto& type = gguf_.text(key("rope.scaling.type"));
    if (type == "none") return nullptr;
    QF_CHECK(type == "linear" || type == "yarn",
             "{}: {}: expected none, linear or yarn, found '{}'", gguf_.name(),
             key("rope.scaling.type"), type);
    Json scaling;
    scaling["rope_type"] = type;
    scaling["factor"] = shortest_decimal(number("rope.scaling.factor"));
    if (type == "yarn") {
      scaling["original_max_position_embeddings"] = integer("rope.scaling.original_context_length");
      for (const std::string_view field : {"beta_fast", "beta_slow"}) {
        const auto yarn_field = fmt::format("rope.scaling.yarn_{}", field);
        if (has(yarn_field)) scaling[field] = shortest_decimal(number(yarn_field));
      }
      if (has("rope.scaling.attn_factor")) {
        // GGUF's multiplies yarn's own factor; Hugging Face's replaces it.
        scaling["attention_factor"] = shortest_decimal(number("rope.scaling.attn_factor")) *
                                      (0.1 * std::log(scaling["factor"].get<double>()) + 1.0);
      }
    }
    return scaling;
  }

  void add_token_ids(Json& json, std::string_view field, std::string_view metadata_key) const {
    if (gguf_.has(metadata_key)) json[field] = gguf_.integer(metadata_key);
  }

  [[nodiscard]] std::vector<std::int64_t> end_tokens() const {
    std::vector<std::int64_t> ids;
    const auto add = [&ids](std::int64_t id) {
      if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
    };
    for (const std::string_view end :
         {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
      if (gguf_.has(end)) add(gguf_.integer(end));
    }
    // Qwen3's own generation_config.json stops on this one too; its GGUFs have no key for it.
    if (architecture_ == "qwen3" && gguf_.has("tokenizer.ggml.tokens")) {
      const auto& tokens = gguf_.texts("tokenizer.ggml.tokens");
      const auto found = std::find(tokens.begin(), tokens.end(), "<|endoftext|>");
      if (found != tokens.end()) add(found - tokens.begin());
    }
    return ids;
  }

  const GgufFile& gguf_;
  std::string architecture_;
};

// Undoes the interleaving of llama's q and k rows: pairs (2i, 2i + 1) of a head go back to
// (i, i + head_dim/2), the "rotate half" order of the HF weights.
at::Tensor unpermute_rows(const at::Tensor& rows, std::int64_t heads) {
  const auto half = rows.size(0) / heads / 2;
  return rows.reshape({heads, half, 2, rows.size(1)})
      .transpose(1, 2)
      .reshape({rows.size(0), rows.size(1)})
      .contiguous();
}

class GgufSource final : public CheckpointSource {
 public:
  explicit GgufSource(const std::filesystem::path& file) : gguf_(file) {
    name_ = file.string();
    const MetadataReader metadata(gguf_);
    permuted_ = metadata.is_llama();
    set_config(metadata.config().dump(2) + "\n", name_);
    for (const auto& stored : gguf_.tensors()) {
      CheckpointTensor tensor{.name = hugging_face_name(stored.name),
                              .name_in_file = stored.name,
                              .shape = stored.shape,
                              .stored_type = std::string(ggml_type_name(stored.type)),
                              .bytes = stored.bytes};
      if (stored.type == GgmlType::kF32) tensor.float_type = DType::kF32;
      if (stored.type == GgmlType::kF16) tensor.float_type = DType::kF16;
      if (stored.type == GgmlType::kBF16) tensor.float_type = DType::kBF16;
      tensors_.push_back(std::move(tensor));
    }
    add_tokenizer();
    side_files_.push_back({"generation_config.json", metadata.generation_config().dump(2) + "\n"});
  }

  [[nodiscard]] at::Tensor read_f32(const CheckpointTensor& tensor) const override {
    const auto& stored = gguf_.tensors()[static_cast<std::size_t>(&tensor - tensors_.data())];
    const auto values = at::empty(tensor.shape, at::kFloat);
    gguf_.read_f32(stored, {values.data_ptr<float>(), static_cast<std::size_t>(values.numel())});
    if (!permuted_) return values;
    if (tensor.name.ends_with(".q_proj.weight")) {
      return unpermute_rows(values, config().num_attention_heads);
    }
    if (tensor.name.ends_with(".k_proj.weight")) {
      return unpermute_rows(values, config().num_key_value_heads);
    }
    return values;
  }

 private:
  // A model without a usable tokenizer still converts: it can be fed ids.
  void add_tokenizer() {
    if (!gguf_.has("tokenizer.ggml.model")) {
      notes_.push_back(fmt::format(
          "{}: no tokenizer in the metadata, so the converted model takes token ids only", name_));
      return;
    }
    try {
      auto tokenizer = tokenizer_json_from_gguf(gguf_);
      auto tokenizer_config = tokenizer_config_json_from_gguf(gguf_);
      side_files_.push_back({"tokenizer.json", std::move(tokenizer)});
      side_files_.push_back({"tokenizer_config.json", std::move(tokenizer_config)});
    } catch (const Error& error) {
      notes_.push_back(
          fmt::format("no tokenizer is written, so the converted model takes token ids only: {}",
                      error.what()));
    }
  }

  GgufFile gguf_;
  bool permuted_ = false;
};

}  // namespace

std::unique_ptr<CheckpointSource> open_gguf(const std::filesystem::path& file) {
  return std::make_unique<GgufSource>(file);
}

}  // namespace qf
