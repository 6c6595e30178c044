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

// How a rendered conversation ends: as its messages do, or with the opening of the answer to come.
enum class AnswerOpening {
  kNone,
  kAssistant,
  kWithoutThinking,  // an empty think block: transformers' enable_thinking=False
};

// The ChatML templates of Qwen3 (Instruct-2507, and the hybrid one with a think block) and SmolLM2,
// recognised from the Jinja text in `tokenizer_config.json` (key `chat_template`; or the file
// `chat_template.jinja`). A template of another family is refused, listing the supported ones.
class ChatTemplate {
 public:
  [[nodiscard]] static ChatTemplate from_jinja(std::string_view jinja);
  [[nodiscard]] static ChatTemplate from_folder(const std::filesystem::path& folder);

  // Whether the user chooses between answers with and without thinking; kWithoutThinking is refused
  // otherwise.
  [[nodiscard]] bool hybrid() const { return hybrid_; }
  // The same text as transformers' apply_chat_template(tokenize=False).
  [[nodiscard]] std::string render(std::span<const Message> messages, AnswerOpening opening) const;
  // The ids of render(), except that special tokens typed inside a message stay text.
  [[nodiscard]] std::vector<std::int64_t> encode(const Tokenizer& tokenizer,
                                                 std::span<const Message> messages,
                                                 AnswerOpening opening) const;
  // The ids that follow an assistant's generated end token when the conversation goes on with
  // `message`: the rest of the closing line, the new turn, and the assistant's opening. Appended to
  // a KV cache that holds the conversation up to and including that end token. A think block in it
  // stays there, where render() would drop it from earlier turns.
  [[nodiscard]] std::vector<std::int64_t> encode_followup(const Tokenizer& tokenizer,
                                                          const Message& message,
                                                          AnswerOpening opening) const;

 private:
  ChatTemplate(std::string default_system, bool hybrid)
      : default_system_(std::move(default_system)), hybrid_(hybrid) {}
  // Runs of the rendered text in turn: ChatML's markers, and the text between them.
  struct Run {
    std::string text;
    bool marker;
  };
  [[nodiscard]] std::vector<Run> runs(std::span<const Message> messages,
                                      AnswerOpening opening) const;
  [[nodiscard]] static std::vector<Run> answer_runs(std::string_view content, bool after_query,
                                                    bool is_last);

  std::string default_system_;  // inserted when the first message is no system prompt; may be empty
  bool hybrid_;
};

}  // namespace qf
