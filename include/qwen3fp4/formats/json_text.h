#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace qf {

// nlohmann::json::parse for untrusted text: refuses, in one sentence that starts with `what`,
// syntax errors, duplicate keys and nesting deeper than 64 levels (the library's own recursion in
// copies and destructors has no limit).
[[nodiscard]] nlohmann::json parse_json(std::string_view text, const std::string& what);

// object[key], or `absent` when there is no such key; another type is refused by name. The
// library's own value() throws its own exception then.
[[nodiscard]] std::string optional_text(const nlohmann::json& object, const char* key,
                                        const std::string& absent, const std::string& what);
[[nodiscard]] bool optional_flag(const nlohmann::json& object, const char* key, bool absent,
                                 const std::string& what);

}  // namespace qf
