// g++ 12 takes std::regex's own moves for reads of uninitialised members when sanitizers are on.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#include "qwen3fp4/run/name_filter.h"

#include <regex>
#include <utility>

#include "qwen3fp4/base/error.h"

namespace qf {

struct NameFilter::Regex {
  std::regex compiled;
};

NameFilter::NameFilter(std::string option, std::string named, std::string pattern)
    : option_(std::move(option)), named_(std::move(named)), pattern_(std::move(pattern)) {
  if (pattern_.empty()) return;
  try {
    regex_ = std::make_unique<Regex>(Regex{std::regex(pattern_, std::regex::ECMAScript)});
  } catch (const std::regex_error& error) {
    fail(ExitCode::kUsage, "{}: expected a regular expression, found '{}': {}", option_, pattern_,
         error.what());
  }
}

NameFilter::~NameFilter() = default;

bool NameFilter::matches(const std::string& name) {
  if (!regex_ || !std::regex_search(name, regex_->compiled)) return false;
  matched_ = true;
  return true;
}

void NameFilter::check_matched_something() const {
  if (regex_ && !matched_) {
    fail(
        ExitCode::kUsage,
        "{}: expected a pattern found in some {}'s name, like model.layers.0.self_attn.q_proj, but "
        "'{}' is in none",
        option_, named_, pattern_);
  }
}

}  // namespace qf
