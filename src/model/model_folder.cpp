#include "qwen3fp4/model/model_folder.h"

#include <nlohmann/json.hpp>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/formats/json_text.h"

namespace qf {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

std::optional<double> optional_number(const Json& json, const char* key,
                                      const std::string& source) {
  if (!json.contains(key) || json[key].is_null()) return std::nullopt;
  QF_CHECK(json[key].is_number(), "{}: '{}': expected a number, found {}", source, key,
           json[key].dump());
  return json[key].get<double>();
}

// Token ids and counts.
std::int64_t small_count(const Json& value, const char* key, const std::string& source) {
  constexpr std::uint64_t kLargest = std::uint64_t{1} << 30;
  QF_CHECK(value.is_number_unsigned() && value.get<std::uint64_t>() <= kLargest,
           "{}: '{}': expected an integer from 0 to {}, found {}", source, key, kLargest,
           value.dump());
  return value.get<std::int64_t>();
}

}  // namespace

GenerationConfig GenerationConfig::from_folder(const fs::path& folder) {
  GenerationConfig out;
  const fs::path path = folder / "generation_config.json";
  if (!fs::exists(path)) return out;
  const std::string source = path.string();
  const Json json = parse_json(read_text_file(path), source);
  QF_CHECK(json.is_object(), "{}: expected a JSON object", source);
  if (json.contains("eos_token_id") && !json["eos_token_id"].is_null()) {
    const Json& value = json["eos_token_id"];
    for (const Json& id : value.is_array() ? value : Json::array({value})) {
      out.eos_token_ids.push_back(small_count(id, "eos_token_id", source));
    }
  }
  out.temperature = optional_number(json, "temperature", source);
  out.top_p = optional_number(json, "top_p", source);
  out.min_p = optional_number(json, "min_p", source);
  out.repetition_penalty = optional_number(json, "repetition_penalty", source);
  if (json.contains("top_k") && !json["top_k"].is_null()) {
    out.top_k = small_count(json["top_k"], "top_k", source);
  }
  if (json.contains("do_sample") && !json["do_sample"].is_null()) {
    QF_CHECK(json["do_sample"].is_boolean(), "{}: 'do_sample': expected true or false, found {}",
             source, json["do_sample"].dump());
    out.do_sample = json["do_sample"].get<bool>();
  }
  return out;
}

ModelFolder ModelFolder::open(const fs::path& path, std::string_view flag) {
  if (!fs::is_directory(path)) {
    const bool is_default = path == fs::path(kDefaultModelFolder);
    fail(ExitCode::kUnreadable, "{}: expected a model folder, found {}{}", path.string(),
         fs::exists(path) ? "a file" : "nothing",
         is_default ? "; scripts/quickstart.sh fetches and converts the default model"
                    : fmt::format(" ({})", flag));
  }
  QF_CHECK(fs::exists(path / "config.json"), "{}: expected config.json in the model folder",
           path.string());
  QF_CHECK(fs::exists(path / "model.dat"),
           "{}: expected model.dat in the model folder (qwen3fp4 convert makes one)",
           path.string());
  ModelFolder folder{.path = path,
                     .config = ModelConfig::from_file(path / "config.json"),
                     .generation = GenerationConfig::from_folder(path),
                     .tokenizer = std::nullopt,
                     .chat_template = std::nullopt,
                     .no_chat_template_reason = {}};
  if (fs::exists(path / "tokenizer.json") || fs::exists(path / "tokenizer.model")) {
    folder.tokenizer = Tokenizer::from_folder(path);
  }
  // Only commands that chat need a template, so a foreign one is an error when it is asked for.
  try {
    folder.chat_template = ChatTemplate::from_folder(path);
  } catch (const Error& error) {
    folder.no_chat_template_reason = error.what();
  }
  return folder;
}

Qwen3Model ModelFolder::load_model(
    const Backend& backend, const std::function<void(std::int64_t, std::int64_t)>& progress) const {
  const DatReader weights(path / "model.dat");
  return Qwen3Model::load(config, weights, backend, progress);
}

std::vector<std::int64_t> ModelFolder::end_tokens() const {
  return generation.eos_token_ids.empty() ? config.eos_token_ids : generation.eos_token_ids;
}

const Tokenizer& ModelFolder::require_tokenizer() const {
  QF_CHECK(tokenizer.has_value(),
           "{}: expected tokenizer.json or tokenizer.model (--ids needs none)", path.string());
  return *tokenizer;
}

const ChatTemplate& ModelFolder::require_chat_template() const {
  QF_CHECK(chat_template.has_value(), "{}: {}", path.string(), no_chat_template_reason);
  return *chat_template;
}

}  // namespace qf
