#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace qf {

// nlohmann::json::parse for untrusted text: refuses, in one sentence that starts with `what`,
// syntax errors, duplicate keys and nesting deeper than 64 levels (the library's own recursion in
// copies and destructors has no limit).
[[nodiscard]] nlohmann::json parse_json(std::string_view text, const std::string& what);

}  // namespace qf
