#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/text/chat_template.h"

namespace qf {

// One conversation, or one plain text.
struct Example {
  std::vector<Message> messages = {};  // every assistant's turn is trained; empty: `text` is
  std::string text = {};
  bool truncated = false;  // the last answer goes on in truth: no end token is trained
  std::string group = {};  // of a TSV's "#!group"; empty without
  bool held_out = false;   // kept for evaluation, by is_held_out()
};

struct DataReading {
  // "{key}" becomes the value, for the keys that a file declares with "#!define".
  std::map<std::string, std::string> defines = {};
  // Of conversations where the file does not say ("#!holdout").
  std::int64_t holdout_percent = 0;
};

struct DataFileContent {
  std::vector<Example> examples;
  std::map<std::string, std::string> defines;  // every key that the file declares, as used
};

// By the name's ending:
//   .tsv    prompt<TAB>answer a line. \t \n \r \\ stand for tab, line breaks and backslash, and \#
//           for a # at the beginning; other backslashes are refused. Empty lines and lines that
//           begin with # are skipped, but "#!define KEY VALUE", "#!group TEXT" and "#!holdout
//           PERCENT" hold for the lines after them.
//   .jsonl  {"messages": [{"role", "content"}, ...], "truncated": false} a line; other keys are
//           ignored.
//   .txt    one plain text.
// Throws, with file and line, for anything else.
[[nodiscard]] DataFileContent read_data_file(const std::filesystem::path& path,
                                             const DataReading& reading);
// `name`: what errors call the text.
[[nodiscard]] DataFileContent read_tsv(std::string_view text, const std::string& name,
                                       const DataReading& reading);
[[nodiscard]] DataFileContent read_jsonl(std::string_view text, const std::string& name,
                                         const DataReading& reading);

// One text a line, with the same escapes, empty lines and comments as in .tsv.
[[nodiscard]] std::vector<std::string> read_text_lines(std::string_view text,
                                                       const std::string& name);

// Whether a prompt is among the `percent` of 100 that no training sees. A function of its letters
// and digits alone (FNV-1a over the text without ASCII case, ASCII and CJK punctuation and spaces),
// so that spellings of one question fall on the same side.
[[nodiscard]] bool is_held_out(std::string_view prompt, std::int64_t percent);

}  // namespace qf
