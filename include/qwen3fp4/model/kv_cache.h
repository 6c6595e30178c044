#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "qwen3fp4/model/config.h"

namespace qf {

// Keys and values of all layers, allocated once for `context` tokens; overflow is an error that
// names --context. Every layer stores the same T tokens, then advance(T) makes them count.
class KvCache {
 public:
  KvCache(const ModelConfig& config, std::int64_t context);

  [[nodiscard]] std::int64_t context() const { return context_; }
  [[nodiscard]] std::int64_t length() const { return length_; }
  [[nodiscard]] std::int64_t bytes() const;
  // Throws when `count` more tokens do not fit.
  void check_room(std::int64_t count) const;
  // Writes k, v [T, K, E] at positions first .. first + T - 1; returns views [first + T, K, E] of
  // both. A caller that takes several pieces of a prompt through one layer before the next stores
  // ahead of length().
  [[nodiscard]] std::pair<at::Tensor, at::Tensor> store(std::int64_t layer, std::int64_t first,
                                                        const at::Tensor& k_TKE,
                                                        const at::Tensor& v_TKE);
  void advance(std::int64_t count);
  // Forgets everything after the first `length` tokens.
  void truncate(std::int64_t length);

 private:
  std::vector<at::Tensor> keys_;    // per layer [context, K, E] f32
  std::vector<at::Tensor> values_;  // per layer [context, K, E] f32
  std::int64_t context_ = 0;
  std::int64_t length_ = 0;
};

}  // namespace qf
