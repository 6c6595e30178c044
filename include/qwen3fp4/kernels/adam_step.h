#pragma once

#include <cstdint>

#include "qwen3fp4/kernels/fp4.h"
#include "qwen3fp4/kernels/philox.h"
#include "qwen3fp4/kernels/rounded.h"
#include "qwen3fp4/kernels/views.h"

// The arithmetic of one Adam step on an NVFP4 weight with packed states, shared by
// kernels/cpu/adam_step.h and kernels/cuda/adam_step.h: every operation rounds once, in this order,
// so both give the same bits. C++17, for nvcc reads this header. doc/training.md has the reasons.
//
// A weight is w = y * S with S = block scale * tensor scale, which stay as they are; y is its
// position, and its code is the cell of the position: |y| from one edge of
// 0 .25 .75 1.25 1.75 2.5 3.5 5 7 up to, but without, the next one, and the sign of y (so the code
// of -0 is the cell (-.25, 0]).
namespace qf {

enum class AdamProfile : std::uint8_t {
  kFp32,     // position, m and v in f32
  kExact,    // code + 12 bits of position inside the cell; m and v in 8 bits
  kDefault,  // code + 8 bits of position inside the cell; m and v in 4 bits
  kMin,      // code alone; m in 4 bits, v as the product of a row's and a column's number
};

// m and v share a scale in groups of 128 elements of a row; the last group of a row may be short,
// so that no group reaches into another row.
inline constexpr std::int64_t kMomentGroup = 128;
QF_HD constexpr std::int64_t moment_groups(std::int64_t cols) {
  return (cols + kMomentGroup - 1) / kMomentGroup;
}

// A step, rounded to f32 once, on the host.
struct AdamRule {
  float gradient_scale;
  float beta1, rest1;     // rest1 = 1 - beta1
  float beta2, rest2;     // rest2 = 1 - beta2
  float step_size;        // learning rate / (1 - beta1^step)
  float root_correction;  // 1 / sqrt(1 - beta2^step)
  float epsilon;          // > 0
  float decay;            // learning rate * weight decay
  PhiloxKey seed;
  std::uint32_t tensor, step;  // with the element, the counter of the random numbers
};

// ---- Adam ----

// The square root, rounded once, of a number from 2^-100 to 2^127. The device's is what
// __fsqrt_rn() does for those, without the branch around the others.
QF_HD inline float square_root(float value) {
#if defined(__CUDA_ARCH__)
  float inverse;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(value));
  const float root = __fmul_rn(value, inverse);
  return __fmaf_rn(__fmaf_rn(-root, root, value), __fmul_rn(inverse, 0.5F), root);
#else
  return __builtin_sqrtf(value);
#endif
}
// 1 / value, rounded once, of a number from 2^-125 to 2^125. The device's is what __frcp_rn() does
// for those, without the branch around the others.
QF_HD inline float reciprocal(float value) {
#if defined(__CUDA_ARCH__)
  float near;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(near) : "f"(value));
  return __fmaf_rn(near, __fmaf_rn(-value, near, 1.0F), near);
#else
  return 1.0F / value;
#endif
}
// b where a is NaN.
QF_HD constexpr float smaller(float a, float b) { return a < b ? a : b; }
QF_HD constexpr float larger(float a, float b) { return a > b ? a : b; }

// What a unit of gradient adds to m, and a unit of the scaled gradient to sqrt(v) when it is alone.
QF_HD inline float first_share(const AdamRule& rule) {
  return rounded_product(rule.rest1, rule.gradient_scale);
}
QF_HD inline float second_share(const AdamRule& rule) {
  return rounded_product(square_root(rule.rest2), rule.gradient_scale);
}
// `kept` is beta1 m or beta2 v; the gradient is not scaled yet.
QF_HD constexpr float next_first_moment(float kept, float share, float gradient) {
  return rounded_sum(kept, rounded_product(share, gradient));
}
QF_HD constexpr float next_second_moment(float kept, float share, float gradient) {
  const float g = rounded_product(share, gradient);
  return rounded_sum(kept, rounded_product(g, g));
}
// Under every root, so that the root and what is divided by it stay in ranges where the device
// needs no branches; its own root is 1e-15.
inline constexpr float kLeastSecondMoment = 0x1p-100F;
// Of a v that is at least that; NaN of one that is not finite.
QF_HD inline float root_of_least(float v) {
#if defined(__CUDA_ARCH__)
  return square_root(v);
#else
  return rounded_sum(square_root(v), rounded_sum(v, -v));
#endif
}
// Of any v.
QF_HD inline float root_of_second(float v) {
  return root_of_least(rounded_sum(v, kLeastSecondMoment));
}
// The corrected sqrt(v) is root * root_correction, so sqrt(v) corrected + epsilon is what is
// divided by here times root_correction; step_rate() has the rest.
QF_HD inline float least_root(const AdamRule& rule) { return rule.epsilon / rule.root_correction; }
QF_HD inline float adam_direction(float m, float root_v, float least) {
  return rounded_product(m, reciprocal(rounded_sum(root_v, least)));
}
// What a direction of 1 subtracts from a weight.
QF_HD inline float step_rate(const AdamRule& rule) { return rule.step_size / rule.root_correction; }
// 1 / S; 0 for a block whose scale is 0: its weights are 0 at any position, so they stay there.
QF_HD constexpr float inverse_scale(float scale) { return scale != 0.0F ? 1.0F / scale : 0.0F; }
QF_HD constexpr float inverse_scale(std::uint8_t scale_e4m3, float global_scale) {
  return inverse_scale(rounded_product(e4m3_to_float(scale_e4m3), global_scale));
}
// `rate` is that of the step in positions: step_rate() / S.
QF_HD constexpr float moved_position(const AdamRule& rule, float y, float direction, float rate) {
  return rounded_sum(
      y, -rounded_sum(rounded_product(rule.decay, y), rounded_product(direction, rate)));
}

// ---- Random numbers ----

// The words of elements 4 quad .. 4 quad + 3 of the tensor.
QF_HD constexpr PhiloxWords quad_counter(const AdamRule& rule, std::int64_t quad) {
  const auto index = static_cast<std::uint64_t>(quad);
  return {static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32U), rule.tensor,
          rule.step};
}
// What an element draws. Of its quad's four words, in a ring, m takes the one of its own place, v
// the next and the position the one after, so that the three know nothing of each other; neighbours
// share bits.
inline constexpr int kDrawBits = 22;
QF_HD constexpr std::uint32_t first_draw(std::uint32_t word) { return word >> (32 - kDrawBits); }
// Bits that with the highest kBits bits of a word below bit kTop are 1 and a share of 2^(kTop -
// 23), in the middle of what these bits leave open.
template <int kTop, int kBits>
struct ShareBits {
  static constexpr std::uint32_t kDrawn = (1U << kTop) - (1U << (kTop - kBits));
  static constexpr std::uint32_t kOthers = 0x3F800000U | 1U << (kTop - kBits - 1);
};
template <int kTop, int kBits>
QF_HD constexpr float one_and_share(std::uint32_t word) {
  using Bits = ShareBits<kTop, kBits>;
  return float_from_bits((word & Bits::kDrawn) | Bits::kOthers);
}
static_assert(one_and_share<23, 1>(0) == 1.25F && one_and_share<23, 1>(~0U) == 1.75F &&
                  one_and_share<22, 1>(~0U) == 1.375F,
              "in the middle of its part");

// `value` in [0, 2^(23 - kBits)], to one of the two integers beside it, so that the mean over all
// draws of kBits bits is `value` to 2^-(kBits + 1). The sum rounds to multiples of 2^-kBits, for
// next to 2^23 an fp32 counts in ones.
template <int kBits>
QF_HD constexpr std::int32_t draw_integer(float value, std::uint32_t draw) {
  const float fixed = exact_product_plus(value, float{1 << kBits}, 0x1p23F);
  return static_cast<std::int32_t>((float_bits(fixed) - float_bits(0x1p23F) + draw) >> kBits);
}
static_assert(draw_integer<15>(3.75F, 0x1FFF) == 3 && draw_integer<15>(3.75F, 0x2000) == 4 &&
                  draw_integer<15>(256.0F, 0x7FFF) == 256,
              "up for three quarters of the draws; integers stay");

// ---- Positions ----

inline constexpr float kOutermostEdge = 7.0F;

// Entry `index` (0..7) of a table of eight 4-bit numbers, the first in the low bits: selects would
// keep the compiler from using vectors.
QF_HD constexpr std::int32_t small_table(std::uint32_t table, std::int32_t index) {
  return static_cast<std::int32_t>(table >> (4U * static_cast<std::uint32_t>(index)) & 0xFU);
}
// By magnitude code 0..7.
QF_HD constexpr float cell_low(std::int32_t code) {
  return rounded_product(static_cast<float>(2 * code - 1 + small_table(0x73100001U, code)), 0.25F);
}
QF_HD constexpr float cell_width(std::int32_t code) {
  return rounded_product(static_cast<float>(small_table(0x86432221U, code)), 0.25F);
}
// 1 / width: a product with it gives back every whole number of 2^-12 parts of a width.
QF_HD constexpr float cell_per_width(std::int32_t code) { return 1.0F / cell_width(code); }
QF_HD constexpr std::int32_t cell_code(float m) {
  return static_cast<std::int32_t>(m >= 0.25F) + static_cast<std::int32_t>(m >= 0.75F) +
         static_cast<std::int32_t>(m >= 1.25F) + static_cast<std::int32_t>(m >= 1.75F) +
         static_cast<std::int32_t>(m >= 2.5F) + static_cast<std::int32_t>(m >= 3.5F) +
         static_cast<std::int32_t>(m >= 5.0F);
}
static_assert(cell_low(0) == 0.0F && cell_low(1) == 0.25F && cell_low(4) == 1.75F &&
                  cell_low(4) + cell_width(4) == cell_low(5) && cell_low(6) == 3.5F &&
                  cell_low(6) + cell_width(6) == cell_low(7) &&
                  cell_low(7) + cell_width(7) == kOutermostEdge,
              "cells touch");

QF_HD constexpr std::int32_t sign_code(float y) {
  return static_cast<std::int32_t>(float_bits(y) >> 28U & 8U);
}
QF_HD constexpr float with_sign_of_code(float m, std::int32_t code) {
  return float_from_bits(float_bits(m) | (static_cast<std::uint32_t>(code) & 8U) << 28U);
}

// A position in kLevels steps a cell: low + residual / kLevels * width, exact in f32.
struct Position {
  std::int32_t code;      // E2M1
  std::int32_t residual;  // 0 .. kLevels - 1
};
template <std::int32_t kLevels>
QF_HD constexpr float position_value(const Position& p) {
  const std::int32_t code = p.code & 7;
  const float step = rounded_product(cell_width(code), 1.0F / kLevels);
  const float m =
      rounded_sum(cell_low(code), rounded_product(static_cast<float>(p.residual), step));
  return with_sign_of_code(m, p.code);
}
// Bits of the draw that leave room for the residual: their sum is exact for a whole one.
template <std::int32_t kLevels>
inline constexpr int kPositionDrawBits = kLevels == 4096 ? 10 : 14;
template <std::int32_t kLevels>
using PositionShare = ShareBits<23, kPositionDrawBits<kLevels>>;
template <std::int32_t kLevels>
QF_HD constexpr float position_share(std::uint32_t word) {
  return one_and_share<23, kPositionDrawBits<kLevels>>(word);
}
// The last position: what lies outside of the outermost cell becomes it, and so does NaN.
template <std::int32_t kLevels>
inline constexpr float kLastPosition = kOutermostEdge - 2.0F / kLevels;

// Down to a whole step from `share`, in (1, 2), less 1 of one above: up with the probability that
// keeps the mean. Residual kLevels is the next cell's 0.
template <std::int32_t kLevels>
QF_HD constexpr Position round_position(float y, float share) {
  const float m = smaller(magnitude(y), kLastPosition<kLevels>);
  const std::int32_t code = cell_code(m);
  const float per_width = cell_per_width(code);
  const float steps =
      rounded_product(rounded_sum(m, -cell_low(code)), rounded_product(per_width, float{kLevels}));
  const auto residual = static_cast<std::int32_t>(rounded_sum(steps, share)) - 1;
  return {(code + residual / kLevels) | sign_code(y), residual % kLevels};
}

// e2m1_to_float() without branches.
QF_HD constexpr float e2m1_value(std::int32_t code) {
  const float m = rounded_product(static_cast<float>(small_table(0xC8643210U, code & 7)), 0.5F);
  return with_sign_of_code(m, code);
}
// The E2M1 code of `value`, rounded to one of its two neighbours so that the mean is kept; what is
// beyond +-6 becomes +-6, and so does NaN. E2M1 has one bit of a float's mantissa, so the draw, of
// 22 bits, is added below that bit; numbers under 1 have the steps of those from 1 to 2.
QF_HD constexpr std::int32_t draw_e2m1(float value, std::uint32_t draw) {
  const float m = smaller(magnitude(value), kE2M1Max);
  const bool below_one = m < 1.0F;
  const float from_one = rounded_sum(m, below_one ? 1.0F : 0.0F);
  const std::uint32_t bits = (float_bits(from_one) + draw) >> 22U;
  return static_cast<std::int32_t>(bits - (below_one ? 0xFEU : 0xFCU)) | sign_code(value);
}
static_assert(draw_e2m1(6.0F, 0x3FFFFF) == 7 && draw_e2m1(0.0F, 0x3FFFFF) == 0 &&
                  draw_e2m1(0.25F, 0x1FFFFF) == 0 && draw_e2m1(0.25F, 0x200000) == 1 &&
                  draw_e2m1(-5.0F, 0x1FFFFF) == 14 && draw_e2m1(-5.0F, 0x200000) == 15,
              "values stay; half way: half of the draws");
static_assert(e2m1_value(5) == e2m1_to_float(5) && e2m1_value(15) == -6.0F, "the same values");

// ---- m: codes times a scale, and in kDefault and kExact times ratio^(v's code) ----
//
// In units of its own sqrt(v), as the step takes it, each element of a group has the same noise of
// rounding. In units of the group alone those with small gradients would be lost in the steps of
// the largest.

// A group whose largest magnitude is below this is stored as zeros, so that no inverse overflows.
inline constexpr float kLeastMoment = 0x1p-100F;

struct GroupScale {
  float scale;    // stored
  float inverse;  // value * inverse is what gets rounded; 0 for a group of zeros
};
// m is below 2^90 where v is finite.
QF_HD inline GroupScale first_moment_scale(float largest, float largest_code) {
  if (!(largest >= kLeastMoment)) return {0.0F, 0.0F};
  // Short of the largest code by more than three roundings: no value times it is beyond.
  const float just_below = rounded_product(largest_code, 1.0F - 0x1p-21F);
  return {rounded_product(largest, 1.0F / largest_code),
          rounded_product(just_below, reciprocal(largest))};
}
// What of a stored m stays: times its code's value (and in kDefault and kExact the power of v's).
QF_HD constexpr float kept_first_scale(const AdamRule& rule, float scale) {
  return rounded_product(rule.beta1, scale);
}
inline constexpr float kInt8Max = 127.0F;
// Of the lowest 8 bits, with their sign.
QF_HD constexpr float int8_value(std::int32_t code) {
  return static_cast<float>(static_cast<std::int8_t>(code));
}
// A signed 8-bit code, by a draw of 22 bits.
QF_HD constexpr std::int32_t draw_int8(float value, std::uint32_t draw) {
  const std::int32_t code =
      draw_integer<16>(smaller(magnitude(value), kInt8Max), draw >> (kDrawBits - 16));
  const std::int32_t negative = sign_code(value) >> 3;
  return (code ^ -negative) + negative;
}

// ---- v: codes of sqrt(v), each a constant ratio above the one before, the last the group's
// largest. There is no code for 0: a v of 0 would make the next step a thousand times too long.

template <int kBits>
struct Geometric;
// Ratio 1.5: from the largest down to 1 / 438 of it. All powers are exact.
template <>
struct Geometric<4> {
  static constexpr float kGap = 0.5F;  // ratio - 1
  // ratio^(2^bit)
  QF_HD static constexpr float factor(int bit) {
    return bit == 0 ? 1.5F : (bit == 1 ? 2.25F : (bit == 2 ? 5.0625F : 25.62890625F));
  }
};
// Ratio 2^(1/16): from the largest down to 1 / 62757 of it.
template <>
struct Geometric<8> {
  static constexpr float kGap = 0.0442737824F;
  QF_HD static constexpr float factor(int bit) {
    return bit == 0   ? 1.04427378F
           : bit == 1 ? 1.09050773F
           : bit == 2 ? 1.18920712F
           : bit == 3 ? 1.41421356F
                      : static_cast<float>(1 << (1 << (bit - 4)));
  }
};
// ratio^code and, multiplied up on its own, ratio^-code: their product is 1 to a few roundings.
template <int kBits>
QF_HD constexpr float geometric_power(std::int32_t code) {
  float power = 1.0F;
  for (int bit = kBits - 1; bit >= 0; --bit) {
    power = rounded_product(power, (code >> bit & 1) != 0 ? Geometric<kBits>::factor(bit) : 1.0F);
  }
  return power;
}
template <int kBits>
QF_HD constexpr float geometric_inverse(std::int32_t code) {
  float power = 1.0F;
  for (int bit = kBits - 1; bit >= 0; --bit) {
    power = rounded_product(power,
                            (code >> bit & 1) != 0 ? 1.0F / Geometric<kBits>::factor(bit) : 1.0F);
  }
  return power;
}
template <int kBits>
inline constexpr std::int32_t kLastGeometric = (1 << kBits) - 1;
template <int kBits>
inline constexpr float kGeometricRange = geometric_power<kBits>(kLastGeometric<kBits>);

template <int kBits>
QF_HD inline GroupScale second_moment_scale(float largest_root) {
  if (!(largest_root >= kLeastMoment)) return {0.0F, 0.0F};
  return {largest_root, rounded_product(kGeometricRange<kBits>, reciprocal(largest_root))};
}
// sqrt(v) = base * ratio^code
template <int kBits>
QF_HD constexpr float geometric_base(float scale) {
  return rounded_product(scale, 1.0F / kGeometricRange<kBits>);
}
// What of a stored v stays: times the square of the power of its code. In four bits, where squares
// are from 1 to 2^18, this already has v's least, for root_of_least(): over the steps that comes to
// a root of 4e-13 / sqrt(1 - beta2) at most.
template <int kBits>
QF_HD constexpr float kept_second_scale(const AdamRule& rule, float base) {
  const float kept = rounded_product(rule.beta2, rounded_product(base, base));
  return kBits == 4 ? rounded_sum(kept, kLeastSecondMoment) : kept;
}
// What a number in units of the last power below it is compared with: in (1, ratio). In four bits
// not evenly: keeping the mean of sqrt(v) would make steps, which are by 1 / sqrt(v), 5 to 7 % too
// long in the long run. With 1.5 - (1.5 - t)(1 + (t - 1) / 4) for an even t they are Adam's to 2 %.
inline constexpr int kSecondDrawBits = 17;
using SecondShare = ShareBits<22, kSecondDrawBits>;
QF_HD constexpr float curved_threshold(float even) {
  const float slope = exact_product_plus(even, 0.25F, 0.375F);
  return rounded_sum(rounded_product(even, slope), 0.375F);
}
static_assert(curved_threshold(1.0F) == 1.0F && curved_threshold(1.5F) == 1.5F,
              "what is on a power stays there");
template <int kBits>
QF_HD constexpr float second_threshold(std::uint32_t word) {
  const float in_half = one_and_share<22, kSecondDrawBits>(word);
  if (kBits == 4) return curved_threshold(in_half);
  return rounded_sum(rounded_product(rounded_sum(in_half, -1.0F), 2.0F * Geometric<kBits>::kGap),
                     1.0F);
}
// One up from `code`, the last one whose power is at most `x`, or not.
template <int kBits>
QF_HD constexpr std::int32_t draw_above(std::int32_t code, float inverse, float x,
                                        float threshold) {
  const auto up = static_cast<std::int32_t>(rounded_product(x, inverse) > threshold);
  return code + (up & static_cast<std::int32_t>(code < kLastGeometric<kBits>));
}
// The code of base * `ratios`, one of the two beside it by second_threshold(); below the first
// code: that one.
template <int kBits>
QF_HD constexpr std::int32_t draw_geometric(float ratios, float threshold) {
  const float x = larger(ratios, 1.0F);
  std::int32_t code = 0;
  float power = 1.0F;
  float inverse = 1.0F;
  for (int bit = kBits - 1; bit >= 0; --bit) {
    const float next = rounded_product(power, Geometric<kBits>::factor(bit));
    const bool above = x >= next;
    power = above ? next : power;
    inverse = rounded_product(inverse, above ? 1.0F / Geometric<kBits>::factor(bit) : 1.0F);
    code += above ? 1 << bit : 0;
  }
  return draw_above<kBits>(code, inverse, x, threshold);
}

// ---- v of kMin: v_rows[row] * v_columns[col] ----

// Sums over rows are those of tiles of so many rows, added in order: the cuts into chunks of rows
// do not matter, and the device has enough tiles to work on at a time.
inline constexpr std::int64_t kColumnTileRows = 64;
// Lanes over which sums along a row or over all columns are spread: lane l < 16 of a row has
// elements 8 l .. 8 l + 7 of each even group and lane l + 16 those of each odd one, lane l of the
// columns has l, l + 32, ...; the lanes are added as l and l + 16, then + 8, + 4, + 2, + 1.
inline constexpr int kSumLanes = 32;
QF_HD constexpr int sum_lane(std::int64_t group, int of_group) {
  return static_cast<int>(group % 2) * (kSumLanes / 2) + of_group / 8;
}

QF_HD constexpr float added_square(float sum, float gradient) {
  return rounded_sum(sum, rounded_product(gradient, gradient));
}
// Leaves partial sums in `lanes`.
template <int kLanes>
QF_HD constexpr float sum_of_lanes(float (&lanes)[kLanes]) {
  for (int step = kLanes / 2; step > 0; step /= 2) {
    for (int i = 0; i < step; ++i) lanes[i] = rounded_sum(lanes[i], lanes[i + step]);
  }
  return lanes[0];
}
// The squares of a group's gradients are added the same way: over half as many lanes, of eight
// elements each.
inline constexpr int kGroupSumLanes = kSumLanes / 2;
QF_HD constexpr float next_mean(const AdamRule& rule, float mean, float sum, std::int64_t count) {
  return rounded_sum(rounded_product(rule.beta2, mean),
                     rounded_product(rule.rest2, sum / static_cast<float>(count)));
}
// A column's mean by the mean over all columns; 1 while all are 0.
QF_HD constexpr float column_ratio(float mean, float sum_of_means, std::int64_t columns) {
  const float all = sum_of_means / static_cast<float>(columns);
  return all > 0.0F ? mean / all : 1.0F;
}

// ---- Dense weights ----

// Of all elements, from the rule.
struct DenseFactors {
  float first, second, least, rate;  // first_share(), second_share(), least_root(), step_rate()
};
QF_HD inline DenseFactors dense_factors(const AdamRule& rule) {
  return {first_share(rule), second_share(rule), least_root(rule), step_rate(rule)};
}
QF_HD inline void dense_step(const AdamRule& rule, const DenseFactors& factors, float gradient,
                             float& value, float& m, float& v) {
  m = next_first_moment(rounded_product(rule.beta1, m), factors.first, gradient);
  v = next_second_moment(rounded_product(rule.beta2, v), factors.second, gradient);
  value = moved_position(rule, value, adam_direction(m, root_of_second(v), factors.least),
                         factors.rate);
}

}  // namespace qf
