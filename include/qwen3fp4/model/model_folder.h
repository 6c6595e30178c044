#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/model/qwen3_model.h"
#include "qwen3fp4/text/chat_template.h"
#include "qwen3fp4/text/tokenizer.h"

namespace qf {

inline constexpr std::string_view kDefaultModelFolder = "models/smollm2-135m-nvfp4";

// generation_config.json: what the model's authors recommend; absent fields stay empty.
struct GenerationConfig {
  std::vector<std::int64_t> eos_token_ids;
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<std::int64_t> top_k;
  std::optional<bool> do_sample;  // false means greedy
  [[nodiscard]] static GenerationConfig from_folder(const std::filesystem::path& folder);
};

// A folder with model.dat, config.json and, when the source had them, tokenizer.json,
// tokenizer_config.json and generation_config.json.
struct ModelFolder {
  std::filesystem::path path;
  ModelConfig config;
  GenerationConfig generation;
  std::optional<Tokenizer> tokenizer;  // absent when the folder has none
  std::optional<ChatTemplate> chat_template;
  std::string no_chat_template_reason;  // why chat_template is absent, for the error that needs it

  // Reads everything but the weights. A missing folder is refused; for the default folder the
  // message names the one command that fetches it (scripts/quickstart.sh), for others `flag`.
  [[nodiscard]] static ModelFolder open(const std::filesystem::path& path,
                                        std::string_view flag = "--model");
  [[nodiscard]] Qwen3Model load_model(
      const Backend& backend,
      const std::function<void(std::int64_t, std::int64_t)>& progress = {}) const;
  // generation_config.json's, then config.json's end tokens.
  [[nodiscard]] std::vector<std::int64_t> end_tokens() const;
  // Throws, naming the folder, when there is no tokenizer / no usable chat template.
  [[nodiscard]] const Tokenizer& require_tokenizer() const;
  [[nodiscard]] const ChatTemplate& require_chat_template() const;
};

}  // namespace qf
