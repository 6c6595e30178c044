#include "qwen3fp4/run/prompt.h"

#include "qwen3fp4/base/error.h"

namespace qf {

std::vector<std::int64_t> prompt_ids(const ModelFolder& folder, const Prompt& prompt) {
  if (prompt.system && (prompt.raw || !prompt.ids.empty())) {
    fail(ExitCode::kUsage, "--system needs a chat template: leave out --raw and --ids");
  }
  if (!prompt.ids.empty()) return prompt.ids;
  const Tokenizer& tokenizer = folder.require_tokenizer();
  if (prompt.raw) return tokenizer.encode(prompt.text, SpecialTokens::kMatch);
  std::vector<Message> messages;
  if (prompt.system) messages.push_back({"system", *prompt.system});
  messages.push_back({"user", prompt.text});
  return folder.require_chat_template().encode(tokenizer, messages, true);
}

std::vector<std::int64_t> followup_ids(const ModelFolder& folder, const std::string& text,
                                       bool raw) {
  const Tokenizer& tokenizer = folder.require_tokenizer();
  if (raw) return tokenizer.encode(text, SpecialTokens::kMatch);
  return folder.require_chat_template().encode_followup(tokenizer, {"user", text});
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
