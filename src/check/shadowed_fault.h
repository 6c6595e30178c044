#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "inject.h"

namespace qf {

// A fault of the operations for a pass that calls no backend's, as training's: of the layer where
// it strikes, inference's is run beside it on the values that the pass has handed on, and the
// faulty operation's result is taken from there.
class ShadowedFault {
 public:
  // Borrows all; `model` computes with `backend`.
  ShadowedFault(const Qwen3Model& model, FaultyBackend& backend, const Injection& injection,
                std::span<const std::int64_t> ids);
  // Whether this tap's value is to be compute()'s.
  [[nodiscard]] bool strikes(std::string_view module) const { return module == target_; }
  // f32, in main memory.
  [[nodiscard]] at::Tensor compute();
  // Every tap's value, f32 in main memory.
  void handed_on(std::string_view module, const at::Tensor& value);

 private:
  const Qwen3Model& model_;
  FaultyBackend& backend_;
  std::span<const std::int64_t> ids_;
  std::int64_t layer_;
  std::string input_, prefix_, target_;  // modules: what the layer reads, its own, the faulty one
  std::map<std::string, at::Tensor, std::less<>> values_;
};

}  // namespace qf
