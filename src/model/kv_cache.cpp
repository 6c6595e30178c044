#include "qwen3fp4/model/kv_cache.h"

#include <ATen/ATen.h>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/checked_shape.h"

namespace qf {

KvCache::KvCache(const ModelConfig& config, std::int64_t context) : context_(context) {
  const std::vector<std::int64_t> shape{context, config.num_key_value_heads, config.head_dim};
  QF_CHECK(context > 0 && checked_bytes({2 * config.num_hidden_layers, context,
                                         config.num_key_value_heads, config.head_dim},
                                        sizeof(float)) > 0,
           "a cache of {} tokens: expected a positive size that fits into memory (--context)",
           context);
  for (std::int64_t layer = 0; layer < config.num_hidden_layers; ++layer) {
    keys_.push_back(at::empty(shape, at::kFloat));
    values_.push_back(at::empty(shape, at::kFloat));
  }
}

std::int64_t KvCache::bytes() const {
  std::int64_t total = 0;
  for (const at::Tensor& keys : keys_) total += 2 * static_cast<std::int64_t>(keys.nbytes());
  return total;
}

void KvCache::check_room(std::int64_t count) const {
  QF_CHECK(count <= context_ - length_,
           "context full: position {} of a cache of {} tokens (--context)", length_ + count,
           context_);
}

std::pair<at::Tensor, at::Tensor> KvCache::store(std::int64_t layer, std::int64_t first,
                                                 const at::Tensor& k_TKE, const at::Tensor& v_TKE) {
  const std::int64_t count = k_TKE.size(0);
  QF_CHECK(first >= length_ && count <= context_ - first,
           "context full: position {} of a cache of {} tokens (--context)", first + count,
           context_);
  const auto index = static_cast<std::size_t>(layer);
  keys_[index].narrow(0, first, count).copy_(k_TKE);
  values_[index].narrow(0, first, count).copy_(v_TKE);
  return {keys_[index].narrow(0, 0, first + count), values_[index].narrow(0, 0, first + count)};
}

void KvCache::advance(std::int64_t count) {
  check_room(count);
  length_ += count;
}

void KvCache::truncate(std::int64_t length) {
  QF_CHECK(length >= 0 && length <= length_, "a cache of {} tokens cannot be cut to {}", length_,
           length);
  length_ = length;
}

}  // namespace qf
