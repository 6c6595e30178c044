#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/formats/gguf.h"

namespace qf {

// What encode() does with the text of a special token ("<|im_end|>") inside its input: whoever
// typed it must not be able to end a chat turn, so messages are encoded with kAsText.
enum class SpecialTokens { kMatch, kAsText };

// Text to token ids and back, equal to the Python package `tokenizers` on every string.
class Tokenizer {
 public:
  class Impl;  // one for each kind of tokenizer; the implementation's own

  // `tokenizer.json`: byte-level BPE with the normalisers, split rules and added tokens that Qwen3
  // and SmolLM2 use; everything else is refused by name.
  [[nodiscard]] static Tokenizer from_json(std::string_view json, const std::string& source_name);
  // The bytes of a sentencepiece `tokenizer.model`.
  [[nodiscard]] static Tokenizer from_sentencepiece(const std::string& model,
                                                    const std::string& source_name);
  // `tokenizer.json`, else `tokenizer.model` of a model folder; throws naming both when neither is
  // there.
  [[nodiscard]] static Tokenizer from_folder(const std::filesystem::path& folder);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  // Invalid UTF-8 becomes U+FFFD, as in Python's decode(errors="replace").
  [[nodiscard]] std::vector<std::int64_t> encode(std::string_view text,
                                                 SpecialTokens specials) const;
  // The bytes of the tokens; may end inside a UTF-8 character. Unknown ids throw.
  [[nodiscard]] std::string decode(std::span<const std::int64_t> ids, bool skip_specials) const;
  [[nodiscard]] std::string token_bytes(std::int64_t id) const;
  [[nodiscard]] bool is_special(std::int64_t id) const;
  [[nodiscard]] std::optional<std::int64_t> id_of(std::string_view token) const;
  // One more than the largest id that has a token. Models may have more rows than that (Qwen3:
  // 151936 against 151669); those ids must never be sampled.
  [[nodiscard]] std::int64_t vocab_size() const;
  [[nodiscard]] bool has_token(std::int64_t id) const;

 private:
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Builds the `tokenizer.json` (Hugging Face's format, loadable by the Python package) that matches
// the tokenizer in a GGUF's metadata: `tokenizer.ggml.model` gpt2 with pre "smollm" or "qwen2".
[[nodiscard]] std::string tokenizer_json_from_gguf(const GgufFile& gguf);
// The matching `tokenizer_config.json`: chat template, special tokens by name.
[[nodiscard]] std::string tokenizer_config_json_from_gguf(const GgufFile& gguf);

// The other way: a GGUF's tokenizer metadata, in its order, of a `tokenizer.json` and the
// `tokenizer_config.json` beside it; tokens that the model has rows for and the tokenizer no text
// are unused ones. Throws for a tokenizer whose kind GGUF has no name that we know.
[[nodiscard]] GgufWriter::Metadata gguf_tokenizer_metadata(std::string_view tokenizer_json,
                                                           std::string_view tokenizer_config_json,
                                                           std::int64_t rows);

// Splits a byte stream into whole UTF-8 characters, for streaming output.
class Utf8Stream {
 public:
  // Returns the complete characters so far; keeps an unfinished one for the next call.
  [[nodiscard]] std::string push(std::string_view bytes);
  // What is left at the end; an unfinished character becomes U+FFFD.
  [[nodiscard]] std::string finish();

 private:
  std::string pending_;
};

}  // namespace qf
