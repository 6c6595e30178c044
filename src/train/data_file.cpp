#include "qwen3fp4/train/data_file.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>
#include <utility>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/formats/json_text.h"
#include "qwen3fp4/formats/utf8.h"

namespace qf {
namespace {

// Another salt is another split. Tuning has seen answers of what the split without one held out.
constexpr std::string_view kSplitSalt = "split of 2026-11-26";

// The lines of a file, one after the other, without their line breaks.
class Lines {
 public:
  Lines(std::string_view text, const std::string& name) : rest_(text), name_(name) {
    constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
    if (rest_.starts_with(kByteOrderMark)) rest_.remove_prefix(kByteOrderMark.size());
  }
  [[nodiscard]] std::optional<std::string_view> next() {
    if (rest_.empty()) return std::nullopt;
    ++number_;
    const std::size_t end = std::min(rest_.find('\n'), rest_.size());
    std::string_view line = rest_.substr(0, end);
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    QF_CHECK(is_valid_utf8(line), "{}: expected UTF-8, found other bytes", place());
    return line;
  }
  // "file:line"
  [[nodiscard]] std::string place() const { return fmt::format("{}:{}", name_, number_); }

 private:
  std::string_view rest_;
  const std::string& name_;
  std::int64_t number_ = 0;
};

// The first word of `text`, which loses it and the spaces behind it.
std::string_view take_word(std::string_view& text) {
  const std::size_t end = std::min(text.find_first_of(" \t"), text.size());
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(end);
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  return word;
}

std::optional<std::int64_t> percent_of(std::string_view text) {
  std::int64_t percent = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), percent);
  const bool number = error == std::errc() && end == text.data() + text.size();
  if (!number || percent < 0 || percent > 100) return std::nullopt;
  return percent;
}

// A text of a line, with its escapes resolved.
std::string unescaped(std::string_view text, const Lines& lines) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      out += text[i];
      continue;
    }
    const char escaped = i + 1 < text.size() ? text[++i] : '\0';
    switch (escaped) {
      case 't':
        out += '\t';
        break;
      case 'n':
        out += '\n';
        break;
      case 'r':
        out += '\r';
        break;
      case '\\':
      case '#':
        out += escaped;
        break;
      default:
        QF_CHECK(false, "{}: expected \\t, \\n, \\r, \\\\ or \\#, found another backslash",
                 lines.place());
    }
  }
  return out;
}

class TsvReader {
 public:
  TsvReader(std::string_view text, const std::string& name, const DataReading& reading)
      : lines_(text, name), reading_(reading), split_(reading.split) {}

  [[nodiscard]] DataFileContent read() {
    while (const auto line = lines_.next()) {
      if (line->starts_with("#!")) {
        directive(line->substr(2));
      } else if (!line->empty() && !line->starts_with('#')) {
        example(*line);
      }
    }
    return std::move(content_);
  }

 private:
  void directive(std::string_view text) {
    const std::string_view kind = take_word(text);
    if (kind == "define") {
      const std::string key(take_word(text));
      QF_CHECK(!key.empty() && !text.empty(), "{}: expected #!define KEY VALUE", lines_.place());
      const auto given = reading_.defines.find(key);
      content_.defines[key] = given == reading_.defines.end() ? std::string(text) : given->second;
    } else if (kind == "group") {
      group_ = std::string(text);
    } else if (kind == "holdout") {
      std::string_view rest = text;
      const auto held_out = percent_of(take_word(rest));
      const auto tuning = rest.empty() ? 0 : percent_of(rest);
      QF_CHECK(held_out && tuning && *held_out + *tuning <= 100,
               "{}: expected #!holdout and one or two whole percentages, at most 100 in all, found "
               "'{}'",
               lines_.place(), text);
      split_ = {.held_out = *held_out, .tuning = *tuning};
    } else {
      QF_CHECK(false, "{}: expected #!define, #!group or #!holdout, found '#!{}'", lines_.place(),
               kind);
    }
  }

  void example(std::string_view line) {
    const std::size_t tab = line.find('\t');
    const auto columns = 1 + std::count(line.begin(), line.end(), '\t');
    QF_CHECK(columns == 2,
             "{}: expected prompt<TAB>answer, found {} column{} (\\t stands for a tab in a text)",
             lines_.place(), columns, columns == 1 ? "" : "s");
    Example example;
    const std::string written = unescaped(line.substr(0, tab), lines_);
    std::string prompt = defined(written);
    std::string answer = defined(unescaped(line.substr(tab + 1), lines_));
    QF_CHECK(!prompt.empty() && !answer.empty(), "{}: expected prompt<TAB>answer, found no {}",
             lines_.place(), prompt.empty() ? "prompt" : "answer");
    // As written, so that the split is the same whatever a key stands for.
    example.split = split_of(written, split_);
    example.group = group_;
    example.messages = {{"user", std::move(prompt)}, {"assistant", std::move(answer)}};
    content_.examples.push_back(std::move(example));
  }

  [[nodiscard]] std::string defined(std::string text) const {
    for (const auto& [key, value] : content_.defines) {
      const std::string placeholder = "{" + key + "}";
      for (std::size_t at = text.find(placeholder); at != std::string::npos;
           at = text.find(placeholder, at + value.size())) {
        text.replace(at, placeholder.size(), value);
      }
    }
    return text;
  }

  Lines lines_;
  const DataReading& reading_;
  SplitPercents split_;
  std::string group_;
  DataFileContent content_;
};

const std::string& text_of(const nlohmann::json& object, const char* key,
                           const std::string& place) {
  QF_CHECK(object.is_object() && object.contains(key) && object[key].is_string(),
           "{}: expected a text '{}' in every message", place, key);
  return object[key].get_ref<const std::string&>();
}

Example example_of(const nlohmann::json& json, const std::string& place) {
  QF_CHECK(json.is_object() && json.contains("messages") && json["messages"].is_array(),
           "{}: expected an object with a list 'messages'", place);
  Example example;
  example.truncated = optional_flag(json, "truncated", false, place);
  bool answered = false;
  for (const auto& row : json["messages"]) {
    Message message{text_of(row, "role", place), text_of(row, "content", place)};
    QF_CHECK(
        message.role == "user" || message.role == "assistant" ||
            (message.role == "system" && example.messages.empty()),
        "{}: expected roles user and assistant, with system at most for the first message; found "
        "'{}'",
        place, message.role);
    answered = answered || (message.role == "assistant" && !message.content.empty());
    example.messages.push_back(std::move(message));
  }
  QF_CHECK(answered, "{}: expected an assistant's message with text, found none", place);
  QF_CHECK(!example.truncated || example.messages.back().role == "assistant",
           "{}: 'truncated' expects an assistant's message at the end", place);
  return example;
}

bool is_cjk_punctuation(std::string_view character) {
  // U+3000 .. U+303F, U+FF01 .. U+FF0F, U+FF1A .. U+FF20, U+2018 .. U+201F, U+2026
  if (character.starts_with("\xE3\x80")) return true;
  if (character.starts_with("\xEF\xBC")) {
    const auto last = static_cast<unsigned char>(character[2]);
    return last <= 0x8F || (last >= 0x9A && last <= 0xA0);
  }
  if (character.starts_with("\xE2\x80")) {
    const auto last = static_cast<unsigned char>(character[2]);
    return (last >= 0x98 && last <= 0x9F) || last == 0xA6;
  }
  return false;
}

}  // namespace

DataFileContent read_tsv(std::string_view text, const std::string& name,
                         const DataReading& reading) {
  return TsvReader(text, name, reading).read();
}

std::vector<std::string> read_text_lines(std::string_view text, const std::string& name) {
  std::vector<std::string> texts;
  Lines lines(text, name);
  while (const auto line = lines.next()) {
    if (!line->empty() && !line->starts_with('#')) texts.push_back(unescaped(*line, lines));
  }
  return texts;
}

DataFileContent read_jsonl(std::string_view text, const std::string& name,
                           const DataReading& reading) {
  DataFileContent content;
  Lines lines(text, name);
  while (const auto line = lines.next()) {
    if (line->find_first_not_of(" \t") == std::string_view::npos) continue;
    const std::string place = lines.place();
    Example example = example_of(parse_json(*line, place), place);
    const auto user =
        std::ranges::find_if(example.messages, [](const Message& m) { return m.role == "user"; });
    if (user != example.messages.end()) example.split = split_of(user->content, reading.split);
    content.examples.push_back(std::move(example));
  }
  return content;
}

DataFileContent read_data_file(const std::filesystem::path& path, const DataReading& reading) {
  const std::string extension = path.extension().string();
  QF_CHECK(extension == ".tsv" || extension == ".jsonl" || extension == ".txt",
           "{}: expected a name that ends in .tsv, .jsonl or .txt", path.string());
  const std::string text = read_text_file(path);
  if (extension == ".tsv") return read_tsv(text, path.string(), reading);
  if (extension == ".jsonl") return read_jsonl(text, path.string(), reading);
  QF_CHECK(is_valid_utf8(text), "{}: expected UTF-8, found other bytes", path.string());
  DataFileContent content;
  if (!text.empty()) content.examples.push_back({.text = text});
  return content;
}

DataSplit split_of(std::string_view prompt, const SplitPercents& percents) {
  std::uint64_t hash = 0xCBF29CE484222325U;
  const auto add = [&](unsigned char byte) { hash = (hash ^ byte) * 0x100000001B3U; };
  for (const char byte : kSplitSalt) add(static_cast<unsigned char>(byte));
  while (!prompt.empty()) {
    const std::string_view character = prompt.substr(0, utf8_step(prompt).bytes);
    prompt.remove_prefix(character.size());
    const auto first = static_cast<unsigned char>(character[0]);
    if (character.size() == 1 && first < 0x80) {
      if (first >= 'A' && first <= 'Z') {
        add(static_cast<unsigned char>(first - 'A' + 'a'));
      } else if ((first >= 'a' && first <= 'z') || (first >= '0' && first <= '9')) {
        add(first);
      }
    } else if (!is_cjk_punctuation(character)) {
      for (const char byte : character) add(static_cast<unsigned char>(byte));
    }
  }
  // The upper half: FNV's low bits are the weakest.
  const auto place = static_cast<std::int64_t>((hash >> 32) % 100);
  if (place < percents.held_out) return DataSplit::kHeldOut;
  return place < percents.held_out + percents.tuning ? DataSplit::kTuning : DataSplit::kTrain;
}

}  // namespace qf
