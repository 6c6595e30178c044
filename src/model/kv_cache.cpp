#include "qwen3fp4/model/kv_cache.h"

#include <ATen/ATen.h>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/checked_shape.h"

namespace qf {

KvCache::KvCache(const ModelConfig& config, std::int64_t context, const at::TensorOptions& options)
    : context_(context) {
  const std::vector<std::int64_t> shape{config.num_hidden_layers, config.num_key_value_heads,
                                        context, config.head_dim};
  QF_CHECK(context > 0 && checked_bytes(shape, 2 * sizeof(float)) > 0,
           "a cache of {} tokens: expected a positive size that fits into memory (--context)",
           context);
  keys_ = at::empty(shape, options);
  values_ = at::empty(shape, options);
}

std::int64_t KvCache::bytes() const {
  return static_cast<std::int64_t>(keys_.nbytes() + values_.nbytes());
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
  const auto upto = [&](const at::Tensor& all) {
    return all.select(0, layer).narrow(1, 0, first + count).transpose(0, 1);
  };
  const std::pair cached{upto(keys_), upto(values_)};
  cached.first.narrow(0, first, count).copy_(k_TKE);
  cached.second.narrow(0, first, count).copy_(v_TKE);
  return cached;
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
