#include "variants.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "qwen3fp4/model/rope.h"

namespace qf {

at::Tensor rope_interleaved(const Backend& backend, const at::Tensor& x_THE,
                            const at::Tensor& cos_TE, const at::Tensor& sin_TE) {
  const auto sizes = x_THE.sizes();
  const std::int64_t half = sizes[2] / 2;
  const auto split = x_THE.view({sizes[0], sizes[1], half, 2}).transpose(2, 3).reshape(sizes);
  return backend.apply_rope(split, cos_TE, sin_TE)
      .view({sizes[0], sizes[1], 2, half})
      .transpose(2, 3)
      .reshape(sizes);
}

at::Tensor rope_with_base(const Backend& backend, const at::Tensor& x_THE,
                          const ModelConfig& config, double base, std::int64_t first) {
  ModelConfig other = config;
  other.rope.theta = base;
  const auto [cos_TE, sin_TE] =
      rope_tables(other, rope_inverse_frequencies(other), first, x_THE.size(0));
  return backend.apply_rope(x_THE, cos_TE, sin_TE);
}

at::Tensor attention_seeing(const Backend& backend, const at::Tensor& q_THE,
                            const at::Tensor& k_SKE, const at::Tensor& v_SKE, std::int64_t extra) {
  const std::int64_t tokens = q_THE.size(0);
  const std::int64_t positions = k_SKE.size(0);
  auto out_THE = at::zeros_like(q_THE);
  for (std::int64_t t = 0; t < tokens; ++t) {
    const std::int64_t seen = std::min(positions - tokens + t + 1 + extra, positions);
    if (seen <= 0) continue;
    out_THE.narrow(0, t, 1).copy_(backend.attention(q_THE.narrow(0, t, 1), k_SKE.narrow(0, 0, seen),
                                                    v_SKE.narrow(0, 0, seen)));
  }
  return out_THE;
}

at::Tensor one_late(const at::Tensor& cached_SKE) {
  return at::cat(
      {at::zeros_like(cached_SKE.narrow(0, 0, 1)), cached_SKE.narrow(0, 0, cached_SKE.size(0) - 1)},
      0);
}

at::Tensor kept_in_fp16(const at::Tensor& y, double unit) {
  return (y / unit).to(at::kHalf).to(at::kFloat) * unit;
}

}  // namespace qf
