#include "qwen3fp4/formats/utf8.h"
#include "qwen3fp4/text/tokenizer.h"

namespace qf {

std::string Utf8Stream::push(std::string_view bytes) {
  pending_ += bytes;
  std::string out;
  std::string_view rest = pending_;
  while (!rest.empty()) {
    const Utf8Step step = utf8_step(rest);
    if (step.kind == Utf8Kind::kUnfinished) break;
    out += step.kind == Utf8Kind::kValid ? rest.substr(0, step.bytes) : kReplacementCharacter;
    rest.remove_prefix(step.bytes);
  }
  pending_ = std::string(rest);
  return out;
}

std::string Utf8Stream::finish() {
  const std::string out = replace_invalid_utf8(pending_);
  pending_.clear();
  return out;
}

}  // namespace qf
