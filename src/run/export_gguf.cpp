#include <ATen/ATen.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "export_formats.h"
#include "gguf_names.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/json_text.h"
#include "qwen3fp4/formats/tensor_info.h"
#include "qwen3fp4/text/tokenizer.h"

namespace qf {
namespace {

// general.file_type of llama.cpp: which type most matrices have.
constexpr std::int64_t kMostlyNvfp4 = 39;

const std::string* side_file(const CheckpointSource& source, std::string_view name) {
  for (const SideFile& file : source.side_files()) {
    if (file.name == name) return &file.text;
  }
  return nullptr;
}

bool is_llama(const CheckpointSource& source) { return source.config().model_type == "llama"; }

void add_rope(const CheckpointSource& source, const std::string& architecture,
              GgufWriter::Metadata& metadata) {
  const RopeConfig& rope = source.config().rope;
  const auto add = [&](std::string_view field, GgufValue value) {
    metadata.emplace_back(fmt::format("{}.rope.{}", architecture, field), std::move(value));
  };
  add("freq_base", rope.theta);
  add("dimension_count", source.config().head_dim);
  if (rope.type == RopeType::kDefault) return;
  add("scaling.type", std::string(rope.type == RopeType::kLinear ? "linear" : "yarn"));
  add("scaling.factor", rope.factor);
  if (rope.type == RopeType::kLinear) return;
  QF_CHECK(rope.truncate, "{}: rope: a GGUF cannot say 'truncate' false", source.name());
  add("scaling.original_context_length", rope.original_max_position_embeddings);
  add("scaling.yarn_beta_fast", rope.beta_fast);
  add("scaling.yarn_beta_slow", rope.beta_slow);
  // GGUF's multiplies yarn's own factor; Hugging Face's replaces it.
  const double by_formula = rope.factor <= 1 ? 1.0 : 0.1 * std::log(rope.factor) + 1.0;
  if (rope.attention_factor != by_formula) {
    add("scaling.attn_factor", rope.attention_factor / by_formula);
  }
}

void add_generation(const CheckpointSource& source, GgufWriter::Metadata& metadata) {
  const auto* text = side_file(source, "generation_config.json");
  if (text == nullptr) return;
  const auto json = parse_json(*text, "generation_config.json");
  QF_CHECK(json.is_object(), "{}: generation_config.json: expected an object", source.name());
  std::int64_t eos = -1;
  for (const auto& [key, value] : metadata) {
    if (key == "tokenizer.ggml.eos_token_id") eos = std::get<std::int64_t>(value);
  }
  // GGUF has two keys for tokens that end an answer: this one and the tokenizer's eos.
  const auto ends = json.value("eos_token_id", nlohmann::json());
  for (const auto& id : ends.is_array() ? ends : nlohmann::json::array()) {
    if (id.is_number_unsigned() && id != eos) {
      metadata.emplace_back("tokenizer.ggml.eot_token_id", id.get<std::int64_t>());
      break;
    }
  }
  if (json.contains("top_k") && json["top_k"].is_number_unsigned()) {
    metadata.emplace_back("general.sampling.top_k", json["top_k"].get<std::int64_t>());
  }
  for (const auto& [field, key] : {std::pair{"temperature", "general.sampling.temp"},
                                   {"top_p", "general.sampling.top_p"},
                                   {"min_p", "general.sampling.min_p"}}) {
    if (json.contains(field) && json[field].is_number()) {
      metadata.emplace_back(key, json[field].get<double>());
    }
  }
}

void add_tokenizer(const CheckpointSource& source, GgufWriter::Metadata& metadata) {
  const auto* tokenizer = side_file(source, "tokenizer.json");
  QF_CHECK(tokenizer != nullptr, "{}: expected a tokenizer.json, which a GGUF carries; found none",
           source.name());
  const auto* config = side_file(source, "tokenizer_config.json");
  const auto values = gguf_tokenizer_metadata(*tokenizer, config != nullptr ? *config : "{}",
                                              source.config().vocab_size);
  metadata.insert(metadata.end(), values.begin(), values.end());
  if (const auto* jinja = side_file(source, "chat_template.jinja")) {
    metadata.emplace_back("tokenizer.chat_template", *jinja);
  } else if (config != nullptr) {
    const auto json = parse_json(*config, "tokenizer_config.json");
    if (json.is_object() && json.contains("chat_template") && json["chat_template"].is_string()) {
      metadata.emplace_back("tokenizer.chat_template", json["chat_template"].get<std::string>());
    }
  }
}

// A weight's rows in the order of its GGUF.
class RowOrder {
 public:
  RowOrder(const CheckpointSource& source, const ExportedWeight& weight)
      : heads_(is_llama(source) ? permuted_heads(source.config(), weight.spec.name) : 0) {}
  [[nodiscard]] at::Tensor operator()(const at::Tensor& rows) const {
    return heads_ > 0 ? gguf_rows(rows, heads_) : rows.contiguous();
  }

 private:
  std::int64_t heads_;
};

GgmlType stored_type(const ExportedWeight& weight) {
  if (weight.packed()) return GgmlType::kNvfp4;
  // GGML computes with norms in f32 only.
  if (weight.spec.kind == WeightKind::kNorm) return GgmlType::kF32;
  return *weight.source->float_type == DType::kBF16  ? GgmlType::kBF16
         : *weight.source->float_type == DType::kF16 ? GgmlType::kF16
                                                     : GgmlType::kF32;
}

void append_nvfp4(const CheckpointSource& source, const ExportedWeight& weight, GgufWriter& out) {
  const auto packed = source.read_packed(*weight.source);
  QF_CHECK(packed && packed->scales().scalar_type() == at::kByte,
           "{}: {}: expected NVFP4 with E4M3 scales to export, found other scales", source.name(),
           weight.spec.name);
  const RowOrder in_order(source, weight);
  const auto codes = in_order(packed->codes());
  const auto scales = in_order(packed->scales());
  std::vector<std::byte> blocks(
      static_cast<std::size_t>(scales.numel() / 4 * kGgmlNvfp4Bytes));  // 4 scales a block
  pack_ggml_nvfp4(codes.const_data_ptr<std::uint8_t>(), scales.const_data_ptr<std::uint8_t>(),
                  blocks);
  out.append(blocks);
  const float scale = packed->global_scale();
  out.append(std::as_bytes(std::span(&scale, 1)));
}

}  // namespace

GgufWriter::Metadata gguf_metadata(const CheckpointSource& source) {
  const ModelConfig& config = source.config();
  const std::string& architecture = config.model_type;  // GGUF's names are these two as well
  GgufWriter::Metadata metadata;
  metadata.emplace_back("general.architecture", architecture);
  metadata.emplace_back("general.type", std::string("model"));
  metadata.emplace_back("general.quantization_version", std::int64_t{2});
  const auto add = [&](std::string_view field, GgufValue value) {
    metadata.emplace_back(fmt::format("{}.{}", architecture, field), std::move(value));
  };
  add("block_count", config.num_hidden_layers);
  add("context_length", config.max_position_embeddings);
  add("embedding_length", config.hidden_size);
  add("feed_forward_length", config.intermediate_size);
  add("attention.head_count", config.num_attention_heads);
  add("attention.head_count_kv", config.num_key_value_heads);
  add("attention.key_length", config.head_dim);
  add("attention.value_length", config.head_dim);
  add("attention.layer_norm_rms_epsilon", config.rms_norm_eps);
  add("vocab_size", config.vocab_size);
  add_rope(source, architecture, metadata);
  add_tokenizer(source, metadata);
  add_generation(source, metadata);
  return metadata;
}

void check_gguf_weights(const CheckpointSource& source,
                        const std::vector<ExportedWeight>& weights) {
  for (const ExportedWeight& weight : weights) {
    QF_CHECK(!weight.packed() || weight.spec.shape.back() % kGgmlNvfp4Elements == 0,
             "{}: {}: expected rows of a multiple of {} values for NVFP4 in a GGUF, found {}",
             source.name(), weight.spec.name, kGgmlNvfp4Elements, weight.spec.shape.back());
  }
}

void write_gguf(const CheckpointSource& source, const std::vector<ExportedWeight>& weights,
                const std::filesystem::path& file, const BeforeWeight& before) {
  auto metadata = gguf_metadata(source);
  std::vector<GgufWriter::Tensor> tensors;
  bool any_packed = false;
  for (const ExportedWeight& weight : weights) {
    const auto name = gguf_name(weight.spec.name);
    tensors.push_back({name, stored_type(weight), weight.spec.shape});
    if (weight.packed()) tensors.push_back({scale_name(name), GgmlType::kF32, {1}});
    any_packed |= weight.packed();
  }
  if (any_packed) metadata.emplace_back("general.file_type", kMostlyNvfp4);
  GgufWriter out(file, metadata, tensors);
  for (const ExportedWeight& weight : weights) {
    before(weight);
    if (weight.packed()) {
      append_nvfp4(source, weight, out);
      continue;
    }
    auto values = dense_values(source, weight);
    if (weight.spec.kind == WeightKind::kNorm) values = values.to(at::kFloat);
    const auto rows = values.dim() == 2 ? RowOrder(source, weight)(values) : values;
    out.append(bytes_of(rows));
  }
  out.finish();
}

}  // namespace qf
