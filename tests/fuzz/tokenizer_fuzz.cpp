#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/text/chat_template.h"
#include "qwen3fp4/text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto chat = qf::ChatTemplate::from_jinja(text);
    const qf::Message message{"user", std::string(text)};
    (void)chat.render(std::span(&message, 1), qf::AnswerOpening::kAssistant);
  } catch (const qf::Error&) {
  }
  try {
    const auto tokenizer = qf::Tokenizer::from_json(text, "fuzz");
    const std::string_view prompt =
        text.substr(text.size() - std::min<std::size_t>(text.size(), 200));
    for (const auto specials : {qf::SpecialTokens::kMatch, qf::SpecialTokens::kAsText}) {
      for (const std::int64_t id : tokenizer.encode(prompt, specials)) {
        if (!tokenizer.has_token(id)) __builtin_trap();
        (void)tokenizer.decode(std::span(&id, 1), false);
      }
    }
  } catch (const qf::Error&) {
  }
  return 0;
}
