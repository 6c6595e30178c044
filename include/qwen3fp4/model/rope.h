#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>

#include "qwen3fp4/model/config.h"

namespace qf {

// f32 [head_dim/2]: the angle per position of each pair of features, as transformers'
// modeling_rope_utils computes it for default, linear and yarn.
[[nodiscard]] at::Tensor rope_inverse_frequencies(const ModelConfig& config);

// cos and sin, each f32 [count, head_dim] for positions first .. first + count - 1, times yarn's
// attention factor.
[[nodiscard]] std::pair<at::Tensor, at::Tensor> rope_tables(const ModelConfig& config,
                                                            const at::Tensor& inverse_frequencies,
                                                            std::int64_t first, std::int64_t count);

// rope_tables() of every position seen so far on one device, computed once.
class RopeTable {
 public:
  RopeTable(const ModelConfig& config, at::Device device);
  // f32 [count, head_dim] each.
  [[nodiscard]] std::pair<at::Tensor, at::Tensor> rows(std::int64_t first, std::int64_t count);

 private:
  ModelConfig config_;
  at::Device device_;
  at::Tensor inverse_frequencies_;
  at::Tensor cos_, sin_;  // [positions, head_dim]
};

}  // namespace qf
