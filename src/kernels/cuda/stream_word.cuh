#pragma once

#include <cstdint>

#include "qwen3fp4/kernels/fp4.h"

// The 32-bit word of the stream layout (kernels/cuda/stream_layout.h); NF4's is nf4_word()
// (kernels/nf4_table.h).
namespace qf::cuda {

// Bits of an E4M3 number that an E2M1 code uses, in each byte: sign 7, exponent and mantissa 4..2.
inline constexpr std::uint32_t kCodeBits = 0x9C9C9C9CU;

// Four E2M1 codes, the first in the lowest nibble, as E4M3 numbers of 2^-6 their value.
QF_HD constexpr std::uint32_t e4m3_of_codes(std::uint32_t codes) {
  std::uint32_t bytes = 0;
  for (unsigned k = 0; k < 4; ++k) {
    const std::uint32_t code = codes >> (4 * k) & 0xFU;
    bytes |= ((code & 8U) << 4U | (code & 7U) << 2U) << (8 * k);
  }
  return bytes;
}

// The two registers that a word stands for.
QF_HD constexpr void split_stream_word(std::uint32_t word, std::uint32_t& low,
                                       std::uint32_t& high) {
  low = word & kCodeBits;
  high = ((word << 2U) ^ (word >> 2U)) & kCodeBits;
}

// The word that split_stream_word() takes apart into these two (only kCodeBits of both may be set).
// `low` fixes four bits of a byte, and each bit of `high` is the sum of two bits of the word, at
// most one of them fixed: solved from the top byte down, for bit 7 of `high` needs bit 1 of the
// byte above.
QF_HD constexpr std::uint32_t stream_word(std::uint32_t low, std::uint32_t high) {
  std::uint32_t word = low;
  std::uint32_t above = 0;  // bit 1 of the byte above
  for (int byte = 3; byte >= 0; --byte) {
    const auto bit = [byte](std::uint32_t value, int index) {
      return value >> (8 * byte + index) & 1U;
    };
    const std::uint32_t bit6 = bit(high, 4) ^ bit(low, 2);
    const std::uint32_t bit0 = bit(high, 2) ^ bit(low, 4);
    const std::uint32_t bit5 = bit(high, 7) ^ above;
    const std::uint32_t bit1 = bit(high, 3) ^ bit5;
    above = bit1;
    word |= (bit6 << 6 | bit5 << 5 | bit1 << 1 | bit0) << (8 * byte);
  }
  return word;
}

QF_HD constexpr bool stream_word_is_inverse(std::uint32_t low, std::uint32_t high) {
  std::uint32_t got_low = 0;
  std::uint32_t got_high = 0;
  split_stream_word(stream_word(low, high), got_low, got_high);
  return got_low == low && got_high == high;
}
static_assert(stream_word_is_inverse(0x9C180C04U, 0x84989C08U), "the layout's equations");
static_assert(stream_word_is_inverse(0, kCodeBits) && stream_word_is_inverse(kCodeBits, 0));
static_assert(e4m3_to_float(e4m3_of_codes(0x7) & 0xFF) * 64.0F == 6.0F &&
                  e4m3_to_float(e4m3_of_codes(0x1) & 0xFF) * 64.0F == 0.5F,
              "E2M1 is E4M3 with other exponents, subnormals included");

// NF4: which of a row's four absmax in a chunk is that of block `block`. A lane multiplies blocks 0
// and 2, or 1 and 3.
QF_HD constexpr int nf4_scale_place(int block) { return (block & 1) << 1 | block >> 1; }

}  // namespace qf::cuda
