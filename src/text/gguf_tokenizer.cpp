#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/json_text.h"
#include "qwen3fp4/text/tokenizer.h"

namespace qf {
namespace {

using Json = nlohmann::ordered_json;

// tokenizer.ggml.token_type
constexpr std::int64_t kNormal = 1;
constexpr std::int64_t kControl = 3;
constexpr std::int64_t kUserDefined = 4;
constexpr std::int64_t kUnused = 5;

constexpr const char* kQwenPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

Json pre_tokenizer(const std::string& pre, const std::string& file) {
  Json steps = Json::array();
  if (pre == "smollm") {
    steps = {{{"type", "Digits"}, {"individual_digits", true}}, byte_level(true)};
  } else if (pre == "qwen2") {
    steps = {{{"type", "Split"},
              {"pattern", {{"Regex", kQwenPattern}}},
              {"behavior", "Isolated"},
              {"invert", false}},
             byte_level(false)};
  } else {
    fail(ExitCode::kUnreadable,
         "{}: tokenizer.ggml.pre '{}' is not supported (supported: smollm, qwen2)", file, pre);
  }
  return {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

void check_bpe(const GgufFile& gguf) {
  const std::string& model = gguf.text("tokenizer.ggml.model");
  QF_CHECK(model == "gpt2", "{}: tokenizer.ggml.model '{}' is not supported (supported: gpt2)",
           gguf.name(), model);
}

constexpr std::pair<const char*, const char*> kNamedTokens[] = {
    {"bos_token", "tokenizer.ggml.bos_token_id"},
    {"eos_token", "tokenizer.ggml.eos_token_id"},
    {"unk_token", "tokenizer.ggml.unknown_token_id"},
    {"pad_token", "tokenizer.ggml.padding_token_id"}};

// GGUF's strings are any bytes; JSON's are not.
std::string dump(const Json& json, const GgufFile& gguf) {
  try {
    return json.dump(1);
  } catch (const Json::exception& error) {
    fail(ExitCode::kUnreadable, "{}: expected UTF-8 in the tokenizer's metadata: {}", gguf.name(),
         error.what());
  }
}

}  // namespace

std::string tokenizer_json_from_gguf(const GgufFile& gguf) {
  check_bpe(gguf);
  const std::string& pre = gguf.text("tokenizer.ggml.pre");
  const auto& tokens = gguf.texts("tokenizer.ggml.tokens");
  const auto& types = gguf.integers("tokenizer.ggml.token_type");
  QF_CHECK(types.size() == tokens.size(), "{}: {} tokens but {} token types", gguf.name(),
           tokens.size(), types.size());
  Json added = Json::array();
  nlohmann::json vocab = nlohmann::json::object();
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (types[id] == kUnused) continue;
    if (types[id] == kControl || types[id] == kUserDefined) {
      added.push_back({{"id", id},
                       {"content", tokens[id]},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", types[id] == kControl}});
      // SmolLM2's own file has its added tokens in the vocabulary too, Qwen's does not.
      if (pre != "smollm") continue;
    }
    QF_CHECK(!vocab.contains(tokens[id]), "{}: token '{}' is there twice", gguf.name(), tokens[id]);
    vocab[tokens[id]] = id;
  }
  Json json;
  json["version"] = "1.0";
  json["truncation"] = nullptr;
  json["padding"] = nullptr;
  json["added_tokens"] = std::move(added);
  json["normalizer"] = pre == "qwen2" ? Json{{"type", "NFC"}} : Json(nullptr);
  json["pre_tokenizer"] = pre_tokenizer(pre, gguf.name());
  json["post_processor"] = nullptr;
  json["decoder"] = byte_level(true);
  json["model"] = {{"type", "BPE"},
                   {"dropout", nullptr},
                   {"unk_token", nullptr},
                   {"continuing_subword_prefix", nullptr},
                   {"end_of_word_suffix", nullptr},
                   {"fuse_unk", false},
                   {"byte_fallback", false},
                   {"ignore_merges", false},
                   {"vocab", Json(vocab)},
                   {"merges", gguf.texts("tokenizer.ggml.merges")}};
  return dump(json, gguf);
}

std::string tokenizer_config_json_from_gguf(const GgufFile& gguf) {
  check_bpe(gguf);
  const auto& tokens = gguf.texts("tokenizer.ggml.tokens");
  Json json;
  json["tokenizer_class"] = "PreTrainedTokenizerFast";
  json["clean_up_tokenization_spaces"] = false;
  for (const auto& [name, key] : kNamedTokens) {
    if (!gguf.has(key)) continue;
    const std::int64_t id = gguf.integer(key);
    QF_CHECK(id >= 0 && id < static_cast<std::int64_t>(tokens.size()),
             "{}: metadata '{}': expected one of {} tokens, found {}", gguf.name(), key,
             tokens.size(), id);
    json[name] = tokens[static_cast<std::size_t>(id)];
  }
  if (gguf.has("tokenizer.chat_template")) {
    json["chat_template"] = gguf.text("tokenizer.chat_template");
  }
  return dump(json, gguf);
}

namespace {

// A step of a pre_tokenizer, without the fields that change nothing.
bool is_byte_level(const nlohmann::json& step, bool use_regex) {
  return step.is_object() && step.value("type", "") == "ByteLevel" &&
         !step.value("add_prefix_space", true) && step.value("use_regex", true) == use_regex;
}

// The kinds that pre_tokenizer() makes, by GGUF's name.
std::string pre_of(const nlohmann::json& tokenizer) {
  const auto& pre = tokenizer.at("pre_tokenizer");
  const auto normalizer = tokenizer.value("normalizer", nlohmann::json());
  if (pre.is_object() && pre.value("type", "") == "Sequence" &&
      pre.at("pretokenizers").size() == 2) {
    const auto& first = pre["pretokenizers"][0];
    const auto& second = pre["pretokenizers"][1];
    const auto type = first.value("type", "");
    if (type == "Digits" && first.value("individual_digits", false) && normalizer.is_null() &&
        is_byte_level(second, true)) {
      return "smollm";
    }
    if (type == "Split" && first.at("pattern").value("Regex", "") == kQwenPattern &&
        first.value("behavior", "") == "Isolated" && !first.value("invert", false) &&
        normalizer.is_object() && normalizer.value("type", "") == "NFC" &&
        is_byte_level(second, false)) {
      return "qwen2";
    }
  }
  fail(ExitCode::kUnreadable,
       "tokenizer.json: expected a byte-level BPE split as SmolLM2's or Qwen's, for GGUF has no "
       "other name that we know; found another kind");
}

struct TokenList {
  std::vector<std::string> tokens;
  std::vector<std::int64_t> types;
  void put(std::int64_t id, std::string text, std::int64_t type) {
    QF_CHECK(id >= 0 && id < std::ssize(tokens),
             "tokenizer.json: token '{}': expected an id below the model's {} rows, found {}", text,
             tokens.size(), id);
    tokens[static_cast<std::size_t>(id)] = std::move(text);
    types[static_cast<std::size_t>(id)] = type;
  }
};

TokenList token_list(const nlohmann::json& tokenizer, std::int64_t rows) {
  TokenList list;
  for (std::int64_t id = 0; id < rows; ++id) list.tokens.push_back(fmt::format("[PAD{}]", id));
  list.types.assign(list.tokens.size(), kUnused);
  for (const auto& [token, id] : tokenizer.at("model").at("vocab").items()) {
    list.put(id.get<std::int64_t>(), token, kNormal);
  }
  for (const auto& added : tokenizer.value("added_tokens", nlohmann::json::array())) {
    list.put(added.at("id").get<std::int64_t>(), added.at("content").get<std::string>(),
             added.value("special", false) ? kControl : kUserDefined);
  }
  return list;
}

std::vector<std::string> merge_list(const nlohmann::json& model) {
  std::vector<std::string> merges;
  for (const auto& merge : model.at("merges")) {
    merges.push_back(merge.is_string() ? merge.get<std::string>()
                                       : fmt::format("{} {}", merge.at(0).get<std::string>(),
                                                     merge.at(1).get<std::string>()));
  }
  return merges;
}

GgufWriter::Metadata tokenizer_metadata(const nlohmann::json& tokenizer,
                                        const nlohmann::json& config, std::int64_t rows) {
  auto list = token_list(tokenizer, rows);
  GgufWriter::Metadata metadata;
  metadata.emplace_back("tokenizer.ggml.model", std::string("gpt2"));
  metadata.emplace_back("tokenizer.ggml.pre", pre_of(tokenizer));
  for (const auto& [name, key] : kNamedTokens) {
    if (!config.contains(name) || config[name].is_null()) continue;
    // A text, or the object of an AddedToken.
    const auto text =
        (config[name].is_object() ? config[name].at("content") : config[name]).get<std::string>();
    const auto found = std::ranges::find(list.tokens, text);
    QF_CHECK(found != list.tokens.end(), "tokenizer_config.json: {}: no token '{}'", name, text);
    metadata.emplace_back(key, found - list.tokens.begin());
  }
  metadata.emplace_back("tokenizer.ggml.add_bos_token", config.value("add_bos_token", false));
  metadata.emplace_back("tokenizer.ggml.tokens", std::move(list.tokens));
  metadata.emplace_back("tokenizer.ggml.token_type", std::move(list.types));
  metadata.emplace_back("tokenizer.ggml.merges", merge_list(tokenizer.at("model")));
  return metadata;
}

}  // namespace

GgufWriter::Metadata gguf_tokenizer_metadata(std::string_view tokenizer_json,
                                             std::string_view tokenizer_config_json,
                                             std::int64_t rows) {
  try {
    return tokenizer_metadata(parse_json(tokenizer_json, "tokenizer.json"),
                              parse_json(tokenizer_config_json, "tokenizer_config.json"), rows);
  } catch (const nlohmann::json::exception& error) {
    fail(ExitCode::kUnreadable, "tokenizer.json, tokenizer_config.json: {}", error.what());
  }
}

}  // namespace qf
