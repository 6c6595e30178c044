#include "qwen3fp4/text/chat_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/formats/json_text.h"

namespace qf {
namespace {

constexpr std::string_view kStart = "<|im_start|>";
constexpr std::string_view kEnd = "<|im_end|>";
constexpr std::string_view kSupported =
    "supported: ChatML as in SmolLM2-Instruct, Qwen3-Instruct-2507 and the hybrid Qwen3; generate "
    "--raw uses none";
constexpr std::string_view kThink = "<think>";
constexpr std::string_view kEndThink = "</think>";

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

std::string_view without_newlines_before(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of('\n'), text.size()));
  return text;
}
std::string_view without_newlines_after(std::string_view text) {
  return text.substr(0, text.find_last_not_of('\n') + 1);
}

// The last message that asks something: those before it lose their thoughts. Tools answer as a user
// does, in a tag of their own.
std::size_t last_query(std::span<const Message> messages) {
  for (std::size_t i = messages.size(); i-- > 0;) {
    const Message& message = messages[i];
    const bool tool = message.content.starts_with("<tool_response>") &&
                      message.content.ends_with("</tool_response>");
    if (message.role == "user" && !tool) return i;
  }
  return messages.size() - 1;
}

}  // namespace

ChatTemplate ChatTemplate::from_jinja(std::string_view jinja) {
  QF_CHECK(has(jinja, kStart) && has(jinja, kEnd) && has(jinja, "add_generation_prompt"),
           "the chat template is not ChatML ({})", kSupported);
  const bool hybrid = has(jinja, "enable_thinking is false") && has(jinja, "last_query_index");
  QF_CHECK(hybrid || !has(jinja, "think"),
           "the chat template thinks in a way that is not supported ({})", kSupported);
  // Qwen2.5's template, which adds a system prompt of its own, spells this ['role'].
  const bool qwen = has(jinja, "message.role == \"user\"") && has(jinja, "tool_calls") &&
                    has(jinja, "messages[0].role == 'system'");
  const bool smollm =
      has(jinja, "loop.first and messages[0]['role'] != 'system'") && has(jinja, "message['role']");
  QF_CHECK(qwen || smollm, "the chat template is of an unknown kind ({})", kSupported);
  return {smollm ? default_system_of(jinja) : std::string(), hybrid};
}

ChatTemplate ChatTemplate::from_folder(const std::filesystem::path& folder) {
  const std::filesystem::path jinja = folder / "chat_template.jinja";
  if (std::filesystem::exists(jinja)) return from_jinja(read_text_file(jinja));
  const std::filesystem::path config = folder / "tokenizer_config.json";
  QF_CHECK(std::filesystem::exists(config), "{}: expected tokenizer_config.json or {}",
           folder.string(), jinja.filename().string());
  return from_config_json(read_text_file(config), config.string());
}

ChatTemplate ChatTemplate::from_config_json(std::string_view text, const std::string& source_name) {
  const nlohmann::json json = parse_json(text, source_name);
  QF_CHECK(json.is_object() && json.contains("chat_template") && json["chat_template"].is_string(),
           "{}: expected a text 'chat_template'", source_name);
  return from_jinja(json["chat_template"].get<std::string>());
}

// An answer of the hybrid template: its thoughts stay only after the last query, and the last
// answer always has a think block.
std::vector<ChatTemplate::Run> ChatTemplate::answer_runs(std::string_view content, bool after_query,
                                                         bool is_last) {
  std::string_view thoughts;
  if (has(content, kEndThink)) {
    thoughts = without_newlines_after(content.substr(0, content.find(kEndThink)));
    if (has(thoughts, kThink)) thoughts.remove_prefix(thoughts.rfind(kThink) + kThink.size());
    content.remove_prefix(content.rfind(kEndThink) + kEndThink.size());
    content = without_newlines_before(content);
    thoughts = without_newlines_before(thoughts);
  }
  if (!after_query || (!is_last && thoughts.empty())) {
    return {{"assistant\n", false}, {std::string(content), false, true}};
  }
  thoughts = without_newlines_after(thoughts);
  const bool thinks = !thoughts.empty();
  return {{"assistant\n", false},
          {std::string(kThink), true, thinks},
          {fmt::format("\n{}\n", thoughts), false, thinks},
          {std::string(kEndThink), true, thinks},
          {"\n\n", false, thinks},
          {std::string(without_newlines_before(content)), false, true}};
}

std::vector<ChatTemplate::Run> ChatTemplate::runs(std::span<const Message> messages,
                                                  AnswerOpening opening) const {
  check_roles(messages);
  QF_CHECK(opening != AnswerOpening::kWithoutThinking || hybrid_,
           "the chat template has no choice of thinking");
  std::vector<Run> out;
  const auto marker = [&](std::string_view text) { out.push_back({std::string(text), true}); };
  const auto add = [&](std::string text) { out.push_back({std::move(text), false}); };
  const auto close = [&](bool answer) {
    out.push_back({std::string(kEnd), true, answer});
    add("\n");
  };
  if (!default_system_.empty() && messages[0].role != "system") {
    marker(kStart);
    add("system\n" + default_system_);
    close(false);
  }
  const std::size_t query = last_query(messages);
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const auto& [role, content] = messages[i];
    marker(kStart);
    const bool answer = role == "assistant";
    if (hybrid_ && answer) {
      std::ranges::move(answer_runs(content, i > query, i + 1 == messages.size()),
                        std::back_inserter(out));
    } else {
      add(role + "\n");
      out.push_back({content, false, answer});
    }
    close(answer);
  }
  if (opening == AnswerOpening::kNone) return out;
  marker(kStart);
  add("assistant\n");
  if (opening == AnswerOpening::kWithoutThinking) {
    marker(kThink);
    add("\n\n");
    marker(kEndThink);
    add("\n\n");
  }
  return out;
}

std::string ChatTemplate::render(std::span<const Message> messages, AnswerOpening opening) const {
  std::string out;
  for (const Run& run : runs(messages, opening)) out += run.text;
  return out;
}

void ChatTemplate::append_ids(const Tokenizer& tokenizer, const Run& run,
                              std::vector<std::int64_t>& ids) {
  // Content may hold a marker's text, which must not become the marker.
  const auto part =
      tokenizer.encode(run.text, run.marker ? SpecialTokens::kMatch : SpecialTokens::kAsText);
  QF_CHECK(!run.marker || part.size() == 1, "the tokenizer has no token '{}'", run.text);
  ids.insert(ids.end(), part.begin(), part.end());
}

std::vector<std::int64_t> ChatTemplate::encode(const Tokenizer& tokenizer,
                                               std::span<const Message> messages,
                                               AnswerOpening opening) const {
  std::vector<std::int64_t> ids;
  Run text{"", false};
  const auto flush = [&] {
    if (!text.text.empty()) append_ids(tokenizer, text, ids);
    text.text.clear();
  };
  for (const Run& run : runs(messages, opening)) {
    if (run.marker) {
      flush();
      append_ids(tokenizer, run, ids);
    } else {
      text.text += run.text;
    }
  }
  flush();
  return ids;
}

AnswerIds ChatTemplate::encode_answers(const Tokenizer& tokenizer,
                                       std::span<const Message> messages) const {
  AnswerIds out;
  std::string text;  // between two cuts
  const auto flush = [&](bool answer) {
    if (!text.empty()) append_ids(tokenizer, {text, false}, out.ids);
    text.clear();
    out.answer.resize(out.ids.size(), answer);
  };
  bool in_answer = false;
  for (const Run& run : runs(messages, AnswerOpening::kNone)) {
    if (run.marker || run.answer != in_answer) flush(in_answer);
    in_answer = run.answer;
    if (run.marker) {
      append_ids(tokenizer, run, out.ids);
      out.answer.resize(out.ids.size(), run.answer);
    } else {
      text += run.text;
    }
  }
  flush(in_answer);
  return out;
}

std::vector<std::int64_t> ChatTemplate::encode_followup(const Tokenizer& tokenizer,
                                                        const Message& message,
                                                        AnswerOpening opening) const {
  std::vector<std::int64_t> ids = tokenizer.encode("\n", SpecialTokens::kAsText);
  // Without the default system prompt, which the first turn already holds.
  const auto turn = without_default_system().encode(tokenizer, std::span(&message, 1), opening);
  ids.insert(ids.end(), turn.begin(), turn.end());
  return ids;
}

}  // namespace qf
