#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "qwen3fp4/text/tokenizer.h"

namespace qf {

// What the two kinds of tokenizer share: ids to bytes, and which ids are special.
class Tokenizer::Impl {
 public:
  Impl() = default;
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  virtual ~Impl() = default;
  // `text` is valid UTF-8.
  virtual void encode(std::string_view text, SpecialTokens specials,
                      std::vector<std::int64_t>& ids) const = 0;
  [[nodiscard]] virtual std::string decode(std::span<const std::int64_t> ids,
                                           bool skip_specials) const;

  struct Token {
    std::string bytes;
    bool special = false;
    bool exists = true;
  };
  std::string name;  // of the source, for errors
  std::vector<Token> tokens;
  std::unordered_map<std::string, std::int64_t> id_by_text;

  // `text`: what id_of() finds it by; `bytes`: what it decodes to.
  void add(std::int64_t id, const std::string& text, Token token);
  [[nodiscard]] const Token& at(std::int64_t id) const;
};

}  // namespace qf
