#include "qwen3fp4/text/tokenizer.h"

#include <unicode/normalizer2.h>
#include <unicode/stringpiece.h>
#include <unicode/uniset.h>
#include <unicode/unistr.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "added_tokens.h"
#include "byte_level_bpe.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/formats/json_text.h"
#include "qwen3fp4/formats/utf8.h"
#include "split_rules.h"
#include "tokenizer_impl.h"

namespace qf {
namespace {

// The `normalizer` of a tokenizer.json: none or NFC.
bool wants_nfc(const nlohmann::json& json, const std::string& source_name) {
  if (json.is_null()) return false;
  const std::string type =
      json.is_object() ? optional_text(json, "type", "", source_name + ": normalizer") : "";
  if (type == "Sequence" && json.contains("normalizers") && json["normalizers"].is_array()) {
    bool any = false;
    for (const auto& inner : json["normalizers"]) any = wants_nfc(inner, source_name) || any;
    return any;
  }
  QF_CHECK(type == "NFC", "{}: normalizer '{}' is not supported (supported: NFC, none)",
           source_name, type);
  return true;
}

// The Python package normalises by Unicode 9: it does not reorder the 98 combining marks that came
// later. Models were trained on its ids, so neither do we.
const icu::Normalizer2& unicode_9_nfc() {
  static const auto kNormalizer = [] {
    UErrorCode status = U_ZERO_ERROR;
    auto known = std::make_unique<icu::UnicodeSet>(u"[:age=9.0:]", status);
    const icu::Normalizer2* nfc = icu::Normalizer2::getNFCInstance(status);
    QF_CHECK(U_SUCCESS(status) != 0, "ICU has no NFC data: {}", u_errorName(status));
    known->freeze();
    struct Filtered {
      std::unique_ptr<icu::UnicodeSet> known;
      icu::FilteredNormalizer2 normalizer;
    };
    auto* set = known.get();
    return std::make_unique<Filtered>(
        Filtered{std::move(known), icu::FilteredNormalizer2(*nfc, *set)});
  }();
  return kNormalizer->normalizer;
}

std::string nfc(std::string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  std::string out;
  icu::StringByteSink<std::string> sink(&out);
  const icu::StringPiece piece(text.data(), static_cast<std::int32_t>(text.size()));
  unicode_9_nfc().normalizeUTF8(0, piece, sink, nullptr, status);
  QF_CHECK(U_SUCCESS(status) != 0, "normalising a text of {} bytes failed: {}", text.size(),
           u_errorName(status));
  return out;
}

// Steps that change ids are refused; those that only move offsets are not needed here.
void check_no_op(const nlohmann::json& json, const char* key, const std::string& source_name) {
  if (!json.contains(key) || json[key].is_null()) return;
  const std::string type =
      json[key].is_object() ? optional_text(json[key], "type", "", source_name + ": " + key) : "";
  QF_CHECK(type == "ByteLevel", "{}: {} '{}' is not supported (supported: ByteLevel, none)",
           source_name, key, type);
}

class BpeTokenizer final : public Tokenizer::Impl {
 public:
  BpeTokenizer(const nlohmann::json& json, const std::string& source_name);
  void encode(std::string_view text, SpecialTokens specials,
              std::vector<std::int64_t>& ids) const override;

 private:
  void encode_normalized(std::string_view text, std::vector<std::int64_t>& ids) const;

  ByteLevelBpe bpe_;
  PreTokenizer pre_tokenizer_;
  AddedTokens added_;
  bool nfc_;
};

const nlohmann::json& member(const nlohmann::json& json, const char* key) {
  static const nlohmann::json kNone;
  return json.contains(key) ? json[key] : kNone;
}

BpeTokenizer::BpeTokenizer(const nlohmann::json& json, const std::string& source_name)
    : bpe_(member(json, "model"), source_name),
      pre_tokenizer_(member(json, "pre_tokenizer"), source_name),
      added_(member(json, "added_tokens"), source_name),
      nfc_(wants_nfc(member(json, "normalizer"), source_name)) {
  name = source_name;
  check_no_op(json, "post_processor", source_name);
  check_no_op(json, "decoder", source_name);
  for (const char* key : {"truncation", "padding"}) {
    QF_CHECK(member(json, key).is_null(), "{}: '{}' is not supported", source_name, key);
  }
  for (const auto& [bytes, id] : bpe_.vocabulary()) add(id, bytes, {bytes});
  for (const AddedToken& token : added_.tokens())
    add(token.id, token.content, {token.content, token.special});
}

void BpeTokenizer::encode(std::string_view text, SpecialTokens specials,
                          std::vector<std::int64_t>& ids) const {
  const bool match = specials == SpecialTokens::kMatch;
  for (const TextOrToken& part : added_.split(text, false, match)) {
    if (part.id >= 0) {
      ids.push_back(part.id);
      continue;
    }
    const std::string normalized = nfc_ ? nfc(part.text) : std::string(part.text);
    for (const TextOrToken& inner : added_.split(normalized, true, match)) {
      if (inner.id >= 0) {
        ids.push_back(inner.id);
      } else {
        encode_normalized(inner.text, ids);
      }
    }
  }
}

void BpeTokenizer::encode_normalized(std::string_view text, std::vector<std::int64_t>& ids) const {
  for (const std::string_view piece : pre_tokenizer_.split(text)) bpe_.encode(piece, ids);
}

}  // namespace

void Tokenizer::Impl::add(std::int64_t id, const std::string& text, Token token) {
  const auto index = static_cast<std::size_t>(id);
  if (index >= tokens.size()) tokens.resize(index + 1, Token{.bytes = {}, .exists = false});
  tokens[index] = std::move(token);
  id_by_text[text] = id;
}

const Tokenizer::Impl::Token& Tokenizer::Impl::at(std::int64_t id) const {
  const bool known = id >= 0 && id < static_cast<std::int64_t>(tokens.size()) &&
                     tokens[static_cast<std::size_t>(id)].exists;
  QF_CHECK(known, "{}: no token has the id {} (ids end at {})", name, id,
           static_cast<std::int64_t>(tokens.size()) - 1);
  return tokens[static_cast<std::size_t>(id)];
}

std::string Tokenizer::Impl::decode(std::span<const std::int64_t> ids, bool skip_specials) const {
  std::string out;
  for (const std::int64_t id : ids) {
    const Token& token = at(id);
    if (!skip_specials || !token.special) out += token.bytes;
  }
  return out;
}

Tokenizer::Tokenizer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;
Tokenizer::~Tokenizer() = default;

Tokenizer Tokenizer::from_json(std::string_view json, const std::string& source_name) {
  const nlohmann::json parsed = parse_json(json, source_name);
  QF_CHECK(parsed.is_object(), "{}: expected a JSON object", source_name);
  return Tokenizer(std::make_unique<BpeTokenizer>(parsed, source_name));
}

Tokenizer Tokenizer::from_folder(const std::filesystem::path& folder) {
  const std::filesystem::path json = folder / "tokenizer.json";
  if (std::filesystem::exists(json)) return from_json(read_text_file(json), json.string());
  const std::filesystem::path model = folder / "tokenizer.model";
  QF_CHECK(std::filesystem::exists(model), "{}: expected tokenizer.json or tokenizer.model",
           folder.string());
  return from_sentencepiece(read_text_file(model), model.string());
}

std::vector<std::int64_t> Tokenizer::encode(std::string_view text, SpecialTokens specials) const {
  std::vector<std::int64_t> ids;
  if (is_valid_utf8(text)) {
    impl_->encode(text, specials, ids);
  } else {
    impl_->encode(replace_invalid_utf8(text), specials, ids);
  }
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int64_t> ids, bool skip_specials) const {
  return impl_->decode(ids, skip_specials);
}

std::string Tokenizer::token_bytes(std::int64_t id) const { return impl_->at(id).bytes; }
bool Tokenizer::is_special(std::int64_t id) const { return impl_->at(id).special; }

std::optional<std::int64_t> Tokenizer::id_of(std::string_view token) const {
  const auto found = impl_->id_by_text.find(std::string(token));
  if (found == impl_->id_by_text.end()) return std::nullopt;
  return found->second;
}

std::int64_t Tokenizer::vocab_size() const {
  return static_cast<std::int64_t>(impl_->tokens.size());
}

bool Tokenizer::has_token(std::int64_t id) const {
  return id >= 0 && id < vocab_size() && impl_->tokens[static_cast<std::size_t>(id)].exists;
}

}  // namespace qf
