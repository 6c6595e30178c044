#include "operations.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "bf16_product.h"
#include "block_kernels.h"
#include "task_rows.h"

// Shapes in this file: as in the header; M, K, N of a product: rows, inner, columns.
namespace qf {
namespace {

bool bf16_on_cpu(const at::Tensor& x) {
  return !x.is_cuda() && x.scalar_type() == at::kBFloat16 && has_bf16_products();
}

bool bf16_on_cuda(const at::Tensor& x) { return x.is_cuda() && x.scalar_type() == at::kBFloat16; }

}  // namespace

at::Tensor converted(const at::Tensor& x, at::ScalarType type) {
  if (x.scalar_type() == type) return x;
  auto out = at::empty(x.sizes(), x.options().dtype(type));
  by_rows(x.size(0), x.is_cuda(), [&](std::int64_t first, std::int64_t count) {
    out.narrow(0, first, count).copy_(x.narrow(0, first, count));
  });
  return out;
}

at::Tensor sum_of(const at::Tensor& a, const at::Tensor& b) {
  auto out = at::empty(a.sizes(), a.options().dtype(at::result_type(a, b)));
  by_rows(a.size(0), a.is_cuda(), [&](std::int64_t first, std::int64_t count) {
    auto rows = out.narrow(0, first, count);
    at::add_out(rows, a.narrow(0, first, count), b.narrow(0, first, count));
  });
  return out;
}

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  if (bf16_on_cuda(gate)) return on_cuda::swiglu(gate, up);
  auto out = at::empty(gate.sizes(), gate.options());
  by_rows(gate.size(0), gate.is_cuda(), [&](std::int64_t first, std::int64_t count) {
    const auto part = [&](const at::Tensor& t) { return t.narrow(0, first, count); };
    part(out).copy_(at::silu(part(gate).to(at::kFloat)).mul_(part(up)));
  });
  return out;
}

SwigluGradient swiglu_backward(const at::Tensor& dhidden, const at::Tensor& gate,
                               const at::Tensor& up) {
  if (bf16_on_cuda(gate)) return on_cuda::swiglu_backward(dhidden, gate, up);
  SwigluGradient gradient{at::empty(gate.sizes(), gate.options()),
                          at::empty(gate.sizes(), gate.options())};
  by_rows(gate.size(0), gate.is_cuda(), [&](std::int64_t first, std::int64_t count) {
    const auto part = [&](const at::Tensor& t) { return t.narrow(0, first, count); };
    const auto d = part(dhidden).to(at::kFloat);
    const auto g = part(gate).to(at::kFloat);
    part(gradient.gate).copy_(at::silu_backward(d * part(up), g));
    part(gradient.up).copy_(at::silu(g).mul_(d));
  });
  return gradient;
}

at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  if (a.is_cuda()) return at::mm(a, b);
  auto out = at::empty({a.size(0), b.size(1)}, a.options());
  if (bf16_on_cpu(a)) {
    const RowPairs right(b);
    by_rows(a.size(0), /*cuda=*/false, [&](std::int64_t first, std::int64_t count) {
      const auto rows = at::empty({count, b.size(1)}, a.options().dtype(at::kFloat));
      right.multiply_rows(a.narrow(0, first, count), /*add=*/false, rows);
      out.narrow(0, first, count).copy_(rows);
    });
    return out;
  }
  if (a.scalar_type() != at::kFloat) return product_f32(a, b).to(a.scalar_type());
  by_rows(a.size(0), /*cuda=*/false, [&](std::int64_t first, std::int64_t count) {
    auto rows = out.narrow(0, first, count);
    at::mm_out(rows, a.narrow(0, first, count), b);
  });
  return out;
}

void add_product(const at::Tensor& a, const at::Tensor& b, at::Tensor& out) {
  add_product(a, RightOperand(b), out);
}

RightOperand::RightOperand(const at::Tensor& b) {
  if (bf16_on_cpu(b)) {
    pairs_ = RowPairs(b);
  } else {
    b_ = b.is_cuda() ? b : b.to(at::kFloat);
  }
}

std::int64_t RightOperand::bytes(std::int64_t values, at::ScalarType type) {
  if (type == at::kFloat) return 0;
  return values * (has_bf16_products() ? 2 : 4);
}

void add_product(const at::Tensor& a, const RightOperand& b, at::Tensor& out) {
  if (b.pairs_.defined()) return b.pairs_.multiply(a, /*add=*/true, out);
  if (a.is_cuda()) {
    if (a.scalar_type() == at::kFloat) {
      out.addmm_(a, b.b_);
    } else {
      at::addmm_out(out, out, a, b.b_, at::kFloat);
    }
    return;
  }
  by_rows(a.size(0), /*cuda=*/false, [&](std::int64_t first, std::int64_t count) {
    out.narrow(0, first, count).addmm_(a.narrow(0, first, count).to(at::kFloat), b.b_);
  });
}

at::Tensor product_f32(const at::Tensor& a, const RightOperand& b) {
  if (b.pairs_.defined()) {
    auto out = at::empty({a.size(0), b.pairs_.columns()}, a.options().dtype(at::kFloat));
    b.pairs_.multiply(a, /*add=*/false, out);
    return out;
  }
  if (a.is_cuda() && a.scalar_type() != at::kFloat) return at::mm(a, b.b_, at::kFloat);
  return product(a.to(at::kFloat), b.b_);
}

at::Tensor product_f32(const at::Tensor& a, const at::Tensor& b) {
  return product_f32(a, RightOperand(b));
}

Normed rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  if (x.is_cuda()) {
    auto [y, rstd] = at::_fused_rms_norm(x, {x.size(-1)}, weight, eps);
    return {std::move(y), std::move(rstd)};
  }
  auto shape = x.sizes().vec();
  shape.back() = 1;
  Normed normed{at::empty_like(x), at::empty(shape, x.options())};
  parallel_chunks(x.size(0), kTaskRows, [&](std::int64_t first, std::int64_t end) {
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
  const std::int64_t chunks = (x.size(0) + kTaskRows - 1) / kTaskRows;
  auto dx = at::empty_like(x);
  auto partial = at::empty({chunks, width}, x.options());
  parallel_chunks(x.size(0), kTaskRows, [&](std::int64_t first, std::int64_t end) {
    const auto part = [&](const at::Tensor& t) { return t.narrow(0, first, end - first); };
    const auto n = part(x) * part(rstd);
    const auto g = part(dy) * weight;
    part(dx).copy_((g - n * (g * n).mean(-1, /*keepdim=*/true)) * part(rstd));
    partial.select(0, first / kTaskRows).copy_((part(dy) * n).reshape({-1, width}).sum(0));
  });
  return {dx, partial.sum(0)};
}

StreamGradient norm_backward(const at::Tensor& dy, const StreamNorm& norm, const at::Tensor& weight,
                             const at::Tensor& dresidual) {
  const auto type = norm.y.scalar_type();
  if (bf16_on_cuda(norm.y) && on_cuda::has_stream_norm(weight.size(0))) {
    return on_cuda::norm_backward(dy, norm, weight, dresidual);
  }
  auto back = rms_norm_backward(dy, converted(norm.h, at::kFloat), norm.rstd, weight);
  auto dx = sum_of(dresidual, back.x);
  auto narrow = converted(dx, type);
  return {std::move(dx), std::move(narrow), std::move(back.weight)};
}

}  // namespace qf
