#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace qf {

// A token string of a byte-level vocabulary as the bytes it stands for: printable bytes stand for
// themselves, the others for U+0100 and up (GPT-2's table). A string with any other character is
// returned as it is, which is how added tokens are stored.
[[nodiscard]] std::string byte_level_to_bytes(std::string_view token);

// The `model` of a tokenizer.json of type BPE, over bytes.
class ByteLevelBpe {
 public:
  ByteLevelBpe(const nlohmann::json& model, const std::string& source_name);

  // Appends the ids of one piece of text: its bytes, merged pair by pair, lowest rank first and
  // leftmost among equals. O(n log n). Bytes without a token of their own are left out, as the
  // Python package leaves them out.
  void encode(std::string_view piece, std::vector<std::int64_t>& ids) const;
  // Ids and bytes of every token.
  [[nodiscard]] const std::unordered_map<std::string, std::int64_t>& vocabulary() const {
    return vocabulary_;
  }

 private:
  struct Merge {
    std::int32_t rank;
    std::int32_t id;
  };
  void read_vocabulary(const nlohmann::json& vocab, const std::string& what);
  void read_merges(const nlohmann::json& merges, const std::string& what);
  [[nodiscard]] const Merge* find_merge(std::int32_t left, std::int32_t right) const;

  std::unordered_map<std::string, std::int64_t> vocabulary_;
  std::unordered_map<std::uint64_t, Merge> merges_;
  std::array<std::int32_t, 256> byte_ids_{};  // -1: no token
  bool ignore_merges_ = false;
};

}  // namespace qf
