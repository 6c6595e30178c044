#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "qwen3fp4/check/three_path.h"
#include "qwen3fp4/text/tokenizer.h"

namespace qf::cli {

// Why the third path did not run; empty when it did.
using WhyNot = std::string;

// `tokenizer` may be nullptr: then there are no texts.
[[nodiscard]] nlohmann::json to_json(const ThreePathReport& report, const Tokenizer* tokenizer,
                                     const WhyNot& why_not);
// The three rankings side by side, how near they are to each other, and the verdict.
[[nodiscard]] std::string to_text(const ThreePathReport& report, const Tokenizer* tokenizer,
                                  const WhyNot& why_not);
// One sentence: whether inference and STE agree.
[[nodiscard]] std::string verdict(const ThreePathReport& report);

}  // namespace qf::cli
