#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/kernels/sample.h"
#include "qwen3fp4/model/kv_cache.h"
#include "qwen3fp4/model/qwen3_model.h"

namespace qf {

// One token through the whole model in one launch: the persistent kernel of
// kernels/cuda/decode_step.h where device and model have it, else a CUDA graph of small kernels
// (kernels/cuda/token_step.h). The same pass as Qwen3Model::forward() and logits(), within those
// kernels' bounds; layers cannot be tapped.
class FusedDecoder {
 public:
  struct Result {
    std::int64_t token;       // chosen by the rule of begin_sampling()
    bool finite;              // false: some value was not, and `token` means nothing
    std::int64_t draws_used;  // since begin_sampling()
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

  // "one kernel a token", or "one graph a token (why no kernel)"; as long as this lives.
  [[nodiscard]] virtual std::string_view description() const = 0;

  // How step() chooses from here on (kernels/sample.h); until then greedily. `draws`: numbers of
  // draw_from_bits(), one for each step at most; `repeated`: ids that the rule's penalty applies
  // to, beside those that step() chooses.
  virtual void begin_sampling(const SampleRule& rule, std::span<const double> draws,
                              std::span<const std::int64_t> repeated) = 0;
  // Runs `token` behind what the cache holds, and advances it. `ahead`: the choice is run as well,
  // before the host knows it, so that a call with that token finds the step under way; any other
  // token just drops it. Throws (exit code 4) when the device makes no progress.
  [[nodiscard]] virtual Result step(std::int64_t token, bool ahead) = 0;
  // f32 [1, vocab] on the device, of the last step() until the next.
  [[nodiscard]] virtual at::Tensor logits() const = 0;
};

}  // namespace qf
