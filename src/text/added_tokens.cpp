#include "added_tokens.h"

#include <algorithm>
#include <array>
#include <utility>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/json_text.h"

namespace qf {
namespace {

bool flag(const nlohmann::json& token, const char* key, const std::string& what) {
  return optional_flag(token, key, false, what);
}

}  // namespace

AddedTokens::AddedTokens(const nlohmann::json& json, const std::string& source_name) {
  if (json.is_null()) return;
  QF_CHECK(json.is_array(), "{}: expected a list 'added_tokens'", source_name);
  for (const auto& entry : json) {
    QF_CHECK(entry.is_object() && entry.contains("content") && entry["content"].is_string() &&
                 entry.contains("id") && entry["id"].is_number_unsigned() &&
                 entry["id"].get<std::uint64_t>() < (std::uint64_t{1} << 24),
             "{}: expected added_tokens with 'content' and 'id'", source_name);
    AddedToken token;
    token.content = entry["content"].get<std::string>();
    token.id = entry["id"].get<std::int64_t>();
    const std::string what = fmt::format("{}: added token '{}'", source_name, token.content);
    QF_CHECK(!token.content.empty(), "{}: expected a text", what);
    for (const char* unsupported : {"single_word", "lstrip", "rstrip"}) {
      QF_CHECK(!flag(entry, unsupported, what), "{}: '{}' is not supported", what, unsupported);
    }
    token.special = flag(entry, "special", what);
    token.normalized = flag(entry, "normalized", what);
    tokens_.push_back(std::move(token));
  }
  sort_longest_first();
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  sort_longest_first();
}

void AddedTokens::sort_longest_first() {
  std::ranges::stable_sort(tokens_, std::greater<>{},
                           [](const AddedToken& token) { return token.content.size(); });
}

std::vector<TextOrToken> AddedTokens::split(std::string_view text, bool normalized,
                                            bool specials) const {
  std::array<bool, 256> starts{};
  std::vector<const AddedToken*> wanted;
  for (const AddedToken& token : tokens_) {
    if (token.normalized != normalized || (token.special && !specials)) continue;
    wanted.push_back(&token);
    starts[static_cast<unsigned char>(token.content[0])] = true;
  }
  std::vector<TextOrToken> out;
  std::size_t cut = 0;
  for (std::size_t at = 0; at < text.size();) {
    if (starts[static_cast<unsigned char>(text[at])]) {
      const std::string_view rest = text.substr(at);
      const auto found = std::ranges::find_if(
          wanted, [&](const AddedToken* token) { return rest.starts_with(token->content); });
      if (found != wanted.end()) {
        if (at > cut) out.push_back({text.substr(cut, at - cut)});
        out.push_back({rest.substr(0, (*found)->content.size()), (*found)->id});
        cut = at += (*found)->content.size();
        continue;
      }
    }
    ++at;
  }
  if (cut < text.size()) out.push_back({text.substr(cut)});
  return out;
}

}  // namespace qf
