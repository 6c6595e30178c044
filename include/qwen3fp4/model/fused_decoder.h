#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "qwen3fp4/model/kv_cache.h"
#include "qwen3fp4/model/qwen3_model.h"

namespace qf {

// One token through the whole model in one kernel (kernels/cuda/decode_step.h), where the device
// and the model have one. The same pass as Qwen3Model::forward() and logits(), within that kernel's
// bounds; layers cannot be tapped.
class FusedDecoder {
 public:
  struct Result {
    std::int64_t token;  // greedy choice: the allowed id of the largest logit, the first of equals
    bool finite;         // false: some value of this step was not, and `token` means nothing
  };

  // nullptr where there is none; then `why_not` says why, in one clause. `allowed`: by id. Model
  // and cache must outlive it.
  [[nodiscard]] static std::unique_ptr<FusedDecoder> make(const Qwen3Model& model, KvCache& cache,
                                                          const std::vector<bool>& allowed,
                                                          std::string& why_not);
  FusedDecoder() = default;
  FusedDecoder(const FusedDecoder&) = delete;
  FusedDecoder& operator=(const FusedDecoder&) = delete;
  virtual ~FusedDecoder() = default;

  // Runs `token` behind what the cache holds, and advances it. `ahead`: the greedy choice is run as
  // well, before the host knows it, so that a call with that token finds the step under way; any
  // other token just drops it. Throws (exit code 4) when the device makes no progress.
  [[nodiscard]] virtual Result step(std::int64_t token, bool ahead) = 0;
  // f32 [1, vocab] on the device, of the last step() until the next.
  [[nodiscard]] virtual at::Tensor logits() const = 0;
};

}  // namespace qf
