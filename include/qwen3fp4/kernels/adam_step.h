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

QF_HD inline float ieee_sqrt(float value) {
#if defined(__CUDA_ARCH__)
  return __fsqrt_rn(value);
#else
  return __builtin_sqrtf(value);
#endif
}
// b where a is NaN.
QF_HD constexpr float smaller(float a, float b) { return a < b ? a : b; }
QF_HD constexpr float larger(float a, float b) { return a > b ? a : b; }
// To [0, 1]; NaN becomes 0.
QF_HD constexpr float saturated(float a) {
#if defined(__CUDA_ARCH__)
  if (!__builtin_is_constant_evaluated()) return __saturatef(a);
#endif
  return smaller(larger(a, 0.0F), 1.0F);
}

QF_HD constexpr float next_first_moment(const AdamRule& rule, float m, float gradient) {
  return rounded_sum(rounded_product(rule.beta1, m), rounded_product(rule.rest1, gradient));
}
QF_HD constexpr float next_second_moment(const AdamRule& rule, float v, float gradient) {
  return rounded_sum(rounded_product(rule.beta2, v),
                     rounded_product(rule.rest2, rounded_product(gradient, gradient)));
}
// What the step subtracts from a weight, weight decay aside.
QF_HD constexpr float adam_change(const AdamRule& rule, float m, float root_v) {
  const float denominator =
      rounded_sum(rounded_product(root_v, rule.root_correction), rule.epsilon);
  return rounded_product(rule.step_size, m / denominator);
}
// 1 / S; 0 for a block whose scale is 0: its weights are 0 at any position, so they stay there.
QF_HD constexpr float inverse_scale(float scale) { return scale != 0.0F ? 1.0F / scale : 0.0F; }
QF_HD constexpr float inverse_scale(std::uint8_t scale_e4m3, float global_scale) {
  return inverse_scale(rounded_product(e4m3_to_float(scale_e4m3), global_scale));
}
QF_HD constexpr float moved_position(const AdamRule& rule, float y, float change, float inverse) {
  const float decayed = rounded_sum(y, -rounded_product(rule.decay, y));
  return rounded_sum(decayed, -rounded_product(change, inverse));
}

// ---- Random numbers ----

// The words of elements 4 quad .. 4 quad + 3 of the tensor.
QF_HD constexpr PhiloxWords quad_counter(const AdamRule& rule, std::int64_t quad) {
  const auto index = static_cast<std::uint64_t>(quad);
  return {static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32U), rule.tensor,
          rule.step};
}
// What an element draws: 16 bits each for m and v and kBits for the position, of one word. The bits
// that two of them share are the high ones of one and the low ones of the other.
template <int kBits>
QF_HD constexpr std::uint32_t position_draw(std::uint32_t word) {
  return word >> (32U - kBits);
}
QF_HD constexpr std::uint32_t first_draw(std::uint32_t word) { return word & 0xFFFFU; }
QF_HD constexpr std::uint32_t second_draw(std::uint32_t word) { return word >> 8U & 0xFFFFU; }

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
// Bits of the draw that leave room for the residual.
template <std::int32_t kLevels>
inline constexpr int kPositionDrawBits = kLevels == 4096 ? 11 : 15;
// The last position: what lies outside of the outermost cell becomes it, and so does NaN.
template <std::int32_t kLevels>
inline constexpr float kLastPosition = kOutermostEdge - 2.0F / kLevels;

// Up with the probability that keeps the mean: residual kLevels is the next cell's 0.
template <std::int32_t kLevels>
QF_HD constexpr Position round_position(float y, std::uint32_t draw) {
  const float m = smaller(magnitude(y), kLastPosition<kLevels>);
  const std::int32_t code = cell_code(m);
  const float per_width = cell_per_width(code);
  const float steps =
      rounded_product(rounded_sum(m, -cell_low(code)), rounded_product(per_width, float{kLevels}));
  const std::int32_t residual = draw_integer<kPositionDrawBits<kLevels>>(steps, draw);
  return {(code + residual / kLevels) | sign_code(y), residual % kLevels};
}

// e2m1_to_float() without branches.
QF_HD constexpr float e2m1_value(std::int32_t code) {
  const float m = rounded_product(static_cast<float>(small_table(0xC8643210U, code & 7)), 0.5F);
  return with_sign_of_code(m, code);
}
// The E2M1 code of `value`, rounded to one of its two neighbours so that the mean is kept; what is
// beyond +-6 becomes +-6, and so does NaN. E2M1 has one bit of a float's mantissa, so the draw is
// added below that bit; numbers under 1 have the steps of those from 1 to 2.
QF_HD constexpr std::int32_t draw_e2m1(float value, std::uint32_t draw) {
  const float m = smaller(magnitude(value), kE2M1Max);
  const bool below_one = m < 1.0F;
  const float from_one = rounded_sum(m, below_one ? 1.0F : 0.0F);
  const std::uint32_t bits = (float_bits(from_one) + (draw << 6U) + 32U) >> 22U;
  return static_cast<std::int32_t>(bits - (below_one ? 0xFEU : 0xFCU)) | sign_code(value);
}
static_assert(draw_e2m1(6.0F, 0xFFFF) == 7 && draw_e2m1(0.0F, 0xFFFF) == 0 &&
                  draw_e2m1(0.25F, 0x7FFF) == 0 && draw_e2m1(0.25F, 0x8000) == 1 &&
                  draw_e2m1(-5.0F, 0x7FFF) == 14 && draw_e2m1(-5.0F, 0x8000) == 15,
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
QF_HD constexpr GroupScale first_moment_scale(float largest, float largest_code) {
  if (!(largest >= kLeastMoment)) return {0.0F, 0.0F};
  return {rounded_product(largest, 1.0F / largest_code), largest_code / largest};
}
inline constexpr float kInt8Max = 127.0F;
// Of the lowest 8 bits, with their sign.
QF_HD constexpr float int8_value(std::int32_t code) {
  return static_cast<float>(static_cast<std::int8_t>(code));
}
// A signed 8-bit code.
QF_HD constexpr std::int32_t draw_int8(float value, std::uint32_t draw) {
  const std::int32_t code = draw_integer<16>(smaller(magnitude(value), kInt8Max), draw);
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
  static constexpr float kPerGap = 2.0F;  // 1 / (ratio - 1)
  // ratio^(2^bit)
  QF_HD static constexpr float factor(int bit) {
    return bit == 0 ? 1.5F : (bit == 1 ? 2.25F : (bit == 2 ? 5.0625F : 25.62890625F));
  }
};
// Ratio 2^(1/16): from the largest down to 1 / 62757 of it.
template <>
struct Geometric<8> {
  static constexpr float kPerGap = 22.5867307F;
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
QF_HD constexpr GroupScale second_moment_scale(float largest_root) {
  if (!(largest_root >= kLeastMoment)) return {0.0F, 0.0F};
  return {largest_root, kGeometricRange<kBits> / largest_root};
}
// sqrt(v) = base * ratio^code
template <int kBits>
QF_HD constexpr float geometric_base(float scale) {
  return rounded_product(scale, 1.0F / kGeometricRange<kBits>);
}
// sqrt(v) by the base, within the codes' range; not NaN.
template <int kBits>
QF_HD constexpr float geometric_ratios(float ratios) {
  return smaller(larger(ratios, 1.0F), kGeometricRange<kBits>);
}
// One up from `code`, the last one whose power is at most `ratios`, or not.
template <int kBits>
QF_HD constexpr std::int32_t draw_above(std::int32_t code, float inverse, float ratios,
                                        std::uint32_t draw) {
  const float over = rounded_sum(rounded_product(ratios, inverse), -1.0F);
  const float share = rounded_product(over, Geometric<kBits>::kPerGap);
  const std::int32_t up = draw_integer<16>(saturated(share), draw);
  return code + (up & static_cast<std::int32_t>(code < kLastGeometric<kBits>));
}
// The code of base * `ratios`, rounded so that the mean of sqrt(v) is kept; below the first code:
// that one.
template <int kBits>
QF_HD constexpr std::int32_t draw_geometric(float ratios, std::uint32_t draw) {
  const float x = geometric_ratios<kBits>(ratios);
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
  return draw_above<kBits>(code, inverse, x, draw);
}

// ---- v of kMin: v_rows[row] * v_columns[col] ----

// Sums over rows are those of tiles of so many rows, added in order: the cuts into chunks of rows
// do not matter, and the device has enough tiles to work on at a time.
inline constexpr std::int64_t kColumnTileRows = 64;
// Lanes over which sums along a row or over all columns are spread: lane l of a row has elements
// 4 l .. 4 l + 3 of each group, lane l of the columns has l, l + 32, ...; the lanes are added as l
// and l + 16, then + 8, + 4, + 2, + 1.
inline constexpr int kSumLanes = 32;

QF_HD constexpr float added_square(float sum, float gradient) {
  return rounded_sum(sum, rounded_product(gradient, gradient));
}
// Leaves partial sums in `lanes`.
QF_HD constexpr float sum_of_lanes(float (&lanes)[kSumLanes]) {
  for (int step = kSumLanes / 2; step > 0; step /= 2) {
    for (int i = 0; i < step; ++i) lanes[i] = rounded_sum(lanes[i], lanes[i + step]);
  }
  return lanes[0];
}
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

QF_HD inline void dense_step(const AdamRule& rule, float gradient, float& value, float& m,
                             float& v) {
  const float g = rounded_product(rule.gradient_scale, gradient);
  m = next_first_moment(rule, m, g);
  v = next_second_moment(rule, v, g);
  value = moved_position(rule, value, adam_change(rule, m, ieee_sqrt(v)), 1.0F);
}

}  // namespace qf
