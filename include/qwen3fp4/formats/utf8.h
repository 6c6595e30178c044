#pragma once

#include <string_view>

namespace qf {

// Well-formed by RFC 3629: no overlong form, no surrogate, nothing above U+10FFFF.
[[nodiscard]] bool is_valid_utf8(std::string_view text);

}  // namespace qf
