#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "qwen3fp4/model/model_folder.h"

namespace qf {

inline constexpr const char* kDefaultPrompt = "Write one short sentence about UFO and you.";

// What the user asks: a text or ids (ids win when not empty).
struct Prompt {
  std::string text = kDefaultPrompt;
  std::vector<std::int64_t> ids;
  std::optional<std::string> system;  // a system message before the text
  bool raw = false;                   // no chat template; special tokens in the text are matched
  bool no_think = false;              // hybrid Qwen3: an empty think block before the answer
};

// The ids to run. Throws (exit code 2) for combinations that make no sense, and (exit code 4) when
// the folder lacks the tokenizer or chat template that the prompt needs.
[[nodiscard]] std::vector<std::int64_t> prompt_ids(const ModelFolder& folder, const Prompt& prompt);

// The ids of a later turn, in the way of the `first` prompt: what stands between an answer's end
// token and the next answer.
[[nodiscard]] std::vector<std::int64_t> followup_ids(const ModelFolder& folder,
                                                     const std::string& text, const Prompt& first);

// The token that ends an assistant's turn in the folder's chat template.
[[nodiscard]] std::int64_t turn_end_token(const ModelFolder& folder);

}  // namespace qf
