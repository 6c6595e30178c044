#pragma once

#include <cstdint>

#include "qwen3fp4/kernels/fp4.h"

// The integer arithmetic of NF4 in the decode kernel, for host and device. Integers below 2^22 pass
// for floats: 1.5 * 2^23 plus the integer has its bits in the lowest ones, so that neither way
// needs a conversion.
namespace qf {

inline constexpr float kIntegerStart = 0x1.8p23F;
inline constexpr std::int32_t kIntegerBits = 0x4B400000;
static_assert(float_from_bits(kIntegerBits) == kIntegerStart);

// Three digits to base 256, -128 .. 127 each, in bytes 0 (the least significant) to 2, of the
// integer x for kIntegerStart + x.
QF_HD constexpr std::uint32_t int8_digits(float started) {
  return (float_bits(started) + (0x00808080U - static_cast<std::uint32_t>(kIntegerBits))) ^
         0x00808080U;
}
QF_HD constexpr std::int32_t int8_digit(std::uint32_t digits, int index) {
  const std::uint32_t byte = digits >> (8 * index) & 0xFFU;
  return static_cast<std::int32_t>(byte) - (byte < 128 ? 0 : 256);
}
QF_HD constexpr bool int8_digits_hold(std::int32_t x) {
  const std::uint32_t digits = int8_digits(kIntegerStart + static_cast<float>(x));
  return int8_digit(digits, 2) * 65536 + int8_digit(digits, 1) * 256 + int8_digit(digits, 0) == x;
}
static_assert(int8_digits_hold(0) && int8_digits_hold(-1) && int8_digits_hold(128) &&
              int8_digits_hold((1 << 22) - 1) && int8_digits_hold(1 - (1 << 22)));

// Of two digits' products with coarse and fine bytes over 64 columns, which begin with
// kIntegerBits: in units of the higher digit.
static_assert(64 * 2 * 128 * 128 < 1 << 22);
QF_HD constexpr float sum_of_digits(float high, float low) {
  return low * 0x1p-8F + (high - (kIntegerStart + kIntegerStart * 0x1p-8F));
}
static_assert(sum_of_digits(kIntegerStart + 5.0F, kIntegerStart - 64.0F) == 4.75F);

}  // namespace qf
