#include "qwen3fp4/text/chat_template.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/formats/json_text.h"

namespace qf {
namespace {

constexpr std::string_view kStart = "<|im_start|>";
constexpr std::string_view kEnd = "<|im_end|>";
constexpr std::string_view kSupported =
    "supported: ChatML as in SmolLM2-Instruct and Qwen3-Instruct-2507; generate --raw uses none";

bool has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// The text that SmolLM2's template puts into the system turn when the conversation has none.
std::string default_system_of(std::string_view jinja) {
  constexpr std::string_view kOpen = "<|im_start|>system\n";
  std::string text(jinja);
  for (std::size_t at = text.find("\\n"); at != std::string::npos; at = text.find("\\n", at)) {
    text.replace(at, 2, "\n");
  }
  const std::size_t open = text.find(kOpen);
  QF_CHECK(open != std::string::npos, "the chat template has a default system prompt, not found");
  const std::size_t from = open + kOpen.size();
  const std::size_t to = text.find(kEnd, from);
  QF_CHECK(to != std::string::npos, "the chat template's default system prompt has no end");
  return text.substr(from, to - from);
}

void check_roles(std::span<const Message> messages) {
  QF_CHECK(!messages.empty(), "a conversation needs at least one message");
  for (const Message& message : messages) {
    QF_CHECK(message.role == "system" || message.role == "user" || message.role == "assistant",
             "expected the role system, user or assistant, found '{}'", message.role);
  }
}

}  // namespace

ChatTemplate ChatTemplate::from_jinja(std::string_view jinja) {
  QF_CHECK(has(jinja, kStart) && has(jinja, kEnd) && has(jinja, "add_generation_prompt"),
           "the chat template is not ChatML ({})", kSupported);
  QF_CHECK(!has(jinja, "think"), "chat templates with a think block are not supported ({})",
           kSupported);
  const bool qwen = has(jinja, "message.role == \"user\"") && has(jinja, "tool_calls");
  const bool smollm =
      has(jinja, "loop.first and messages[0]['role'] != 'system'") && has(jinja, "message['role']");
  QF_CHECK(qwen || smollm, "the chat template is of an unknown kind ({})", kSupported);
  return ChatTemplate(smollm ? default_system_of(jinja) : std::string());
}

ChatTemplate ChatTemplate::from_folder(const std::filesystem::path& folder) {
  const std::filesystem::path jinja = folder / "chat_template.jinja";
  if (std::filesystem::exists(jinja)) return from_jinja(read_text_file(jinja));
  const std::filesystem::path config = folder / "tokenizer_config.json";
  QF_CHECK(std::filesystem::exists(config), "{}: expected tokenizer_config.json or {}",
           folder.string(), jinja.filename().string());
  const nlohmann::json json = parse_json(read_text_file(config), config.string());
  QF_CHECK(json.is_object() && json.contains("chat_template") && json["chat_template"].is_string(),
           "{}: expected a text 'chat_template'", config.string());
  return from_jinja(json["chat_template"].get<std::string>());
}

std::vector<ChatTemplate::Run> ChatTemplate::runs(std::span<const Message> messages,
                                                  bool add_generation_prompt) const {
  check_roles(messages);
  std::vector<Run> out;
  const auto turn = [&](const std::string& role, const std::string& content) {
    out.push_back({std::string(kStart), true});
    out.push_back({role + "\n" + content, false});
    out.push_back({std::string(kEnd), true});
    out.push_back({"\n", false});
  };
  if (!default_system_.empty() && messages[0].role != "system") turn("system", default_system_);
  for (const Message& message : messages) turn(message.role, message.content);
  if (add_generation_prompt) {
    out.push_back({std::string(kStart), true});
    out.push_back({"assistant\n", false});
  }
  return out;
}

std::string ChatTemplate::render(std::span<const Message> messages,
                                 bool add_generation_prompt) const {
  std::string out;
  for (const Run& run : runs(messages, add_generation_prompt)) out += run.text;
  return out;
}

std::vector<std::int64_t> ChatTemplate::encode(const Tokenizer& tokenizer,
                                               std::span<const Message> messages,
                                               bool add_generation_prompt) const {
  std::vector<std::int64_t> ids;
  for (const Run& run : runs(messages, add_generation_prompt)) {
    // Content may hold a marker's text, which must not become the marker.
    const auto part =
        tokenizer.encode(run.text, run.marker ? SpecialTokens::kMatch : SpecialTokens::kAsText);
    QF_CHECK(!run.marker || part.size() == 1, "the tokenizer has no token '{}'", run.text);
    ids.insert(ids.end(), part.begin(), part.end());
  }
  return ids;
}

std::vector<std::int64_t> ChatTemplate::encode_followup(const Tokenizer& tokenizer,
                                                        const Message& message) const {
  std::vector<std::int64_t> ids = tokenizer.encode("\n", SpecialTokens::kAsText);
  // Without the default system prompt, which the first turn already holds.
  const auto turn = ChatTemplate(std::string()).encode(tokenizer, std::span(&message, 1), true);
  ids.insert(ids.end(), turn.begin(), turn.end());
  return ids;
}

}  // namespace qf
