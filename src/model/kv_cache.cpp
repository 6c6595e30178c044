#include "qwen3fp4/model/kv_cache.h"

#include <ATen/ATen.h>

#include "kv_rows.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/checked_shape.h"
#include "qwen3fp4/kernels/kv_row.h"

// Shapes in this file: T new tokens, K key/value heads, E head_dim.
namespace qf {
namespace {

// Bytes of a token's key (or value) of one head.
std::int64_t row_bytes(std::int64_t width, at::ScalarType type) {
  const std::int64_t scale = type == at::kFloat8_e4m3fn ? sizeof(float) : 0;
  return width * static_cast<std::int64_t>(c10::elementSize(type)) + scale;
}

}  // namespace

void check_kv_cache(KvCacheType type, std::int64_t head_dim, at::Device device) {
  if (type != KvCacheType::kFp8 || device.is_cpu() || head_dim % 8 == 0) return;
  fail(
      ExitCode::kUsage,
      "--kv-cache fp8: expected a head_dim that is a multiple of 8 on a GPU, found {}; auto, fp32, "
      "fp16 and bf16 take any",
      head_dim);
}

at::ScalarType kv_stored_type(KvCacheType type, at::ScalarType read) {
  switch (type) {
    case KvCacheType::kAuto:
      return read;
    case KvCacheType::kF32:
      return at::kFloat;
    case KvCacheType::kF16:
      return at::kHalf;
    case KvCacheType::kBF16:
      return at::kBFloat16;
    case KvCacheType::kFp8:
      return at::kFloat8_e4m3fn;
  }
  return read;
}

std::string_view kv_type_name(at::ScalarType stored) {
  switch (stored) {
    case at::kFloat:
      return "fp32";
    case at::kHalf:
      return "fp16";
    case at::kBFloat16:
      return "bf16";
    case at::kFloat8_e4m3fn:
      return "fp8";
    default:
      TORCH_INTERNAL_ASSERT(false, "a cache of type ", stored);
  }
}

KvCacheBytes kv_cache_bytes(const ModelConfig& config, std::int64_t context, at::ScalarType read,
                            KvCacheType type) {
  const at::ScalarType stored = kv_stored_type(type, read);
  const std::int64_t heads = config.num_key_value_heads;
  const std::int64_t padding =
      stored == at::kFloat8_e4m3fn ? (kv_scale_stride(context) - context) * 4 : 0;
  return {2 * config.num_hidden_layers * heads *
              (context * row_bytes(config.head_dim, stored) + padding),
          stored == read ? 0 : 2 * heads * context * row_bytes(config.head_dim, read)};
}

KvCache::KvCache(const ModelConfig& config, std::int64_t context, const at::TensorOptions& read,
                 KvCacheType type)
    : read_type_(c10::typeMetaToScalarType(read.dtype())), context_(context) {
  const std::vector<std::int64_t> shape{config.num_hidden_layers, config.num_key_value_heads,
                                        context, config.head_dim};
  QF_CHECK(context > 0 && checked_bytes(shape, 2 * sizeof(float)) > 0,
           "a cache of {} tokens: expected a positive size that fits into memory (--context)",
           context);
  check_kv_cache(type, config.head_dim, read.device());
  const at::ScalarType stored = kv_stored_type(type, read_type_);
  const bool fp8 = stored == at::kFloat8_e4m3fn;
  for (Part* part : {&keys_, &values_}) {
    part->stored = at::empty(shape, read.dtype(stored));
    if (fp8) {
      part->scales =
          at::empty({shape[0], shape[1], kv_scale_stride(context)}, read.dtype(at::kFloat));
    }
    if (stored != read_type_) {
      part->layer_read = at::empty({shape[1], context, config.head_dim}, read);
    }
  }
}

std::vector<at::Tensor> KvCache::tensors() const {
  std::vector<at::Tensor> all;
  for (const Part* part : {&keys_, &values_}) {
    for (const at::Tensor* t : {&part->stored, &part->scales, &part->layer_read}) {
      if (t->defined()) all.push_back(*t);
    }
  }
  return all;
}

std::int64_t KvCache::bytes() const {
  std::int64_t sum = 0;
  for (const Part* part : {&keys_, &values_}) {
    sum += static_cast<std::int64_t>(part->stored.nbytes());
    if (part->scales.defined()) sum += static_cast<std::int64_t>(part->scales.nbytes());
  }
  return sum;
}

std::int64_t KvCache::token_bytes() const {
  const at::Tensor& all = keys();
  return 2 * all.size(0) * all.size(1) * row_bytes(all.size(3), all.scalar_type());
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
  return {store(keys_, layer, first, k_TKE), store(values_, layer, first, v_TKE)};
}

at::Tensor KvCache::store(const Part& part, std::int64_t layer, std::int64_t first,
                          const at::Tensor& x_TKE) const {
  const std::int64_t count = x_TKE.size(0);
  const auto upto = [&](const at::Tensor& all) { return all.narrow(1, 0, first + count); };
  const auto newest = [&](const at::Tensor& all) { return all.narrow(1, first, count); };
  const auto stored = part.stored.select(0, layer);
  if (part.scales.defined()) {
    const auto scales = part.scales.select(0, layer);
    quantize_kv(x_TKE, newest(stored), newest(scales));
    dequantize_kv(upto(stored), upto(scales), upto(part.layer_read));
    return upto(part.layer_read).transpose(0, 1);
  }
  newest(stored).copy_(x_TKE.transpose(0, 1));
  if (!part.layer_read.defined()) return upto(stored).transpose(0, 1);
  upto(part.layer_read).copy_(upto(stored));
  return upto(part.layer_read).transpose(0, 1);
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
