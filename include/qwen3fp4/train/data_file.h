#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/text/chat_template.h"

namespace qf {

// What a conversation is for, decided by its prompt (split_of()).
enum class DataSplit {
  kTrain,
  kTuning,   // never trained: what recipes are compared on
  kHeldOut,  // never trained, and asked only for a report
};
// The rest of 100 is trained.
struct SplitPercents {
  std::int64_t held_out = 0;
  std::int64_t tuning = 0;
};

// One conversation, or one plain text.
struct Example {
  std::vector<Message> messages = {};  // every assistant's turn is trained; empty: `text` is
  std::string text = {};
  bool truncated = false;  // the last answer goes on in truth: no end token is trained
  std::string group = {};  // of a TSV's "#!group"; empty without
  DataSplit split = DataSplit::kTrain;
};

struct DataReading {
  // "{key}" becomes the value, for the keys that a file declares with "#!define".
  std::map<std::string, std::string> defines = {};
  // Of conversations where the file does not say ("#!holdout").
  SplitPercents split = {};
};

struct DataFileContent {
  std::vector<Example> examples;
  std::map<std::string, std::string> defines;  // every key that the file declares, as used
};

// By the name's ending:
//   .tsv    prompt<TAB>answer a line. \t \n \r \\ stand for tab, line breaks and backslash, and \#
//           for a # at the beginning; other backslashes are refused. Empty lines and lines that
//           begin with # are skipped, but "#!define KEY VALUE", "#!group TEXT" and "#!holdout
//           HELD_OUT TUNING" (percents) hold for the lines after them.
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

// Where a prompt falls. A function of its letters and digits alone (salted FNV-1a over the text
// without ASCII case, ASCII and CJK punctuation and spaces), so that spellings of one question fall
// together: places 0 to 99, of which the lowest are held out and the next ones are for tuning.
[[nodiscard]] DataSplit split_of(std::string_view prompt, const SplitPercents& percents);

}  // namespace qf
