#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "qwen3fp4/check/ab_check.h"

namespace qf::cli {

// Everything; numbers that are not finite become null, as JSON has none.
[[nodiscard]] nlohmann::json to_json(const AbReport& report);
// Tables for a terminal: of each layer its worst tap, and every tap that is out of bounds; with
// `all_taps` every tap. Ends with the verdict.
[[nodiscard]] std::string to_text(const AbReport& report, bool all_taps);
// One sentence.
[[nodiscard]] std::string verdict(const AbReport& report);
// A page of its own, nothing loaded from elsewhere: a heat map of layers x operations for each
// mode.
[[nodiscard]] std::string to_html(const AbReport& report);

}  // namespace qf::cli
