#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "qwen3fp4/backend/backend.h"
#include "qwen3fp4/model/model_folder.h"
#include "qwen3fp4/model/qwen3_model.h"

namespace qf::test {

inline constexpr std::int64_t kTinyVocab = 272;  // 259..271 have no token
inline constexpr std::int64_t kEndOfText = 256;
inline constexpr std::int64_t kTurnStart = 257;
inline constexpr std::int64_t kTurnEnd = 258;

// A Qwen3 model of two layers whose tokenizer has one token a byte (id = byte) and ChatML's special
// tokens.
struct TinyModel {
  // Random weights say nothing in particular. With a script, the layers add nothing and token
  // `first` is followed by `second` by a margin that no rounding crosses, so that the answer is
  // known. An empty script makes all logits 0.
  std::optional<std::map<std::int64_t, std::int64_t>> script = std::nullopt;
  std::int64_t vocab_size = kTinyVocab;
  std::uint32_t seed = 1;
  std::int64_t max_position_embeddings = 512;
  bool tokenizer = true;
  // This linear is stored as NVFP4, one of its block scales being NaN.
  std::string nan_scale_in = "";
  // The embedding of this token is NaN.
  std::optional<std::int64_t> nan_embedding_of = std::nullopt;
  // The weights' file is cut by this many bytes.
  std::int64_t missing_bytes = 0;
  std::string generation_config = R"({"eos_token_id": [258, 256]})";
  std::string model_type = "qwen3";
  std::int64_t intermediate_size = 96;

  void write(const std::filesystem::path& folder) const;
};

// A script that answers `text` (of distinct bytes) after the token `after`, then ends the turn.
[[nodiscard]] std::map<std::int64_t, std::int64_t> script_of(std::int64_t after,
                                                             std::string_view text);

// A folder of this test alone, removed with everything in it.
class TemporaryFolder {
 public:
  TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder();
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// A tiny model, written and loaded for the reference backend.
class LoadedTiny {
 public:
  explicit LoadedTiny(const TinyModel& tiny);
  [[nodiscard]] const ModelFolder& files() const { return files_; }
  [[nodiscard]] const Qwen3Model& model() const { return model_; }

 private:
  TemporaryFolder folder_;
  std::unique_ptr<Backend> backend_;
  ModelFolder files_;
  Qwen3Model model_;
};

}  // namespace qf::test
