#pragma once

#include <memory>
#include <string>

namespace qf {

// An option that picks names by an ECMAScript regex found anywhere in them (--keep, --taps); an
// empty pattern picks none. A malformed one throws (exit code 2).
class NameFilter {
 public:
  // `named`: whose names, for the errors: "weight", "module".
  NameFilter(std::string option, std::string named, std::string pattern);
  NameFilter(const NameFilter&) = delete;
  NameFilter& operator=(const NameFilter&) = delete;
  ~NameFilter();

  [[nodiscard]] bool empty() const { return !regex_; }
  [[nodiscard]] bool matches(const std::string& name);
  // Throws (exit code 2) when a pattern was given and found in none of the names asked for.
  void check_matched_something() const;

 private:
  struct Regex;
  std::string option_, named_, pattern_;
  std::unique_ptr<Regex> regex_;
  bool matched_ = false;
};

}  // namespace qf
