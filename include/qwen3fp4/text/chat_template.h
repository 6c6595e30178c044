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

// Ids, and which of them an assistant generates: its answers with their end tokens, and no role
// header.
struct AnswerIds {
  std::vector<std::int64_t> ids;
  std::vector<bool> answer;  // as long as ids
};

// The ChatML templates of Qwen3 (Instruct-2507, and the hybrid one with a think block) and SmolLM2,
// recognised from the Jinja text in `tokenizer_config.json` (key `chat_template`; or the file
// `chat_template.jinja`). A template of another family is refused, listing the supported ones.
class ChatTemplate {
 public:
  [[nodiscard]] static ChatTemplate from_jinja(std::string_view jinja);
  // Of the text of a tokenizer_config.json.
  [[nodiscard]] static ChatTemplate from_config_json(std::string_view json,
                                                     const std::string& source_name);
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
  // The conversation as a model sees it that generates every answer: each one's ids begin a new
  // tokenisation, as behind a generation prompt. The same as encode(kNone) unless an answer begins
  // with a line break, which the whole text would merge with the header's. An empty think block of
  // the hybrid template is part of the prompt (as with kWithoutThinking).
  [[nodiscard]] AnswerIds encode_answers(const Tokenizer& tokenizer,
                                         std::span<const Message> messages) const;
  // What stands in the system turn of a conversation without one; empty: no such turn.
  [[nodiscard]] const std::string& default_system() const { return default_system_; }
  [[nodiscard]] ChatTemplate without_default_system() const { return {std::string(), hybrid_}; }
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
  // Runs of the rendered text in turn: ChatML's markers, and the text between them, cut where an
  // answer begins.
  struct Run {
    std::string text;
    bool marker;
    bool answer = false;
  };
  [[nodiscard]] std::vector<Run> runs(std::span<const Message> messages,
                                      AnswerOpening opening) const;
  [[nodiscard]] static std::vector<Run> answer_runs(std::string_view content, bool after_query,
                                                    bool is_last);
  static void append_ids(const Tokenizer& tokenizer, const Run& run,
                         std::vector<std::int64_t>& ids);

  std::string default_system_;  // inserted when the first message is no system prompt; may be empty
  bool hybrid_;
};

}  // namespace qf
