#include "qwen3fp4/train/ask.h"

#include <set>
#include <utility>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
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

std::vector<BatchAnswer> ask(const Speaker& speaker, std::span<const Question> questions,
                             BatchOptions options, const BatchProgress& progress) {
  options.end_tokens = speaker.folder.end_tokens();
  std::vector<BatchPrompt> prompts;
  for (const Question& question : questions) {
    prompts.push_back(
        {question_ids(speaker.folder, question.prompt, question.turn), question.seed});
  }
  return answer_prompts(speaker.model, &speaker.folder.require_tokenizer(), prompts, options,
                        progress);
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
