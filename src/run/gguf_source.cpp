// GGUF checkpoints in Hugging Face's terms: tensor names, row order and configuration.
#include <ATen/ATen.h>

#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "checkpoint_sources.h"
#include "gguf_names.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/gguf.h"
#include "qwen3fp4/formats/tensor_info.h"
#include "qwen3fp4/kernels/views.h"
#include "qwen3fp4/text/tokenizer.h"

namespace qf {
namespace {

using Json = nlohmann::ordered_json;
using NamePair = std::pair<std::string_view, std::string_view>;

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

// The tensor scale of an NVFP4 weight, and what quantises its inputs, are tensors of their own.
bool belongs_to_nvfp4(const GgufFile& gguf, const GgufTensor& tensor) {
  for (const std::string_view ending : {".scale", ".input_scale"}) {
    if (!tensor.name.ends_with(ending)) continue;
    const auto* weight =
        gguf.find(tensor.name.substr(0, tensor.name.size() - ending.size()) + ".weight");
    return weight != nullptr && weight->type == GgmlType::kNvfp4;
  }
  return false;
}

class GgufSource final : public CheckpointSource {
 public:
  explicit GgufSource(const std::filesystem::path& file) : gguf_(file) {
    name_ = file.string();
    const MetadataReader metadata(gguf_);
    permuted_ = metadata.is_llama();
    set_config(metadata.config().dump(2) + "\n", name_);
    for (const auto& stored : gguf_.tensors()) {
      if (belongs_to_nvfp4(gguf_, stored)) continue;
      CheckpointTensor tensor{.name = hugging_face_name(stored.name),
                              .name_in_file = stored.name,
                              .shape = stored.shape,
                              .stored_type = std::string(ggml_type_name(stored.type)),
                              .bytes = stored.bytes};
      if (stored.type == GgmlType::kF32) tensor.float_type = DType::kF32;
      if (stored.type == GgmlType::kF16) tensor.float_type = DType::kF16;
      if (stored.type == GgmlType::kBF16) tensor.float_type = DType::kBF16;
      if (stored.type == GgmlType::kNvfp4) {
        tensor.stored_type = weight_format_name(WeightFormat::kNvfp4);
      }
      tensors_.push_back(std::move(tensor));
    }
    add_tokenizer();
    side_files_.push_back({"generation_config.json", metadata.generation_config().dump(2) + "\n"});
  }

  [[nodiscard]] at::Tensor read_f32(const CheckpointTensor& tensor) const override {
    if (const auto packed = read_packed(tensor)) return packed->dequantize();
    const auto values = at::empty(tensor.shape, at::kFloat);
    gguf_.read_f32(stored(tensor),
                   {values.data_ptr<float>(), static_cast<std::size_t>(values.numel())});
    return in_our_order(tensor, values);
  }

  [[nodiscard]] std::optional<WeightMatrix> read_packed(
      const CheckpointTensor& tensor) const override {
    const GgufTensor& weight = stored(tensor);
    if (weight.type != GgmlType::kNvfp4) return std::nullopt;
    QF_CHECK(tensor.shape.size() == 2, "{}: {}: expected an NVFP4 matrix, found shape {}", name_,
             tensor.name_in_file, shape_text(tensor.shape));
    std::vector<std::byte> blocks(static_cast<std::size_t>(weight.bytes));
    gguf_.read_bytes(weight, blocks);
    const auto codes = at::empty({tensor.shape[0], tensor.shape[1] / 2}, at::kByte);
    const auto scales = at::empty({tensor.shape[0], tensor.shape[1] / kNvfp4Block}, at::kByte);
    unpack_ggml_nvfp4(blocks, codes.mutable_data_ptr<std::uint8_t>(),
                      scales.mutable_data_ptr<std::uint8_t>());
    return WeightMatrix::nvfp4(in_our_order(tensor, codes), in_our_order(tensor, scales),
                               tensor_scale(tensor));
  }

 private:
  [[nodiscard]] const GgufTensor& stored(const CheckpointTensor& tensor) const {
    return *gguf_.find(tensor.name_in_file);
  }

  [[nodiscard]] at::Tensor in_our_order(const CheckpointTensor& tensor,
                                        const at::Tensor& rows) const {
    const std::int64_t heads = permuted_ ? permuted_heads(config(), tensor.name) : 0;
    return heads > 0 ? hugging_face_rows(rows, heads) : rows;
  }

  [[nodiscard]] float tensor_scale(const CheckpointTensor& tensor) const {
    const auto name = scale_name(tensor.name_in_file);
    const auto* scale = gguf_.find(name);
    if (scale == nullptr) return 1.0F;
    QF_CHECK(scale->type == GgmlType::kF32 && element_count(scale->shape) == 1,
             "{}: {}: expected one F32 value, found {} {}", name_, name,
             ggml_type_name(scale->type), shape_text(scale->shape));
    float value = 0;
    gguf_.read_f32(*scale, {&value, 1});
    return value;
  }

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
