#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace qf::cli {

// For a page's <script type="application/json">: nothing in a text may end the element, or open
// another; bytes that are not UTF-8 are replaced.
[[nodiscard]] inline std::string html_data(const nlohmann::json& json) {
  std::string data =
      json.dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace);
  for (std::size_t at = data.find('<'); at != std::string::npos; at = data.find('<', at)) {
    data.replace(at, 1, "\\u003c");
  }
  return data;
}

}  // namespace qf::cli
