#include "qwen3fp4/train/ask.h"

#include <algorithm>
#include <set>
#include <utility>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/train/data_file.h"

namespace qf {

std::string_view system_turn_name(SystemTurn turn) {
  switch (turn) {
    case SystemTurn::kDefault:
      return "default";
    case SystemTurn::kNone:
      return "none";
    case SystemTurn::kEmpty:
      return "empty";
  }
  return {};
}

std::vector<std::int64_t> question_ids(const ModelFolder& folder, const std::string& question,
                                       SystemTurn turn) {
  const ChatTemplate& chat = folder.require_chat_template();
  const auto opening = chat.hybrid() ? AnswerOpening::kWithoutThinking : AnswerOpening::kAssistant;
  std::vector<Message> messages;
  if (turn == SystemTurn::kEmpty) messages.push_back({"system", ""});
  messages.push_back({"user", question});
  if (turn == SystemTurn::kDefault) {
    return chat.encode(folder.require_tokenizer(), messages, opening);
  }
  return chat.without_default_system().encode(folder.require_tokenizer(), messages, opening);
}

Interview::Interview(const Speaker& speaker, GeneratorOptions options)
    : speaker_(speaker), options_(std::move(options)) {
  options_.context = 0;
  options_.end_tokens = speaker.folder.end_tokens();
}

Answer Interview::ask(const std::string& question, SystemTurn turn, std::uint64_t seed) {
  // Room for most questions, so that a longer one seldom needs another generator.
  constexpr std::int64_t kContext = 512;
  const auto ids = question_ids(speaker_.folder, question, turn);
  const auto prompt = static_cast<std::int64_t>(ids.size());
  const std::int64_t most = speaker_.model.config().max_position_embeddings;
  QF_CHECK(prompt <= most, "a prompt has {} tokens, expected at most the model's {} positions",
           prompt, most);
  const std::int64_t needed = std::min(most, prompt + options_.max_new_tokens);
  if (needed > options_.context) {
    options_.context = std::min(most, std::max(needed, kContext));
    generator_.emplace(speaker_.model, &speaker_.folder.require_tokenizer(), options_);
  }
  generator_->restart(seed);
  Answer answer = generator_->answer(ids, [](std::int64_t, std::string_view) {});
  check_interrupted();
  return answer;
}

std::vector<std::string> read_prompts(const std::filesystem::path& path) {
  std::vector<std::string> prompts;
  std::set<std::string> seen;
  for (auto& prompt : read_text_lines(read_text_file(path), path.string())) {
    if (seen.insert(prompt).second) prompts.push_back(std::move(prompt));
  }
  QF_CHECK(!prompts.empty(), "{}: expected prompts, one a line, found none", path.string());
  return prompts;
}

}  // namespace qf
