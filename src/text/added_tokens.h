#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace qf {

struct AddedToken {
  std::string content;
  std::int64_t id = 0;
  bool special = false;
  bool normalized = false;  // matched after normalisation instead of before
};

// A stretch of text, or one added token found in it (`id` >= 0).
struct TextOrToken {
  std::string_view text;
  std::int64_t id = -1;
};

// The `added_tokens` of a tokenizer.json: found whole in a text, leftmost first, longest among
// those.
class AddedTokens {
 public:
  AddedTokens() = default;
  AddedTokens(const nlohmann::json& json, const std::string& source_name);
  explicit AddedTokens(std::vector<AddedToken> tokens);

  [[nodiscard]] const std::vector<AddedToken>& tokens() const { return tokens_; }
  // Cuts `text` at the tokens whose `normalized` is as given; special ones only when `specials`.
  [[nodiscard]] std::vector<TextOrToken> split(std::string_view text, bool normalized,
                                               bool specials) const;

 private:
  void sort_longest_first();
  std::vector<AddedToken> tokens_;  // longest content first
};

}  // namespace qf
