#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "qwen3fp4/backend/backend.h"
#include "qwen3fp4/formats/safetensors.h"
#include "qwen3fp4/model/config.h"
#include "qwen3fp4/model/kv_cache.h"
#include "qwen3fp4/model/model_folder.h"

// A conversation's tokens with their keys and values as a safetensors file, so that a later run
// need not compute them again (doc/formats.md).
namespace qf {

// Of config.json, of the weights' names, types and shapes, and of the first 4 KiB of each: what
// trains or quantises a model anew changes some of them. Hexadecimal.
[[nodiscard]] std::string model_fingerprint(const ModelFolder& folder);

// What a cache must be to take a session's keys and values.
struct SessionModel {
  const ModelConfig& config;
  std::string fingerprint;
  at::ScalarType type;  // of what the cache stores
  LinearMode linear = LinearMode::kW4A16;
};

class SavedSession {
 public:
  // Reads the header; refuses what is no session, or one of another model, or with keys of another
  // type.
  SavedSession(const std::filesystem::path& path, const SessionModel& model);

  [[nodiscard]] std::int64_t tokens() const { return tokens_; }
  // Fills the empty `cache` with the file's first tokens as far as they are those of `ids`, without
  // the last of these, whose logits somebody wants. Returns their number.
  [[nodiscard]] std::int64_t restore(std::span<const std::int64_t> ids, KvCache& cache) const;

 private:
  [[nodiscard]] std::int64_t common_prefix(std::span<const std::int64_t> ids) const;
  // out [K, S] or [K, S, E]
  void read_heads(const TensorInfo& entry, const at::Tensor& out_KS, std::int64_t count) const;

  std::string name_;
  SafetensorsFile file_;
  std::int64_t tokens_ = 0;
};

// The file appears whole or not at all. `tokens`: those that the cache holds. One head of a layer
// at a time comes from a device; no second cache is held.
void save_session(const std::filesystem::path& path, const SessionModel& model,
                  std::span<const std::int64_t> tokens, const KvCache& cache);

}  // namespace qf
