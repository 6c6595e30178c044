#include "operations.h"

#include <ATen/ATen.h>
#include <ATen/cpu/Utils.h>

#include <algorithm>
#include <vector>

#include "block_kernels.h"
#include "qwen3fp4/quant/parallel.h"

// Shapes in this file: as in the header; M, K, N of a product: rows, inner, columns.
namespace qf {
namespace {

// Rows of a product that one task computes: the cut decides the bits, not the number of threads.
constexpr std::int64_t kProductRows = 64;
constexpr std::int64_t kNormRows = 64;
// With bf16 tiles libtorch first brings the right operand into their order, which many rows must
// pay for.
constexpr std::int64_t kTiledProductRows = 512;

// On the CPU at::addmm only sums in its result's type.
at::Tensor in_type_of(const at::Tensor& out, const at::Tensor& x) {
  return x.to(out.scalar_type());
}

// AMX: five times as fast as fp32. Without it libtorch's bf16 products are slower than fp32's.
bool has_bf16_tiles() {
  static const bool kHas = at::cpu::init_amx();
  return kHas;
}

bool bf16_on_cuda(const at::Tensor& x) { return x.is_cuda() && x.scalar_type() == at::kBFloat16; }

}  // namespace

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  if (bf16_on_cuda(gate)) return on_cuda::swiglu(gate, up);
  return at::silu(gate.to(at::kFloat)).mul_(up).to(gate.scalar_type());
}

SwigluGradient swiglu_backward(const at::Tensor& dhidden, const at::Tensor& gate,
                               const at::Tensor& up) {
  if (bf16_on_cuda(gate)) return on_cuda::swiglu_backward(dhidden, gate, up);
  const auto type = gate.scalar_type();
  const auto d = dhidden.to(at::kFloat);
  const auto g = gate.to(at::kFloat);
  auto dgate = at::silu_backward(d * up, g).to(type);
  return {std::move(dgate), at::silu(g).mul_(d).to(type)};
}

at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  if (a.is_cuda()) return at::mm(a, b);
  const bool narrow = a.scalar_type() != at::kFloat;
  if (narrow && !has_bf16_tiles()) return product_f32(a, b).to(a.scalar_type());
  auto out = at::empty({a.size(0), b.size(1)}, a.options());
  parallel_chunks(a.size(0), narrow ? kTiledProductRows : kProductRows,
                  [&](std::int64_t first, std::int64_t end) {
                    auto rows = out.narrow(0, first, end - first);
                    at::mm_out(rows, a.narrow(0, first, end - first), b);
                  });
  return out;
}

void add_product(const at::Tensor& a, const at::Tensor& b, at::Tensor& out) {
  if (a.is_cuda()) {
    if (a.scalar_type() == out.scalar_type()) {
      out.addmm_(a, b);
    } else {
      at::addmm_out(out, out, a, b, at::kFloat);
    }
    return;
  }
  const auto right = in_type_of(out, b);
  parallel_chunks(a.size(0), kProductRows, [&](std::int64_t first, std::int64_t end) {
    out.narrow(0, first, end - first)
        .addmm_(in_type_of(out, a.narrow(0, first, end - first)), right);
  });
}

at::Tensor product_f32(const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() == at::kFloat) return product(a, b);
  if (a.is_cuda()) return at::mm(a, b, at::kFloat);
  return product(a.to(at::kFloat), b.to(at::kFloat));
}

Normed rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  if (x.is_cuda()) {
    auto [y, rstd] = at::_fused_rms_norm(x, {x.size(-1)}, weight, eps);
    return {std::move(y), std::move(rstd)};
  }
  auto shape = x.sizes().vec();
  shape.back() = 1;
  Normed normed{at::empty_like(x), at::empty(shape, x.options())};
  parallel_chunks(x.size(0), kNormRows, [&](std::int64_t first, std::int64_t end) {
    const auto part = x.narrow(0, first, end - first);
    auto rstd = normed.rstd.narrow(0, first, end - first);
    rstd.copy_(at::rsqrt(part.square().mean(-1, /*keepdim=*/true) + eps));
    normed.y.narrow(0, first, end - first).copy_(part * rstd * weight);
  });
  return normed;
}

// With n = x rstd and g = dy weight: dx = rstd (g - n mean(g n)), dweight = sum dy n.
NormGradient rms_norm_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& rstd,
                               const at::Tensor& weight) {
  if (x.is_cuda()) {
    auto [dx, dweight] =
        at::_fused_rms_norm_backward(dy.contiguous(), x, {x.size(-1)}, rstd, weight, {true, true});
    return {std::move(dx), std::move(dweight)};
  }
  const std::int64_t width = x.size(-1);
  const std::int64_t chunks = (x.size(0) + kNormRows - 1) / kNormRows;
  auto dx = at::empty_like(x);
  auto partial = at::empty({chunks, width}, x.options());
  parallel_chunks(x.size(0), kNormRows, [&](std::int64_t first, std::int64_t end) {
    const auto part = [&](const at::Tensor& t) { return t.narrow(0, first, end - first); };
    const auto n = part(x) * part(rstd);
    const auto g = part(dy) * weight;
    part(dx).copy_((g - n * (g * n).mean(-1, /*keepdim=*/true)) * part(rstd));
    partial.select(0, first / kNormRows).copy_((part(dy) * n).reshape({-1, width}).sum(0));
  });
  return {dx, partial.sum(0)};
}

StreamGradient norm_backward(const at::Tensor& dy, const StreamNorm& norm, const at::Tensor& weight,
                             const at::Tensor& dresidual) {
  const auto type = norm.y.scalar_type();
  if (bf16_on_cuda(norm.y) && on_cuda::has_stream_norm(weight.size(0))) {
    return on_cuda::norm_backward(dy, norm, weight, dresidual);
  }
  auto back = rms_norm_backward(dy, norm.h.to(at::kFloat), norm.rstd, weight);
  auto dx = dresidual + back.x;
  auto narrow = dx.to(type);
  return {std::move(dx), std::move(narrow), std::move(back.weight)};
}

}  // namespace qf
