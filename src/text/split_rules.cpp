#include "split_rules.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <utility>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/json_text.h"

namespace qf {
namespace {

// The regex that ByteLevel applies with use_regex, from GPT-2.
constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// tokenizer.json means Unicode's White_Space by \s; PCRE2's \s also has U+180E.
constexpr std::string_view kWhiteSpace =
    R"(\t-\r\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";

std::string with_unicode_white_space(std::string_view pattern) {
  std::string out;
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char escaped = pattern[++i];
      if (escaped == 's' && in_class) {
        out += kWhiteSpace;
      } else if (escaped == 's' || (escaped == 'S' && !in_class)) {
        out.append(escaped == 's' ? "[" : "[^").append(kWhiteSpace).append("]");
      } else {
        out += c;
        out += escaped;
      }
      continue;
    }
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
    out += c;
  }
  return out;
}

std::string pcre2_message(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

bool flag(const nlohmann::json& step, const char* key, const std::string& what) {
  QF_CHECK(step.contains(key) && step[key].is_boolean(), "{}: expected a boolean '{}'", what, key);
  return step[key].get<bool>();
}

}  // namespace

struct SplitRule::Compiled {
  pcre2_code* code = nullptr;
  pcre2_match_context* context = nullptr;
  std::string what;

  Compiled() = default;
  Compiled(const Compiled&) = delete;
  Compiled& operator=(const Compiled&) = delete;
  ~Compiled() {
    pcre2_match_context_free(context);
    pcre2_code_free(code);
  }
};

SplitRule::SplitRule(const std::string& pattern, const std::string& what)
    : compiled_(std::make_unique<Compiled>()) {
  compiled_->what = what;
  const std::string translated = with_unicode_white_space(pattern);
  // \C would cut inside a character, and matching from there is undefined.
  constexpr std::uint32_t kOptions = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
  int error = 0;
  PCRE2_SIZE position = 0;
  compiled_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()),
                                  translated.size(), kOptions, &error, &position, nullptr);
  QF_CHECK(compiled_->code != nullptr, "{}: the split regex '{}' is not valid: {}", what, pattern,
           pcre2_message(error));
  // Without JIT support the interpreter answers the same, slower.
  pcre2_jit_compile(compiled_->code, PCRE2_JIT_COMPLETE);
  compiled_->context = pcre2_match_context_create(nullptr);
  // A hostile regex must not hang: the known ones need a few steps a character.
  pcre2_set_match_limit(compiled_->context, 10'000'000);
}

SplitRule::SplitRule(SplitRule&&) noexcept = default;
SplitRule& SplitRule::operator=(SplitRule&&) noexcept = default;
SplitRule::~SplitRule() = default;

void SplitRule::split(std::string_view text, std::vector<std::string_view>& pieces) const {
  const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> data(
      pcre2_match_data_create_from_pattern(compiled_->code, nullptr), pcre2_match_data_free);
  std::size_t cut = 0;  // end of the last piece
  std::size_t at = 0;   // where the next match is looked for
  while (at < text.size()) {
    const int found =
        pcre2_match(compiled_->code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                    PCRE2_NO_UTF_CHECK, data.get(), compiled_->context);
    if (found == PCRE2_ERROR_NOMATCH) break;
    QF_CHECK(found >= 0, "{}: splitting a text of {} bytes failed: {}", compiled_->what,
             text.size(), pcre2_message(found));
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data.get());
    if (range[1] == range[0]) {  // an empty match cuts nothing
      do ++at;
      while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
      continue;
    }
    if (range[0] > cut) pieces.push_back(text.substr(cut, range[0] - cut));
    pieces.push_back(text.substr(range[0], range[1] - range[0]));
    cut = at = range[1];
  }
  if (cut < text.size()) pieces.push_back(text.substr(cut));
}

PreTokenizer::PreTokenizer(const nlohmann::json& json, const std::string& source_name) {
  if (!json.is_null()) add(json, source_name);
}

void PreTokenizer::add(const nlohmann::json& step, const std::string& source_name) {
  const std::string what = source_name + ": pre_tokenizer";
  QF_CHECK(step.is_object() && step.contains("type") && step["type"].is_string(),
           "{}: expected an object with a 'type'", what);
  const auto type = step["type"].get<std::string>();
  if (type == "Sequence") {
    QF_CHECK(step.contains("pretokenizers") && step["pretokenizers"].is_array(),
             "{}: expected a list 'pretokenizers'", what);
    for (const auto& inner : step["pretokenizers"]) add(inner, source_name);
  } else if (type == "Split") {
    QF_CHECK(step.contains("pattern") && step["pattern"].is_object() &&
                 step["pattern"].contains("Regex") && step["pattern"]["Regex"].is_string(),
             "{}: Split: expected a pattern 'Regex'", what);
    QF_CHECK(optional_text(step, "behavior", "", what) == "Isolated" && !flag(step, "invert", what),
             "{}: Split: only behavior Isolated without invert is supported", what);
    rules_.emplace_back(step["pattern"]["Regex"].get<std::string>(), what);
  } else if (type == "Digits") {
    rules_.emplace_back(flag(step, "individual_digits", what) ? R"(\p{N})" : R"(\p{N}+)", what);
  } else if (type == "ByteLevel") {
    QF_CHECK(!flag(step, "add_prefix_space", what),
             "{}: ByteLevel: add_prefix_space is not supported", what);
    if (optional_flag(step, "use_regex", true, what)) rules_.emplace_back(kGpt2Pattern, what);
  } else {
    fail(ExitCode::kUnreadable,
         "{}: type '{}' is not supported (supported: Sequence, Split, Digits, ByteLevel)", what,
         type);
  }
}

std::vector<std::string_view> PreTokenizer::split(std::string_view text) const {
  std::vector<std::string_view> pieces{text};
  for (const SplitRule& rule : rules_) {
    std::vector<std::string_view> finer;
    for (const std::string_view piece : pieces) rule.split(piece, finer);
    pieces = std::move(finer);
  }
  return pieces;
}

}  // namespace qf
