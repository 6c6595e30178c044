// g++ 12 takes std::regex's own moves for reads of uninitialised members when sanitizers are on.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#include "keep_filter.h"

#include <regex>

#include "qwen3fp4/base/error.h"

namespace qf {

struct KeepFilter::Regex {
  std::regex compiled;
};

KeepFilter::KeepFilter(const std::string& pattern) : pattern_(pattern) {
  if (pattern.empty()) return;
  try {
    regex_ = std::make_unique<Regex>(Regex{std::regex(pattern, std::regex::ECMAScript)});
  } catch (const std::regex_error& error) {
    fail(ExitCode::kUsage, "--keep: expected a regular expression, found '{}': {}", pattern,
         error.what());
  }
}

KeepFilter::~KeepFilter() = default;

bool KeepFilter::matches(const std::string& name) {
  if (!regex_ || !std::regex_search(name, regex_->compiled)) return false;
  matched_ = true;
  return true;
}

void KeepFilter::check_matched_something() const {
  if (regex_ && !matched_) {
    fail(ExitCode::kUsage,
         "--keep: expected a pattern found in some weight's name, but '{}' is in none (inspect "
         "lists them)",
         pattern_);
  }
}

}  // namespace qf
