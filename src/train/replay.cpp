#include "qwen3fp4/train/replay.h"

#include <nlohmann/json.hpp>

#include "qwen3fp4/formats/utf8.h"

namespace qf {

std::string replay_jsonl(const Speaker& speaker, std::span<const std::string> prompts,
                         const GeneratorOptions& options, const ReplayProgress& progress) {
  std::string lines;
  Interview interview(speaker, options);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const Answer answer =
        interview.ask(prompts[i], SystemTurn::kDefault, options.sampling.seed + i);
    const std::string text = replace_invalid_utf8(answer.text);
    if (!text.empty()) {
      const nlohmann::json line{{"messages",
                                 {{{"role", "user"}, {"content", prompts[i]}},
                                  {{"role", "assistant"}, {"content", text}}}},
                                {"truncated", answer.stop_reason != StopReason::kEndToken}};
      lines += line.dump() + "\n";
    }
    if (progress) {
      progress(static_cast<std::int64_t>(i) + 1, static_cast<std::int64_t>(prompts.size()));
    }
  }
  return lines;
}

}  // namespace qf
