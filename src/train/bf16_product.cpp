#include "bf16_product.h"

#include <ATen/ATen.h>
#include <ATen/cpu/Utils.h>
#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <exception>
#include <vector>

#include "qwen3fp4/base/error.h"
#include "task_rows.h"

namespace qf {
namespace {

namespace blas = at::native::cpublas;

constexpr std::int64_t kInnerStep = 64;
// What of a right operand is multiplied at a time stays in a core's cache.
constexpr std::int64_t kInnerAtATime = 12 * kInnerStep;
constexpr std::int64_t kColumnsAtATime = 256;
constexpr std::int64_t kFewRows = 32;

std::int64_t whole_steps(std::int64_t inner) {
  return (inner + kInnerStep - 1) / kInnerStep * kInnerStep;
}

// What the processor has, oneDNN may have been told not to use.
bool multiplies() {
  try {
    const auto ones = at::ones({kFewRows, kInnerStep}, at::kBFloat16);
    auto out = at::empty({kFewRows, kFewRows}, at::kFloat);
    blas::brgemm(kFewRows, kFewRows, kInnerStep, kInnerStep, kFewRows, kFewRows, /*add_C=*/false,
                 ones.const_data_ptr<at::BFloat16>(), ones.const_data_ptr<at::BFloat16>(),
                 out.mutable_data_ptr<float>());
    blas::brgemm_release();
    return out.eq(static_cast<double>(kInnerStep)).all().item<bool>();
  } catch (const std::exception&) {
    return false;
  }
}

void interleave(const std::uint16_t* even, const std::uint16_t* odd, std::int64_t count,
                std::uint32_t* pairs) {
  for (std::int64_t i = 0; i < count; ++i) {
    pairs[i] = even[i] | static_cast<std::uint32_t>(odd[i]) << 16U;
  }
}

// Columns of b that lie side by side in memory, two elements a 32-bit word: pairs need no more than
// a transposition of words.
bool holds_pairs(const at::Tensor& b) {
  return b.stride(0) == 1 && b.size(0) % 2 == 0 && b.stride(1) % 2 == 0 &&
         b.storage_offset() % 2 == 0;
}

}  // namespace

bool has_bf16_products() {
#if defined(__x86_64__)
  static const bool kHas =
      (at::cpu::init_amx() || __builtin_cpu_supports("avx512bf16") != 0) && multiplies();
  return kHas;
#else
  return false;
#endif
}

RowPairs::RowPairs(const at::Tensor& b) {
  const std::int64_t inner = b.size(0);
  const std::int64_t width = b.size(1);
  pairs_ = at::empty({whole_steps(inner) / 2, width, 2}, b.options());
  if (pairs_.numel() == 0) return;
  pairs_.narrow(0, inner / 2, pairs_.size(0) - inner / 2).zero_();
  if (holds_pairs(b)) {
    const auto words = b.t().view(at::kInt).t();
    const auto to = pairs_.view(at::kInt).squeeze(-1);
    by_rows(inner / 2, /*cuda=*/false, [&](std::int64_t first, std::int64_t count) {
      to.narrow(0, first, count).copy_(words.narrow(0, first, count));
    });
    return;
  }
  const auto rows = b.contiguous();
  const auto* const from =
      reinterpret_cast<const std::uint16_t*>(rows.const_data_ptr<at::BFloat16>());
  auto* const to = reinterpret_cast<std::uint32_t*>(pairs_.mutable_data_ptr<at::BFloat16>());
  by_rows(inner / 2, /*cuda=*/false, [&](std::int64_t first, std::int64_t count) {
    for (std::int64_t pair = first; pair < first + count; ++pair) {
      interleave(from + 2 * pair * width, from + (2 * pair + 1) * width, width, to + pair * width);
    }
  });
  if (inner % 2 != 0) {
    const std::vector<std::uint16_t> zeros(static_cast<std::size_t>(width));
    interleave(from + (inner - 1) * width, zeros.data(), width, to + inner / 2 * width);
  }
}

void RowPairs::multiply_rows(const at::Tensor& a, bool add, const at::Tensor& out) const {
  const std::int64_t inner = a.size(1);
  const std::int64_t width = columns();
  const std::int64_t count = a.size(0);
  QF_CHECK(count <= kTaskRows && whole_steps(inner) == 2 * pairs_.size(0) && out.stride(1) == 1,
           "a product of {} times {} by {}: not the operands that it was made for", count, inner,
           width);
  if (inner == 0 && !add) out.zero_();
  if (inner == 0 || count == 0 || width == 0) return;
  const std::int64_t rows = count > kFewRows ? kTaskRows : kFewRows;
  auto sums = out;
  if (count < rows) {
    sums = at::zeros({rows, width}, out.options());
    if (add) sums.narrow(0, 0, count).copy_(out);
  }
  const bool in_place = count == rows && a.stride(1) == 1 && inner % kInnerStep == 0;
  const auto copy = in_place ? at::Tensor() : at::zeros({rows, kInnerAtATime}, a.options());
  const auto* const right = pairs_.const_data_ptr<at::BFloat16>();
  for (std::int64_t k = 0; k < inner; k += kInnerAtATime) {
    const std::int64_t some = std::min(kInnerAtATime, inner - k);
    const auto left = in_place ? a.narrow(1, k, some) : copy;
    if (!in_place) {
      const auto filled = copy.narrow(0, 0, count);
      filled.narrow(1, 0, some).copy_(a.narrow(1, k, some));
      filled.narrow(1, some, whole_steps(some) - some).zero_();
    }
    for (std::int64_t column = 0; column < width; column += kColumnsAtATime) {
      blas::brgemm(rows, std::min(kColumnsAtATime, width - column), whole_steps(some),
                   left.stride(0), width, sums.stride(0), add || k > 0,
                   left.const_data_ptr<at::BFloat16>(), right + (k * width) + (2 * column),
                   sums.mutable_data_ptr<float>() + column);
    }
  }
  blas::brgemm_release();
  if (count < rows) out.copy_(sums.narrow(0, 0, count));
}

void RowPairs::multiply(const at::Tensor& a, bool add, const at::Tensor& out) const {
  by_rows(a.size(0), /*cuda=*/false, [&](std::int64_t first, std::int64_t count) {
    multiply_rows(a.narrow(0, first, count), add, out.narrow(0, first, count));
  });
}

}  // namespace qf
