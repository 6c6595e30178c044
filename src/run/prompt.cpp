#include "qwen3fp4/run/prompt.h"

#include "qwen3fp4/base/error.h"

namespace qf {
namespace {

AnswerOpening opening_of(const ModelFolder& folder, const Prompt& prompt) {
  if (!prompt.no_think) return AnswerOpening::kAssistant;
  if (!folder.require_chat_template().hybrid()) {
    fail(ExitCode::kUsage, "--no-think: the chat template of {} has no think block",
         folder.path.string());
  }
  return AnswerOpening::kWithoutThinking;
}

}  // namespace

std::vector<std::int64_t> prompt_ids(const ModelFolder& folder, const Prompt& prompt) {
  if ((prompt.system || prompt.no_think) && (prompt.raw || !prompt.ids.empty())) {
    fail(ExitCode::kUsage, "{} needs a chat template: leave out --raw and --ids",
         prompt.system ? "--system" : "--no-think");
  }
  const std::int64_t vocab = folder.config.vocab_size;
  for (const std::int64_t id : prompt.ids) {
    if (id >= 0 && id < vocab) continue;
    fail(ExitCode::kUsage, "--ids: expected the model's token ids from 0 to {}, got {}", vocab - 1,
         id);
  }
  if (!prompt.ids.empty()) return prompt.ids;
  const Tokenizer& tokenizer = folder.require_tokenizer();
  if (prompt.raw) return tokenizer.encode(prompt.text, SpecialTokens::kMatch);
  std::vector<Message> messages;
  if (prompt.system) messages.push_back({"system", *prompt.system});
  messages.push_back({"user", prompt.text});
  return folder.require_chat_template().encode(tokenizer, messages, opening_of(folder, prompt));
}

std::vector<std::int64_t> followup_ids(const ModelFolder& folder, const std::string& text,
                                       const Prompt& first) {
  const Tokenizer& tokenizer = folder.require_tokenizer();
  if (first.raw) return tokenizer.encode(text, SpecialTokens::kMatch);
  return folder.require_chat_template().encode_followup(tokenizer, {"user", text},
                                                        opening_of(folder, first));
}

std::int64_t turn_end_token(const ModelFolder& folder) {
  // All the families that ChatTemplate recognises are ChatML.
  constexpr std::string_view kTurnEnd = "<|im_end|>";
  const auto id = folder.require_tokenizer().id_of(kTurnEnd);
  QF_CHECK(id.has_value(), "{}: the tokenizer has no {} to end a turn with (--turns)",
           folder.path.string(), kTurnEnd);
  return *id;
}

}  // namespace qf
