#include <cstddef>
#include <cstdint>
#include <string_view>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/text/chat_template.h"
#include "qwen3fp4/text/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    (void)qf::ChatTemplate::from_jinja(text);
  } catch (const qf::Error&) {
  }
  try {
    const auto tokenizer = qf::Tokenizer::from_json(text, "fuzz");
    const auto ids = tokenizer.encode(text.substr(0, 200), qf::SpecialTokens::kMatch);
    (void)tokenizer.decode(ids, false);
  } catch (const qf::Error&) {
  }
  return 0;
}
