#include "byte_level_bpe.h"

#include <algorithm>
#include <queue>
#include <utility>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/json_text.h"
#include "qwen3fp4/formats/utf8.h"

namespace qf {
namespace {

constexpr std::int64_t kMostTokens = std::int64_t{1} << 24;

// GPT-2's table: code point of each byte.
constexpr std::array<int, 256> make_byte_characters() {
  std::array<int, 256> table{};
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    table[static_cast<std::size_t>(byte)] = printable ? byte : next++;
  }
  return table;
}
constexpr std::array<int, 256> kByteCharacters = make_byte_characters();
static_assert(kByteCharacters[' '] == 0x120 && kByteCharacters['\n'] == 0x10A);

int byte_of_character(int code) {
  const auto found = std::ranges::find(kByteCharacters, code);
  return found == kByteCharacters.end() ? -1 : static_cast<int>(found - kByteCharacters.begin());
}

// All of the table's characters have one or two bytes in UTF-8.
int code_point(std::string_view character) {
  const auto first = static_cast<unsigned char>(character[0]);
  if (character.size() == 1) return first;
  if (character.size() > 2) return -1;
  return (first & 0x1F) << 6 | (static_cast<unsigned char>(character[1]) & 0x3F);
}

// A set option that we do not have would change ids, so it is refused.
void check_unset(const nlohmann::json& model, const char* key, const std::string& what) {
  if (!model.contains(key)) return;
  const auto& value = model[key];
  // Compared without making JSON of the other side, which cannot report that memory is out.
  const bool unset = value.is_null() || (value.is_boolean() && !value.get<bool>()) ||
                     (value.is_string() && value.get_ref<const std::string&>().empty());
  QF_CHECK(unset, "{}: '{}' {} is not supported", what, key, value.dump());
}

}  // namespace

std::string byte_level_to_bytes(std::string_view token) {
  std::string bytes;
  for (std::string_view rest = token; !rest.empty();) {
    const Utf8Step step = utf8_step(rest);
    const int byte = step.kind == Utf8Kind::kValid
                         ? byte_of_character(code_point(rest.substr(0, step.bytes)))
                         : -1;
    if (byte < 0) return std::string(token);
    bytes += static_cast<char>(byte);
    rest.remove_prefix(step.bytes);
  }
  return bytes;
}

ByteLevelBpe::ByteLevelBpe(const nlohmann::json& model, const std::string& source_name) {
  const std::string what = source_name + ": model";
  QF_CHECK(model.is_object(), "{}: expected an object", what);
  const std::string type = optional_text(model, "type", "BPE", what);
  QF_CHECK(type == "BPE", "{}: expected type BPE, found {}", what, type);
  for (const char* key : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                          "byte_fallback"}) {
    check_unset(model, key, what);
  }
  ignore_merges_ = optional_flag(model, "ignore_merges", false, what);
  QF_CHECK(model.contains("vocab") && model["vocab"].is_object(), "{}: expected an object 'vocab'",
           what);
  QF_CHECK(model.contains("merges") && model["merges"].is_array(), "{}: expected a list 'merges'",
           what);
  read_vocabulary(model["vocab"], what);
  read_merges(model["merges"], what);
}

void ByteLevelBpe::read_vocabulary(const nlohmann::json& vocab, const std::string& what) {
  vocabulary_.reserve(vocab.size());
  byte_ids_.fill(-1);
  for (const auto& [token, id] : vocab.items()) {
    QF_CHECK(id.is_number_unsigned() && id.get<std::uint64_t>() < kMostTokens,
             "{}: token '{}': expected an id below {}, found {}", what, token, kMostTokens,
             id.dump());
    const std::string bytes = byte_level_to_bytes(token);
    vocabulary_.emplace(bytes, id.get<std::int64_t>());
    if (bytes.size() == 1) byte_ids_[static_cast<unsigned char>(bytes[0])] = id.get<std::int32_t>();
  }
}

void ByteLevelBpe::read_merges(const nlohmann::json& merges, const std::string& what) {
  merges_.reserve(merges.size());
  std::int32_t rank = 0;
  for (const auto& merge : merges) {
    std::string left;
    std::string right;
    if (merge.is_string()) {  // "a b", the older spelling
      const auto text = merge.get<std::string>();
      const std::size_t space = text.find(' ');
      QF_CHECK(space != std::string::npos, "{}: merge {}: expected two tokens, found '{}'", what,
               rank, text);
      left = text.substr(0, space);
      right = text.substr(space + 1);
    } else {
      QF_CHECK(
          merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string(),
          "{}: merge {}: expected two tokens", what, rank);
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    }
    left = byte_level_to_bytes(left);
    right = byte_level_to_bytes(right);
    const auto a = vocabulary_.find(left);
    const auto b = vocabulary_.find(right);
    const auto both = vocabulary_.find(left + right);
    QF_CHECK(a != vocabulary_.end() && b != vocabulary_.end() && both != vocabulary_.end(),
             "{}: merge {}: '{}' and '{}' or what they make is not in the vocabulary", what, rank,
             left, right);
    const std::uint64_t key =
        static_cast<std::uint64_t>(a->second) << 32 | static_cast<std::uint64_t>(b->second);
    // The last one of a pair counts, as in the Python package.
    merges_.insert_or_assign(key, Merge{rank, static_cast<std::int32_t>(both->second)});
    ++rank;
  }
}

const ByteLevelBpe::Merge* ByteLevelBpe::find_merge(std::int32_t left, std::int32_t right) const {
  const auto found =
      merges_.find(static_cast<std::uint64_t>(left) << 32 | static_cast<std::uint64_t>(right));
  return found == merges_.end() ? nullptr : &found->second;
}

void ByteLevelBpe::encode(std::string_view piece, std::vector<std::int64_t>& ids) const {
  if (ignore_merges_) {
    const auto whole = vocabulary_.find(std::string(piece));
    if (whole != vocabulary_.end()) {
      ids.push_back(whole->second);
      return;
    }
  }
  struct Symbol {
    std::int32_t id;
    std::int32_t previous, next;  // -1: none
  };
  std::vector<Symbol> symbols;
  for (const char c : piece) {
    const std::int32_t id = byte_ids_[static_cast<unsigned char>(c)];
    if (id < 0) continue;
    const auto index = static_cast<std::int32_t>(symbols.size());
    symbols.push_back({id, index - 1, index + 1});
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;

  // Candidates by (rank, position); one whose symbols have changed meanwhile is stale.
  struct Candidate {
    std::int32_t rank, position, left_id, right_id, merged_id;
    bool operator>(const Candidate& other) const {
      return std::pair(rank, position) > std::pair(other.rank, other.position);
    }
  };
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
  const auto offer = [&](std::int32_t position) {
    if (position < 0) return;
    const Symbol& left = symbols[static_cast<std::size_t>(position)];
    if (left.next < 0) return;
    const std::int32_t right_id = symbols[static_cast<std::size_t>(left.next)].id;
    const Merge* merge = find_merge(left.id, right_id);
    if (merge != nullptr) queue.push({merge->rank, position, left.id, right_id, merge->id});
  };
  for (std::size_t i = 0; i + 1 < symbols.size(); ++i) offer(static_cast<std::int32_t>(i));
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& left = symbols[static_cast<std::size_t>(best.position)];
    if (left.id != best.left_id || left.next < 0) continue;
    Symbol& right = symbols[static_cast<std::size_t>(left.next)];
    if (right.id != best.right_id) continue;
    left.id = best.merged_id;
    right.id = -1;
    left.next = right.next;
    if (left.next >= 0) symbols[static_cast<std::size_t>(left.next)].previous = best.position;
    offer(best.position);
    offer(left.previous);
  }
  for (std::int32_t i = 0; i >= 0; i = symbols[static_cast<std::size_t>(i)].next) {
    ids.push_back(symbols[static_cast<std::size_t>(i)].id);
  }
}

}  // namespace qf
