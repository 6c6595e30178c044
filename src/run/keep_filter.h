#pragma once

#include <memory>
#include <string>

namespace qf {

// --keep: which tensors keep the source's float type. An ECMAScript regex, found anywhere in a
// name; an empty one is in none. A malformed pattern throws (exit code 2).
class KeepFilter {
 public:
  explicit KeepFilter(const std::string& pattern);
  KeepFilter(const KeepFilter&) = delete;
  KeepFilter& operator=(const KeepFilter&) = delete;
  ~KeepFilter();

  [[nodiscard]] bool matches(const std::string& name);
  // Throws (exit code 2) when a pattern was given and found in none of the names asked for.
  void check_matched_something() const;

 private:
  struct Regex;
  std::string pattern_;
  std::unique_ptr<Regex> regex_;
  bool matched_ = false;
};

}  // namespace qf
