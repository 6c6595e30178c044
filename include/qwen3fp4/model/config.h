#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qf {

enum class RopeType { kDefault, kLinear, kYarn };

struct RopeConfig {
  RopeType type = RopeType::kDefault;
  double theta = 0;
  double factor = 1;  // linear, yarn
  // yarn; names and defaults as in transformers' modeling_rope_utils.
  std::int64_t original_max_position_embeddings = 0;
  double beta_fast = 32;
  double beta_slow = 1;
  double attention_factor = 1;  // multiplies cos and sin; yarn's default is 0.1 ln(factor) + 1
  bool truncate = true;         // round the ramp's ends to whole dimensions
};

// `config.json` of a dense Qwen3 or Llama-family model; fields as Hugging Face spells them. Reads
// both spellings (transformers 4 and 5). Missing, inconsistent or unsupported fields are errors: a
// default that "works" hides a wrong file.
struct ModelConfig {
  std::string model_type;  // "qwen3" or "llama"
  std::int64_t vocab_size = 0;
  std::int64_t hidden_size = 0;
  std::int64_t intermediate_size = 0;
  std::int64_t num_hidden_layers = 0;
  std::int64_t num_attention_heads = 0;
  std::int64_t num_key_value_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t max_position_embeddings = 0;
  double rms_norm_eps = 0;
  RopeConfig rope;
  bool tie_word_embeddings = false;
  bool qk_norm = false;                     // q and k are RMS-normed per head: Qwen3 yes, Llama no
  std::vector<std::int64_t> eos_token_ids;  // may be empty; generation_config.json comes first

  [[nodiscard]] static ModelConfig from_json(std::string_view json, const std::string& source_name);
  [[nodiscard]] static ModelConfig from_file(const std::filesystem::path& path);
};

}  // namespace qf
