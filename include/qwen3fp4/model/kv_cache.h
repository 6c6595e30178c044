#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>

#include "qwen3fp4/model/config.h"

namespace qf {

// Keys and values of all layers, allocated once for `context` tokens; overflow is an error that
// names --context. Every layer stores the same T tokens, then advance(T) makes them count.
class KvCache {
 public:
  // `options`: device and type (f32 or bf16) of what it stores.
  KvCache(const ModelConfig& config, std::int64_t context,
          const at::TensorOptions& options = at::kFloat);

  [[nodiscard]] std::int64_t context() const { return context_; }
  [[nodiscard]] std::int64_t length() const { return length_; }
  [[nodiscard]] std::int64_t bytes() const;
  // Throws when `count` more tokens do not fit.
  void check_room(std::int64_t count) const;
  // Writes k, v f32 [T, K, E] at positions first .. first + T - 1; returns views [first + T, K, E]
  // of both, in the cache's type. A caller that takes several pieces of a prompt through one layer
  // before the next stores ahead of length().
  [[nodiscard]] std::pair<at::Tensor, at::Tensor> store(std::int64_t layer, std::int64_t first,
                                                        const at::Tensor& k_TKE,
                                                        const at::Tensor& v_TKE);
  void advance(std::int64_t count);
  // Forgets everything after the first `length` tokens.
  void truncate(std::int64_t length);
  // [layers, K, context, E] each, for kernels that read and write them in place.
  [[nodiscard]] const at::Tensor& keys() const { return keys_; }
  [[nodiscard]] const at::Tensor& values() const { return values_; }

 private:
  at::Tensor keys_, values_;
  std::int64_t context_ = 0;
  std::int64_t length_ = 0;
};

}  // namespace qf
