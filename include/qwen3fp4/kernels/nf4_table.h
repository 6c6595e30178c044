#pragma once

#include <array>
#include <cstdint>

#include "qwen3fp4/kernels/fp4.h"

namespace qf {

// An NF4 code book for int8 tensor cores: a level is factor * (coarse + fine_step * fine), two
// signed bytes. The level's place among the 16 is chosen for them: weights are stored by `code_of`.
// Codes below 8 have a byte of each kind; those from 8 on share the sign of code - 8's coarse byte,
// and their fine byte is -1 or 0, the sign of code - 8's fine byte. That is what byte permutations
// (CUDA's prmt) give for nothing: of a selector's nibble n, bit 3 set, they give the sign of byte
// n - 8 in all bits. So without a mask
//   coarse = prmt(lower, codes) ^ prmt(upper, ~codes),  fine = prmt(fine, codes).
struct Nf4Table {
  std::uint32_t lower[2];  // byte i: coarse of code i
  std::uint32_t upper[2];  // byte 7 - i: coarse of code 8 + i, inverted where it is negative
  std::uint32_t fine[2];   // byte i: fine of code i
  float fine_step;         // below 2
  float factor;
  std::uint64_t code_of;  // nibble l: the code of the book's level l
};

// Every level within this of itself, relative to the largest magnitude.
inline constexpr double kNf4TableError = 0x1p-12;

// Looks for factor, step and codes; a level of zero stays zero. False: a level is not finite, all
// are zero, the largest is beyond what 2^-100 .. 2^100 holds, or nothing is close enough.
[[nodiscard]] bool make_nf4_table(const std::array<float, 16>& code_book, Nf4Table& table);

// The QLoRA paper's book (nf4_to_float), which bitsandbytes writes.
[[nodiscard]] std::array<float, 16> papers_nf4_book();
// Its table, made at the first call: within 2^-13.3. Throws std::logic_error if there is none.
[[nodiscard]] const Nf4Table& papers_nf4_table();

// The book's levels in the order of the codes.
[[nodiscard]] std::array<float, 16> levels_by_code(const std::array<float, 16>& code_book,
                                                   const Nf4Table& table);

QF_HD constexpr std::uint32_t nf4_code_of(std::uint64_t code_of, std::uint32_t level) {
  return static_cast<std::uint32_t>(code_of >> (4U * level)) & 0xFU;
}
// The codes of eight levels, the first in the lowest nibble of both.
QF_HD constexpr std::uint32_t nf4_word(std::uint32_t levels, std::uint64_t code_of) {
  std::uint32_t word = 0;
  for (unsigned k = 0; k < 8; ++k) {
    word |= nf4_code_of(code_of, levels >> (4 * k) & 0xFU) << (4 * k);
  }
  return word;
}
static_assert(nf4_word(0x7F012345U, 0x0123456789ABCDEFU) == 0x80FEDCBAU);

}  // namespace qf
