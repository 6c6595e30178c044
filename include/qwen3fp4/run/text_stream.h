#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/text/tokenizer.h"

namespace qf {

// Tokens' bytes to text that may be shown: whole UTF-8 characters, and nothing of a stop string,
// not even its beginning. Text that may still turn out to begin a stop string is held back.
class TextStream {
 public:
  // Throws (exit code 2) for an empty stop string.
  explicit TextStream(std::vector<std::string> stop_strings);

  // Returns what can be shown now. After a stop string: nothing more.
  [[nodiscard]] std::string push(std::string_view bytes);
  // Returns what was held back; an unfinished character becomes U+FFFD.
  [[nodiscard]] std::string finish();
  // A stop string was met; the text before it was returned.
  [[nodiscard]] bool stopped() const { return stopped_; }

 private:
  [[nodiscard]] std::string release(std::string_view characters);

  std::vector<std::string> stop_strings_;
  Utf8Stream characters_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace qf
