#include "qwen3fp4/model/config.h"

#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/formats/json_text.h"

namespace qf {
namespace {

using Json = nlohmann::json;

// Far above every model, and low enough that no product of two sizes leaves int64.
constexpr std::int64_t kLargest = std::int64_t{1} << 30;

// Typed look-ups in one JSON object that name the file and the key in errors.
class Fields {
 public:
  Fields(const Json& json, std::string source) : json_(json), source_(std::move(source)) {}

  [[nodiscard]] const std::string& source() const { return source_; }
  [[nodiscard]] bool has(const char* key) const {
    return json_.contains(key) && !json_[key].is_null();
  }
  [[nodiscard]] const Json& at(const char* key) const {
    QF_CHECK(has(key), "{}: expected '{}', found none", source_, key);
    return json_[key];
  }
  [[nodiscard]] std::int64_t size(const char* key) const {
    const Json& value = at(key);
    QF_CHECK(value.is_number_integer() && value.get<std::int64_t>() > 0 &&
                 value.get<std::int64_t>() <= kLargest,
             "{}: '{}': expected an integer from 1 to {}, found {}", source_, key, kLargest,
             value.dump());
    return value.get<std::int64_t>();
  }
  [[nodiscard]] double positive(const char* key) const {
    const Json& value = at(key);
    QF_CHECK(value.is_number() && std::isfinite(value.get<double>()) && value.get<double>() > 0,
             "{}: '{}': expected a positive number, found {}", source_, key, value.dump());
    return value.get<double>();
  }
  [[nodiscard]] double positive_or(const char* key, double otherwise) const {
    return has(key) ? positive(key) : otherwise;
  }
  [[nodiscard]] bool flag(const char* key, bool otherwise) const {
    if (!has(key)) return otherwise;
    QF_CHECK(json_[key].is_boolean(), "{}: '{}': expected true or false, found {}", source_, key,
             json_[key].dump());
    return json_[key].get<bool>();
  }
  [[nodiscard]] std::string text(const char* key) const {
    QF_CHECK(at(key).is_string(), "{}: '{}': expected a text, found {}", source_, key,
             at(key).dump());
    return at(key).get<std::string>();
  }

 private:
  const Json& json_;
  std::string source_;
};

// transformers 5 keeps everything in `rope_parameters`; transformers 4 has `rope_theta` beside an
// optional `rope_scaling`, whose type is spelled `rope_type` or, earlier, `type`.
RopeConfig read_rope(const Fields& config, std::int64_t max_position_embeddings) {
  static const Json kNone = Json::object();
  // Which one counts depends on the version of transformers, so both at once is no setting.
  QF_CHECK(!config.has("rope_parameters") || !config.has("rope_scaling") ||
               config.at("rope_parameters") == config.at("rope_scaling"),
           "{}: expected 'rope_parameters' or 'rope_scaling', found both, unlike each other",
           config.source());
  const char* key = config.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
  const Json& json = config.has(key) ? config.at(key) : kNone;
  QF_CHECK(json.is_object(), "{}: '{}': expected an object", config.source(), key);
  const Fields rope(json, config.source() + ": " + key);

  RopeConfig out;
  out.theta = rope.has("rope_theta") ? rope.positive("rope_theta") : config.positive("rope_theta");
  const std::string type = rope.has("rope_type") ? rope.text("rope_type")
                           : rope.has("type")    ? rope.text("type")
                                                 : "default";
  for (const Fields& fields : {rope, config}) {
    const double part = fields.positive_or("partial_rotary_factor", 1);
    QF_CHECK(part == 1, "{}: partial_rotary_factor {} is not supported (supported: 1)",
             fields.source(), part);
  }
  if (type == "default") return out;
  QF_CHECK(type == "linear" || type == "yarn",
           "{}: rope type '{}' is not supported (supported: default, linear, yarn)", rope.source(),
           type);
  out.factor = rope.positive("factor");
  if (type == "linear") {
    out.type = RopeType::kLinear;
    return out;
  }
  out.type = RopeType::kYarn;
  for (const char* unsupported : {"mscale", "mscale_all_dim"}) {
    QF_CHECK(!rope.has(unsupported), "{}: '{}' is not supported", rope.source(), unsupported);
  }
  out.original_max_position_embeddings = rope.has("original_max_position_embeddings")
                                             ? rope.size("original_max_position_embeddings")
                                             : max_position_embeddings;
  out.beta_fast = rope.positive_or("beta_fast", 32);
  out.beta_slow = rope.positive_or("beta_slow", 1);
  const double by_formula = out.factor <= 1 ? 1.0 : 0.1 * std::log(out.factor) + 1.0;
  out.attention_factor = rope.positive_or("attention_factor", by_formula);
  out.truncate = rope.flag("truncate", true);
  QF_CHECK(out.theta > 1, "{}: yarn: expected a rope_theta above 1, found {}", rope.source(),
           out.theta);
  return out;
}

std::vector<std::int64_t> read_token_ids(const Fields& config, const char* key) {
  std::vector<std::int64_t> ids;
  if (!config.has(key)) return ids;
  const Json& value = config.at(key);
  const Json list = value.is_array() ? value : Json::array({value});
  for (const Json& id : list) {
    QF_CHECK(id.is_number_unsigned() && id.get<std::uint64_t>() < kLargest,
             "{}: '{}': expected token ids, found {}", config.source(), key, value.dump());
    ids.push_back(id.get<std::int64_t>());
  }
  return ids;
}

// Settings under which the forward pass would be another one.
void check_supported(const Fields& config) {
  const std::string activation = config.has("hidden_act") ? config.text("hidden_act") : "silu";
  QF_CHECK(activation == "silu", "{}: hidden_act '{}' is not supported (supported: silu)",
           config.source(), activation);
  for (const char* key : {"attention_bias", "mlp_bias", "use_sliding_window", "rope_interleaved"}) {
    QF_CHECK(!config.flag(key, false), "{}: '{}' true is not supported", config.source(), key);
  }
  if (config.has("layer_types")) {
    const Json& types = config.at("layer_types");
    for (const Json& type : types.is_array() ? types : Json::array({types})) {
      QF_CHECK(type == "full_attention",
               "{}: layer_types: {} is not supported (supported: \"full_attention\")",
               config.source(), type.dump());
    }
  }
  if (config.has("quantization_config")) {
    fail(ExitCode::kUnreadable,
         "{}: 'quantization_config': this kind of packed checkpoint is not "
         "supported (supported: f32, f16 and bf16 weights)",
         config.source());
  }
}

void check_sizes(const ModelConfig& config, const std::string& source) {
  QF_CHECK(
      config.num_attention_heads % config.num_key_value_heads == 0,
      "{}: expected num_attention_heads to be a multiple of num_key_value_heads, found {} and {}",
      source, config.num_attention_heads, config.num_key_value_heads);
  QF_CHECK(config.head_dim % 2 == 0, "{}: expected an even head_dim, found {}", source,
           config.head_dim);
  QF_CHECK(config.head_dim <= kLargest / config.num_attention_heads,
           "{}: {} heads of {} features are too many", source, config.num_attention_heads,
           config.head_dim);
}

}  // namespace

ModelConfig ModelConfig::from_json(std::string_view json, const std::string& source_name) {
  const Json parsed = parse_json(json, source_name);
  QF_CHECK(parsed.is_object(), "{}: expected a JSON object", source_name);
  const Fields fields(parsed, source_name);
  ModelConfig out;
  out.model_type = fields.text("model_type");
  QF_CHECK(out.model_type == "qwen3" || out.model_type == "llama",
           "{}: model_type '{}' is not supported (supported: qwen3, llama)", source_name,
           out.model_type);
  check_supported(fields);
  out.qk_norm = out.model_type == "qwen3";
  out.vocab_size = fields.size("vocab_size");
  out.hidden_size = fields.size("hidden_size");
  out.intermediate_size = fields.size("intermediate_size");
  out.num_hidden_layers = fields.size("num_hidden_layers");
  out.num_attention_heads = fields.size("num_attention_heads");
  out.num_key_value_heads = fields.has("num_key_value_heads") ? fields.size("num_key_value_heads")
                                                              : out.num_attention_heads;
  if (fields.has("head_dim")) {
    out.head_dim = fields.size("head_dim");
  } else if (out.model_type == "qwen3") {
    out.head_dim = 128;  // transformers' default for Qwen3
  } else {
    QF_CHECK(out.hidden_size % out.num_attention_heads == 0,
             "{}: expected head_dim, or hidden_size to be a multiple of num_attention_heads, found "
             "{} and {}",
             source_name, out.hidden_size, out.num_attention_heads);
    out.head_dim = out.hidden_size / out.num_attention_heads;
  }
  out.max_position_embeddings = fields.size("max_position_embeddings");
  out.rms_norm_eps = fields.positive("rms_norm_eps");
  out.rope = read_rope(fields, out.max_position_embeddings);
  out.tie_word_embeddings = fields.flag("tie_word_embeddings", false);
  out.eos_token_ids = read_token_ids(fields, "eos_token_id");
  check_sizes(out, source_name);
  return out;
}

ModelConfig ModelConfig::from_file(const std::filesystem::path& path) {
  return from_json(read_text_file(path), path.string());
}

}  // namespace qf
