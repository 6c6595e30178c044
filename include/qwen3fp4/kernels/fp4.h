#pragma once

#include <cstdint>

// The element formats of 4-bit weights as compiler-checked facts, for host and device alike
// (C++17, for nvcc reads this header). Never compile their users with fast-math: it flushes
// subnormal scales and reorders the rounding.
#if defined(__CUDACC__)
#define QF_HD __host__ __device__
#else
#define QF_HD
#endif

namespace qf {

inline constexpr float kE2M1Max = 6.0F;
inline constexpr float kE4M3Max = 448.0F;
inline constexpr float kE4M3MinNormal = 0x1p-6F;
inline constexpr float kE4M3MinSubnormal = 0x1p-9F;

QF_HD constexpr std::uint32_t float_bits(float value) {
  return __builtin_bit_cast(std::uint32_t, value);
}
QF_HD constexpr float float_from_bits(std::uint32_t bits) {
  return __builtin_bit_cast(float, bits);
}
QF_HD constexpr float magnitude(float value) {
  return float_from_bits(float_bits(value) & 0x7FFFFFFFU);
}
QF_HD constexpr bool is_finite(float value) {
  return (float_bits(value) & 0x7F800000U) != 0x7F800000U;
}

// Code `index` (0 or 1) of a byte of NVFP4; NF4 stores the pair the other way round.
QF_HD constexpr unsigned nibble(std::uint8_t byte, unsigned index) {
  return (static_cast<unsigned>(byte) >> (4U * index)) & 0xFU;
}
static_assert(nibble(0xA7, 0) == 0x7 && nibble(0xA7, 1) == 0xA, "low nibble first");

// E2M1: bit 3 is the sign, bits 2..0 index {0, .5, 1, 1.5, 2, 3, 4, 6}.
QF_HD constexpr float e2m1_to_float(unsigned code) {
  const unsigned exponent = (code >> 1U) & 3U;
  const unsigned mantissa = code & 1U;
  const unsigned sign = (code & 8U) << 28U;
  if (exponent == 0) return float_from_bits(sign | (mantissa != 0 ? 0x3F000000U : 0U));
  return float_from_bits(sign | ((exponent + 126U) << 23U) | (mantissa << 22U));
}
static_assert(e2m1_to_float(0b0000) == 0.0F && e2m1_to_float(0b0001) == 0.5F, "subnormal");
static_assert(e2m1_to_float(0b0011) == 1.5F && e2m1_to_float(0b0101) == 3.0F, "mantissa bit");
static_assert(e2m1_to_float(0b0111) == kE2M1Max, "largest value");
static_assert(e2m1_to_float(0b1010) == -1.0F, "bit 3 is the sign");

// Nearest E2M1 code, ties to the even code, saturating; the sign of zero is kept. Not for NaN.
QF_HD constexpr unsigned e2m1_from_float(float value) {
  const float m = magnitude(value);
  const unsigned code = static_cast<unsigned>(m > 0.25F) + static_cast<unsigned>(m >= 0.75F) +
                        static_cast<unsigned>(m > 1.25F) + static_cast<unsigned>(m >= 1.75F) +
                        static_cast<unsigned>(m > 2.5F) + static_cast<unsigned>(m >= 3.5F) +
                        static_cast<unsigned>(m > 5.0F);
  return code | ((float_bits(value) >> 28U) & 8U);
}
static_assert(e2m1_to_float(e2m1_from_float(0.25F)) == 0.0F, "ties to even");
static_assert(e2m1_to_float(e2m1_from_float(0.75F)) == 1.0F, "ties to even");
static_assert(e2m1_to_float(e2m1_from_float(1.25F)) == 1.0F, "ties to even");
static_assert(e2m1_to_float(e2m1_from_float(1.75F)) == 2.0F, "ties to even");
static_assert(e2m1_to_float(e2m1_from_float(2.5F)) == 2.0F, "ties to even");
static_assert(e2m1_to_float(e2m1_from_float(-3.5F)) == -4.0F, "ties to even");
static_assert(e2m1_to_float(e2m1_from_float(5.0F)) == 4.0F, "ties to even");
static_assert(e2m1_from_float(1e30F) == 0b0111 && e2m1_from_float(-0.0F) == 0b1000, "saturates");

// E4M3FN: 4 exponent bits (bias 7), subnormals, no infinity; only 0x7F and 0xFF are NaN.
QF_HD constexpr float e4m3_to_float(std::uint8_t code) {
  const unsigned sign = (code & 0x80U) << 24U;
  const unsigned exponent = (code >> 3U) & 0xFU;
  const unsigned mantissa = code & 7U;
  if ((code & 0x7FU) == 0x7FU) return float_from_bits(sign | 0x7FC00000U);
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) * kE4M3MinSubnormal;
    return sign != 0 ? -value : value;
  }
  return float_from_bits(sign | ((exponent + 120U) << 23U) | (mantissa << 20U));
}
static_assert(e4m3_to_float(0x01) == kE4M3MinSubnormal && e4m3_to_float(0x07) == 7 * 0x1p-9F,
              "subnormals count");
static_assert(e4m3_to_float(0x08) == kE4M3MinNormal && e4m3_to_float(0x38) == 1.0F, "bias 7");
static_assert(e4m3_to_float(0x78) == 256.0F && e4m3_to_float(0x7E) == kE4M3Max,
              "exponent 15 holds numbers");
static_assert(e4m3_to_float(0xBC) == -1.5F, "sign");
static_assert(e4m3_to_float(0x7F) != e4m3_to_float(0x7F), "NaN");

// Nearest E4M3FN code, ties to even, saturating at +-448; NaN gives 0x7F or 0xFF.
QF_HD constexpr std::uint8_t e4m3_from_float(float value) {
  const std::uint32_t bits = float_bits(value);
  const std::uint32_t sign = (bits >> 24U) & 0x80U;
  const std::uint32_t m = bits & 0x7FFFFFFFU;
  if (m > 0x7F800000U) return static_cast<std::uint8_t>(sign | 0x7FU);
  if (m >= float_bits(kE4M3Max)) return static_cast<std::uint8_t>(sign | 0x7EU);
  if (m < float_bits(kE4M3MinNormal)) {
    // Next to 2^14 an fp32 counts in steps of 2^-9, so that the addition does the rounding.
    const std::uint32_t steps = float_bits(float_from_bits(m) + 0x1p14F) - float_bits(0x1p14F);
    return static_cast<std::uint8_t>(sign | steps);
  }
  const std::uint32_t rounded = m + 0x7FFFFU + ((m >> 20U) & 1U);
  return static_cast<std::uint8_t>(sign | ((rounded >> 20U) - (120U << 3U)));
}
static_assert(e4m3_from_float(448.0F) == 0x7E && e4m3_from_float(1e30F) == 0x7E, "saturates");
static_assert(e4m3_from_float(1.0625F) == 0x38 && e4m3_from_float(1.1875F) == 0x3A, "ties to even");
static_assert(e4m3_from_float(0x1p-10F) == 0x00 && e4m3_from_float(0x1.8p-9F) == 0x02,
              "subnormal ties to even");
static_assert(e4m3_from_float(0x1.FFp-7F) == 0x08, "rounds up into the normals");
static_assert(e4m3_from_float(-1.5F) == 0xBC, "sign");

// NF4: the code book of the QLoRA paper, as bitsandbytes spells it.
QF_HD constexpr float nf4_to_float(unsigned code) {
  constexpr float kCodeBook[16] = {-1.0F,
                                   -0.6961928009986877F,
                                   -0.5250730514526367F,
                                   -0.39491748809814453F,
                                   -0.28444138169288635F,
                                   -0.18477343022823334F,
                                   -0.09105003625154495F,
                                   0.0F,
                                   0.07958029955625534F,
                                   0.16093020141124725F,
                                   0.24611230194568634F,
                                   0.33791524171829224F,
                                   0.44070982933044434F,
                                   0.5626170039176941F,
                                   0.7229568362236023F,
                                   1.0F};
  return kCodeBook[code & 0xFU];
}
// The upper end of what rounds to `code` (0..14): a value on the border takes the lower code.
QF_HD constexpr float nf4_border(unsigned code) {
  return (nf4_to_float(code) + nf4_to_float(code + 1U)) / 2.0F;
}
// Nearest NF4 code of a value in [-1, 1].
QF_HD constexpr unsigned nf4_from_float(float value) {
  unsigned code = 0;
  for (unsigned i = 0; i < 15U; ++i) code += static_cast<unsigned>(value > nf4_border(i));
  return code;
}
static_assert(nf4_from_float(-1.0F) == 0 && nf4_from_float(0.0F) == 7 && nf4_from_float(1.0F) == 15,
              "the three exact values");
static_assert(nf4_from_float(nf4_border(3)) == 3, "the border belongs to the lower code");

}  // namespace qf
