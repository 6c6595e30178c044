#include "qwen3fp4/train/replay.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "qwen3fp4/formats/utf8.h"

namespace qf {

std::string replay_jsonl(const Speaker& speaker, std::span<const std::string> prompts,
                         const BatchOptions& options, const BatchProgress& progress) {
  std::vector<Question> questions;
  for (const std::string& prompt : prompts) {
    questions.push_back({prompt, SystemTurn::kDefault, options.sampling.seed + questions.size()});
  }
  const auto answers = ask(speaker, questions, options, progress);
  std::string lines;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const std::string text = replace_invalid_utf8(answers[i].text);
    if (text.empty()) continue;
    const nlohmann::json line{
        {"messages",
         {{{"role", "user"}, {"content", prompts[i]}}, {{"role", "assistant"}, {"content", text}}}},
        {"truncated", answers[i].stop_reason != StopReason::kEndToken}};
    lines += line.dump() + "\n";
  }
  return lines;
}

}  // namespace qf
