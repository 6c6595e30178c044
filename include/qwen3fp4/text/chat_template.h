#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "qwen3fp4/text/tokenizer.h"

namespace qf {

struct Message {
  std::string role;  // system, user or assistant
  std::string content;
};

// The ChatML templates of Qwen3 and SmolLM2, recognised from the Jinja text in
// `tokenizer_config.json` (key `chat_template`; or the file `chat_template.jinja`). A template of
// another family is refused, listing the supported ones.
class ChatTemplate {
 public:
  [[nodiscard]] static ChatTemplate from_jinja(std::string_view jinja);
  [[nodiscard]] static ChatTemplate from_folder(const std::filesystem::path& folder);

  // The same text as transformers' apply_chat_template(tokenize=False).
  [[nodiscard]] std::string render(std::span<const Message> messages,
                                   bool add_generation_prompt) const;
  // The ids of render(), except that special tokens typed inside a message stay text.
  [[nodiscard]] std::vector<std::int64_t> encode(const Tokenizer& tokenizer,
                                                 std::span<const Message> messages,
                                                 bool add_generation_prompt) const;
  // The ids that follow an assistant's generated end token when the conversation goes on with
  // `message`: the rest of the closing line, the new turn, and the assistant's opening. Appended to
  // a KV cache that holds the conversation up to and including that end token.
  [[nodiscard]] std::vector<std::int64_t> encode_followup(const Tokenizer& tokenizer,
                                                          const Message& message) const;

 private:
  explicit ChatTemplate(std::string default_system) : default_system_(std::move(default_system)) {}
  // Runs of the rendered text in turn: ChatML's markers, and the text between them.
  struct Run {
    std::string text;
    bool marker;
  };
  [[nodiscard]] std::vector<Run> runs(std::span<const Message> messages,
                                      bool add_generation_prompt) const;

  std::string default_system_;  // inserted when the first message is no system prompt; may be empty
};

}  // namespace qf
