#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "qwen3fp4/model/config.h"

namespace qf {

// What keys and values are stored as. kAuto: as attention reads them. kFp8: E4M3 codes, and for
// each token and head one f32 scale of the key and one of the value (kernels/kv_row.h).
enum class KvCacheType : std::uint8_t { kAuto, kF32, kF16, kBF16, kFp8 };

// Throws (exit code 2) for what this device does not take: fp8 of heads that are not whole vectors
// of its kernels.
void check_kv_cache(KvCacheType type, std::int64_t head_dim, at::Device device);
// The type of the stored tensors where attention reads `read`.
[[nodiscard]] at::ScalarType kv_stored_type(KvCacheType type, at::ScalarType read);
// "fp32", "fp16", "bf16", "fp8", as --kv-cache spells it.
[[nodiscard]] std::string_view kv_type_name(at::ScalarType stored);

// Bytes of a cache of `context` tokens.
struct KvCacheBytes {
  std::int64_t stored = 0;
  std::int64_t layer_read = 0;  // one layer as attention reads it, where that is not how it is kept
};
[[nodiscard]] KvCacheBytes kv_cache_bytes(const ModelConfig& config, std::int64_t context,
                                          at::ScalarType read, KvCacheType type);

// Keys and values of all layers, allocated once for `context` tokens; overflow is an error that
// names --context. Every layer stores the same T tokens, then advance(T) makes them count.
class KvCache {
 public:
  // `read`: device and type of what attention reads.
  KvCache(const ModelConfig& config, std::int64_t context,
          const at::TensorOptions& read = at::kFloat, KvCacheType type = KvCacheType::kAuto);

  [[nodiscard]] std::int64_t context() const { return context_; }
  [[nodiscard]] std::int64_t length() const { return length_; }
  // Of what is stored.
  [[nodiscard]] std::int64_t bytes() const;
  // Of one token in all layers: what reading it takes.
  [[nodiscard]] std::int64_t token_bytes() const;
  // Throws when `count` more tokens do not fit.
  void check_room(std::int64_t count) const;
  // Writes k, v [T, K, E] at positions first .. first + T - 1; returns views [first + T, K, E] of
  // both, of the type that attention reads: of what is stored, not of what was given, and valid
  // until the next store(). A caller that takes several pieces of a prompt through one layer before
  // the next stores ahead of length().
  [[nodiscard]] std::pair<at::Tensor, at::Tensor> store(std::int64_t layer, std::int64_t first,
                                                        const at::Tensor& k_TKE,
                                                        const at::Tensor& v_TKE);
  void advance(std::int64_t count);
  // Forgets everything after the first `length` tokens.
  void truncate(std::int64_t length);
  // What attention reads.
  [[nodiscard]] at::ScalarType read_type() const { return read_type_; }
  // For kernels that read and write them in place: [layers, K, context, E] each, of the stored
  // type.
  [[nodiscard]] const at::Tensor& keys() const { return keys_.stored; }
  [[nodiscard]] const at::Tensor& values() const { return values_.stored; }
  // f32 [layers, K, kv_scale_stride(context)]; undefined but in fp8.
  [[nodiscard]] const at::Tensor& key_scales() const { return keys_.scales; }
  [[nodiscard]] const at::Tensor& value_scales() const { return values_.scales; }
  // All that it holds.
  [[nodiscard]] std::vector<at::Tensor> tensors() const;

 private:
  struct Part {
    at::Tensor stored, scales;
    at::Tensor layer_read;  // [K, context, E] of one layer; undefined where `stored` is read itself
  };
  [[nodiscard]] at::Tensor store(const Part& part, std::int64_t layer, std::int64_t first,
                                 const at::Tensor& x_TKE) const;

  Part keys_, values_;
  at::ScalarType read_type_;
  std::int64_t context_ = 0;
  std::int64_t length_ = 0;
};

}  // namespace qf
