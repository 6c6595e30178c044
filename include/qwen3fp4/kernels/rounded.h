#pragma once

#include "qwen3fp4/kernels/fp4.h"

// Products and sums that round each on their own. nvcc would fuse a plain a * b + c into one
// rounding, which is not what the CPU kernels compute (they are built with -ffp-contract=off).
namespace qf {

#if defined(__CUDA_ARCH__)
#define QF_ROUNDED(intrinsic, expression) \
  return __builtin_is_constant_evaluated() ? (expression) : intrinsic(a, b)
#else
#define QF_ROUNDED(intrinsic, expression) return expression
#endif

QF_HD constexpr float rounded_product(float a, float b) { QF_ROUNDED(__fmul_rn, a * b); }
QF_HD constexpr float rounded_sum(float a, float b) { QF_ROUNDED(__fadd_rn, a + b); }
QF_HD constexpr double rounded_product(double a, double b) { QF_ROUNDED(__dmul_rn, a * b); }
QF_HD constexpr double rounded_sum(double a, double b) { QF_ROUNDED(__dadd_rn, a + b); }

#undef QF_ROUNDED

// a * b + c, where a * b is exact: one rounding, whether or not they are fused.
QF_HD constexpr float exact_product_plus(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  if (!__builtin_is_constant_evaluated()) return __fmaf_rn(a, b, c);
#endif
  return a * b + c;
}

}  // namespace qf
