#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <span>
#include <vector>

#include "qwen3fp4/backend/cuda_support.h"
#include "qwen3fp4/kernels/cuda/sample.h"

namespace qf {

inline constexpr SampleRule kGreedyRule{
    .temperature = 0, .top_k = 0, .top_p = 1, .min_p = 0, .repetition_penalty = 1};

// A set of ids in words of 32 on the device.
inline at::Tensor device_id_set(const std::vector<bool>& set, at::Device device) {
  auto words = at::zeros({id_set_words(static_cast<std::int64_t>(set.size()))}, at::kInt);
  auto* const bits = device_data<std::uint32_t>(words);
  for (std::size_t id = 0; id < set.size(); ++id) {
    if (set[id]) bits[id / 32] |= 1U << (id % 32);
  }
  return words.to(device);
}

// Chooses tokens on the device by a rule (kernels/cuda/sample.h); greedily until begin() says
// otherwise. Reports go to two places of the host's memory, by the step's number.
class TokenChooser {
 public:
  // At most `steps` choices between two calls of begin().
  TokenChooser(const std::vector<bool>& allowed, std::int64_t steps, at::Device device)
      : vocab_(static_cast<std::int64_t>(allowed.size())),
        allowed_(device_id_set(allowed, device)),
        repeated_(at::zeros_like(allowed_)),
        draws_(at::zeros({steps}, allowed_.options().dtype(at::kDouble))),
        state_(at::zeros({static_cast<std::int64_t>(sizeof(cuda::SampleState))},
                         allowed_.options().dtype(at::kByte))),
        workspace_(at::empty({cuda::sample_workspace_bytes(vocab_)}, state_.options())),
        reports_(2) {}

  // Steps from here on take `draws`, one each where more than one token is left, and the penalty
  // applies to `repeated` and to what they choose.
  void begin(const SampleRule& rule, std::span<const double> draws,
             std::span<const std::int64_t> repeated) {
    rule_ = rule;
    std::vector<bool> set(static_cast<std::size_t>(vocab_));
    for (const std::int64_t id : repeated) set[static_cast<std::size_t>(id)] = true;
    repeated_.copy_(device_id_set(set, allowed_.device()));
    const auto count = std::min(static_cast<std::int64_t>(draws.size()), draws_.numel());
    draws_.narrow(0, 0, count)
        .copy_(at::from_blob(const_cast<double*>(draws.data()), {count}, at::kDouble));
    state_.zero_();
  }

  [[nodiscard]] const SampleRule& rule() const { return rule_; }
  // Launches the choice from `logits` [vocab]; the report goes to `slot` (0 or 1).
  void choose(const float* logits, std::uint32_t slot, cudaStream_t stream) const {
    cuda::SampleStep step{};
    step.logits = logits;
    step.vocab = vocab_;
    step.allowed = device_data<const std::uint32_t>(allowed_);
    step.repeated = rule_.repetition_penalty == 1 ? nullptr : device_data<std::uint32_t>(repeated_);
    step.draws = draws_.const_data_ptr<double>();
    step.draws_made = draws_.numel();
    step.state = device_data<cuda::SampleState>(state_);
    step.host_state = reports_.get() + slot;
    step.workspace = workspace_.data_ptr();
    check_cuda(cuda::sample_token(rule_, step, stream), "choice of a token");
  }
  // Device: the last choice.
  [[nodiscard]] const std::uint32_t* token() const {
    return &device_data<const cuda::SampleState>(state_)->token;
  }
  // Once the step's launches are through.
  [[nodiscard]] cuda::SampleState report(std::uint32_t slot) const { return reports_.get()[slot]; }

 private:
  std::int64_t vocab_;
  at::Tensor allowed_, repeated_;  // sets of ids
  at::Tensor draws_;               // f64 [steps]
  at::Tensor state_;               // cuda::SampleState
  at::Tensor workspace_;
  Pinned<cuda::SampleState> reports_;
  SampleRule rule_ = kGreedyRule;
};

}  // namespace qf
