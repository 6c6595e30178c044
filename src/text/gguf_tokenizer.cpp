#include <nlohmann/json.hpp>
#include <utility>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/text/tokenizer.h"

namespace qf {
namespace {

using Json = nlohmann::ordered_json;

// tokenizer.ggml.token_type
constexpr std::int64_t kControl = 3;
constexpr std::int64_t kUserDefined = 4;

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
  constexpr std::pair<const char*, const char*> kNamed[] = {
      {"bos_token", "tokenizer.ggml.bos_token_id"},
      {"eos_token", "tokenizer.ggml.eos_token_id"},
      {"unk_token", "tokenizer.ggml.unknown_token_id"},
      {"pad_token", "tokenizer.ggml.padding_token_id"}};
  for (const auto& [name, key] : kNamed) {
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

}  // namespace qf
