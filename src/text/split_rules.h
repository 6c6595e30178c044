#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace qf {

// One pre-tokenizer step: cuts a piece of text at the matches of a regex; matches and what lies
// between them each become a piece ("Isolated" in tokenizer.json).
class SplitRule {
 public:
  // `pattern` in the syntax of tokenizer.json; `what` names it in errors.
  SplitRule(const std::string& pattern, const std::string& what);
  SplitRule(SplitRule&&) noexcept;
  SplitRule& operator=(SplitRule&&) noexcept;
  ~SplitRule();

  // Appends the pieces of `text` (valid UTF-8), in order; the views point into `text`.
  void split(std::string_view text, std::vector<std::string_view>& pieces) const;

 private:
  struct Compiled;
  std::unique_ptr<Compiled> compiled_;
};

// The `pre_tokenizer` of a tokenizer.json: Split by regex, Digits, ByteLevel, and sequences of
// them.
class PreTokenizer {
 public:
  PreTokenizer(const nlohmann::json& json, const std::string& source_name);
  [[nodiscard]] std::vector<std::string_view> split(std::string_view text) const;

 private:
  void add(const nlohmann::json& step, const std::string& source_name);
  std::vector<SplitRule> rules_;
};

}  // namespace qf
