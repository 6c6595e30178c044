#pragma once

#include <cstdint>

#include "qwen3fp4/kernels/fp4.h"

// Keys and values of the cache in FP8: a row, the features of one token's key or value of one head,
// is E4M3 codes times one f32 scale, its largest magnitude / 448. Every operation rounds once, in
// this order, so the bits are the same on every device. C++17, for nvcc reads this header too.
namespace qf {

// A code as the element type of a cache.
struct E4M3 {
  std::uint8_t code;
};

// Scales of a head are padded to a multiple of this many tokens, so that what a kernel copies at
// once begins and ends on 16 bytes.
inline constexpr std::int64_t kKvScaleTokens = 16;
QF_HD constexpr std::int64_t kv_scale_stride(std::int64_t context) {
  return (context + kKvScaleTokens - 1) / kKvScaleTokens * kKvScaleTokens;
}

// `largest`: the bits of the row's largest magnitude, compared as integers: NaN is the largest of
// all. A row with a value that is not finite has the scale NaN, and is NaN when it is read.
QF_HD constexpr float kv_scale(std::uint32_t largest) {
  if (largest > float_bits(0x1.FFFFFEp127F)) return float_from_bits(0x7FC00000U);
  return float_from_bits(largest) / kE4M3Max;
}
// A row of zeros (or of so little that its scale is 0) has codes of 0.
QF_HD constexpr std::uint8_t kv_code(float value, float scale) {
  if (scale > 0.0F) return e4m3_from_float(value / scale);
  return scale == 0.0F ? 0x00 : 0x7F;
}
static_assert(kv_scale(float_bits(448.0F)) == 1.0F && kv_code(-448.0F, 1.0F) == 0xFE, "the range");
static_assert(kv_scale(0) == 0.0F && kv_code(0.0F, 0.0F) == 0, "zeros");
static_assert(kv_scale(0x7F800000U) != kv_scale(0x7F800000U), "infinity shows when it is read");
static_assert(kv_scale_stride(16) == 16 && kv_scale_stride(17) == 32);

}  // namespace qf
