#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "qwen3fp4/formats/safetensors.h"

namespace qf {

// A file of activations as `dump --taps` and tools/dump_transformers_taps.py write it: `ids` i64
// [T], and floats named by module, tokens first. Tensors are read one at a time.
class ActivationFile {
 public:
  explicit ActivationFile(const std::filesystem::path& path);
  [[nodiscard]] const std::vector<std::int64_t>& ids() const { return ids_; }
  // "lm_head" is also found under `logits`.
  [[nodiscard]] bool has(const std::string& module) const { return find(module) != nullptr; }
  // In words, for errors: of what it holds beside the ids, the first.
  [[nodiscard]] std::string contents() const;
  // f32 of `shape`, whose first dimension is the tokens. Refuses other types and shapes; those
  // behind the tokens may be one.
  [[nodiscard]] at::Tensor read(const std::string& module,
                                const std::vector<std::int64_t>& shape) const;

 private:
  [[nodiscard]] const TensorInfo* find(const std::string& module) const;

  std::string name_;
  SafetensorsFile file_;
  std::vector<std::int64_t> ids_;
};

}  // namespace qf
