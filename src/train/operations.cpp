#include "operations.h"

#include <ATen/ATen.h>
#include <ATen/cpu/Utils.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "block_kernels.h"
#include "task_rows.h"

// Shapes in this file: as in the header; M, K, N of a product: rows, inner, columns.
namespace qf {
namespace {

// What of a right operand in bf16 is multiplied at a time stays in a core's cache.
constexpr std::int64_t kInnerAtATime = 768;
constexpr std::int64_t kColumnsAtATime = 256;

// On the CPU at::addmm only sums in its result's type.
at::Tensor in_type_of(const at::Tensor& out, const at::Tensor& x) {
  return x.to(out.scalar_type());
}

// Without such instructions libtorch's bf16 products are slower than fp32's; with them five times
// as fast.
bool has_bf16_products() {
#if defined(__x86_64__)
  static const bool kHas = at::cpu::init_amx() || __builtin_cpu_supports("avx512bf16") != 0;
  return kHas;
#else
  return false;
#endif
}

bool bf16_on_cpu(const at::Tensor& a, const at::Tensor& b) {
  return !a.is_cuda() && a.scalar_type() == at::kBFloat16 && b.scalar_type() == at::kBFloat16 &&
         has_bf16_products();
}

// Rows of b in pairs, the last one perhaps with zeros.
std::int64_t pairs_of(const at::Tensor& b) { return (b.size(0) + 1) / 2; }

// A left operand row by row, with a zero where the right one's last pair has one.
at::Tensor whole_pairs(const at::Tensor& a) {
  if (a.is_contiguous() && a.size(1) % 2 == 0) return a;
  const std::int64_t inner = (a.size(1) + 1) / 2 * 2;
  auto out = at::empty({a.size(0), inner}, a.options());
  by_rows(a.size(0), /*cuda=*/false, [&](std::int64_t first, std::int64_t count) {
    const auto rows = out.narrow(0, first, count);
    rows.narrow(1, 0, a.size(1)).copy_(a.narrow(0, first, count));
    if (inner > a.size(1)) rows.select(1, a.size(1)).zero_();
  });
  return out;
}

void interleave(const std::uint16_t* even, const std::uint16_t* odd, std::int64_t count,
                std::uint32_t* pairs) {
  for (std::int64_t i = 0; i < count; ++i) {
    pairs[i] = even[i] | static_cast<std::uint32_t>(odd[i]) << 16U;
  }
}

// A right operand [K, N] as the processor's products of bf16 take it: [K/2, N, 2], pairs of its
// rows side by side.
at::Tensor row_pairs(const at::Tensor& b) {
  const std::int64_t pairs = pairs_of(b);
  auto out = at::empty({pairs, b.size(1), 2}, b.options());
  if (b.stride(0) == 1 && b.size(0) % 2 == 0) {  // pairs are 32-bit words of its memory
    const auto words = b.t().contiguous().view(at::kInt).t();
    const auto to = out.view(at::kInt).squeeze(-1);
    by_rows(pairs, /*cuda=*/false, [&](std::int64_t first, std::int64_t count) {
      to.narrow(0, first, count).copy_(words.narrow(0, first, count));
    });
    return out;
  }
  const auto rows = b.contiguous();
  const std::int64_t width = b.size(1);
  const auto* const from =
      reinterpret_cast<const std::uint16_t*>(rows.const_data_ptr<at::BFloat16>());
  auto* const to = reinterpret_cast<std::uint32_t*>(out.mutable_data_ptr<at::BFloat16>());
  by_rows(b.size(0) / 2, /*cuda=*/false, [&](std::int64_t first, std::int64_t count) {
    for (std::int64_t pair = first; pair < first + count; ++pair) {
      interleave(from + 2 * pair * width, from + (2 * pair + 1) * width, width, to + pair * width);
    }
  });
  if (b.size(0) % 2 != 0) {
    const std::vector<std::uint16_t> zeros(static_cast<std::size_t>(width));
    interleave(from + (b.size(0) - 1) * width, zeros.data(), width, to + (pairs - 1) * width);
  }
  return out;
}

// out [M, N] = a [M, K] b, or += it, on bf16 with f32 sums. a: of whole_pairs(); `pairs`: of b.
void multiply_pairs(const at::Tensor& a, const at::Tensor& pairs, bool add, at::Tensor& out) {
  namespace blas = at::native::cpublas;
  const std::int64_t inner = a.size(1);
  const std::int64_t columns = pairs.size(1);
  const auto* const left = a.const_data_ptr<at::BFloat16>();
  const auto* const right = pairs.const_data_ptr<at::BFloat16>();
  for (std::int64_t column = 0; column < columns; column += kColumnsAtATime) {
    const std::int64_t width = std::min(kColumnsAtATime, columns - column);
    for (std::int64_t k = 0; k < inner; k += kInnerAtATime) {
      blas::brgemm(a.size(0), width, std::min(kInnerAtATime, inner - k), inner, columns,
                   out.stride(0), add || k > 0, left + k, right + (k * columns) + (2 * column),
                   out.mutable_data_ptr<float>() + column);
    }
  }
  blas::brgemm_release();
}

// out = a b or += a b, f32; `pairs`: of b.
void multiply_bf16(const at::Tensor& a, const at::Tensor& pairs, bool add, const at::Tensor& out) {
  const auto left = whole_pairs(a);
  by_rows(a.size(0), /*cuda=*/false, [&](std::int64_t first, std::int64_t count) {
    auto rows = out.narrow(0, first, count);
    multiply_pairs(left.narrow(0, first, count), pairs, add, rows);
  });
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
  if (bf16_on_cpu(a, b)) {
    const auto left = whole_pairs(a);
    const auto pairs = row_pairs(b);
    by_rows(a.size(0), /*cuda=*/false, [&](std::int64_t first, std::int64_t count) {
      auto rows = at::empty({count, b.size(1)}, a.options().dtype(at::kFloat));
      multiply_pairs(left.narrow(0, first, count), pairs, /*add=*/false, rows);
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
  if (a.is_cuda()) {
    if (a.scalar_type() == out.scalar_type()) {
      out.addmm_(a, b);
    } else {
      at::addmm_out(out, out, a, b, at::kFloat);
    }
    return;
  }
  if (bf16_on_cpu(a, b) && out.scalar_type() == at::kFloat) {
    multiply_bf16(a, row_pairs(b), /*add=*/true, out);
    return;
  }
  const auto right = in_type_of(out, b);
  by_rows(a.size(0), /*cuda=*/false, [&](std::int64_t first, std::int64_t count) {
    out.narrow(0, first, count).addmm_(in_type_of(out, a.narrow(0, first, count)), right);
  });
}

RightOperand::RightOperand(at::Tensor b) : b_(std::move(b)) {
  if (bf16_on_cpu(b_, b_)) pairs_ = row_pairs(b_);
}

at::Tensor product_f32(const at::Tensor& a, const RightOperand& b) {
  if (a.scalar_type() == at::kFloat) return product(a, b.b_);
  if (a.is_cuda()) return at::mm(a, b.b_, at::kFloat);
  if (!bf16_on_cpu(a, b.b_)) return product(a.to(at::kFloat), b.b_.to(at::kFloat));
  auto out = at::empty({a.size(0), b.b_.size(1)}, a.options().dtype(at::kFloat));
  multiply_bf16(a, b.pairs_, /*add=*/false, out);
  return out;
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
