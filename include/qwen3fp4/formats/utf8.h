#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace qf {

enum class Utf8Kind { kValid, kInvalid, kUnfinished };

// The first character of `text` (not empty), well-formed by RFC 3629: no overlong form, no
// surrogate, nothing above U+10FFFF. Of an ill-formed one, `bytes` is its maximal subpart, which
// Unicode and Python's errors="replace" turn into one U+FFFD. kUnfinished: the text ends inside it.
struct Utf8Step {
  Utf8Kind kind;
  std::size_t bytes;
};
[[nodiscard]] Utf8Step utf8_step(std::string_view text);

[[nodiscard]] bool is_valid_utf8(std::string_view text);
// Every maximal subpart that is not valid becomes U+FFFD.
[[nodiscard]] std::string replace_invalid_utf8(std::string_view text);

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

}  // namespace qf
