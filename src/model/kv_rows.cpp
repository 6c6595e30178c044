#include "kv_rows.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>

#include "qwen3fp4/kernels/cpu/kv_cache.h"
#include "qwen3fp4/quant/parallel.h"

// Shapes in this file: T new tokens, S cached tokens, K key/value heads, E head_dim.
namespace qf {
namespace {

// Rows of one task: fewer are not worth a second thread.
constexpr std::int64_t kRows = 256;

const std::uint8_t* codes_of(const at::Tensor& codes) {
  return static_cast<const std::uint8_t*>(codes.const_data_ptr());
}

// task(head, first, count) of all rows [K, S].
template <class Task>
void by_rows(const at::Tensor& x_KSE, const Task& task) {
  const std::int64_t tokens = x_KSE.size(1);
  const std::int64_t pieces = (tokens + kRows - 1) / kRows;
  const std::int64_t together = std::max<std::int64_t>(1, kRows / tokens);  // heads of few tokens
  parallel_chunks(x_KSE.size(0) * pieces, together, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t first = i % pieces * kRows;
      task(i / pieces, first, std::min(kRows, tokens - first));
    }
  });
}

}  // namespace

void quantize_kv(const at::Tensor& x_TKE, const at::Tensor& codes_KTE,
                 const at::Tensor& scales_KT) {
  if (!codes_KTE.is_cpu()) return on_cuda::quantize_kv(x_TKE, codes_KTE, scales_KT);
  const auto x = x_TKE.to(at::kFloat).contiguous();
  const std::int64_t heads = x.size(1);
  const std::int64_t width = x.size(2);
  auto* const codes = static_cast<std::uint8_t*>(codes_KTE.mutable_data_ptr());
  auto* const scales = scales_KT.mutable_data_ptr<float>();
  by_rows(codes_KTE, [&](std::int64_t head, std::int64_t first, std::int64_t count) {
    for (std::int64_t t = first; t < first + count; ++t) {
      quantize_kv_row(x.const_data_ptr<float>() + (t * heads + head) * width, width,
                      codes + head * codes_KTE.stride(0) + t * width,
                      scales + head * scales_KT.stride(0) + t);
    }
  });
}

void dequantize_kv(const at::Tensor& codes_KSE, const at::Tensor& scales_KS,
                   const at::Tensor& out_KSE) {
  if (!codes_KSE.is_cpu()) return on_cuda::dequantize_kv(codes_KSE, scales_KS, out_KSE);
  const std::int64_t width = codes_KSE.size(2);
  auto* const out = out_KSE.mutable_data_ptr<float>();
  by_rows(codes_KSE, [&](std::int64_t head, std::int64_t first, std::int64_t count) {
    dequantize_kv_rows(codes_of(codes_KSE) + head * codes_KSE.stride(0) + first * width,
                       scales_KS.const_data_ptr<float>() + head * scales_KS.stride(0) + first,
                       count, width, out + head * out_KSE.stride(0) + first * width);
  });
}

}  // namespace qf
