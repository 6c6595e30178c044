#pragma once

#include <array>
#include <cstdint>

namespace qf {

// An NF4 code book for the FP8 tensor cores: a level is factor * (high + low), two E4M3 numbers,
// within 2^-11 of itself. In byte permutations' order: byte i of word w is level 4w + i.
struct Nf4Table {
  std::uint32_t high[4], low[4];
  float factor;
};

// Looks for the factor. False: a level is not finite, or no factor is good enough (for the QLoRA
// paper's book, which bitsandbytes writes, the worst level is 2^-11.6 off).
[[nodiscard]] bool make_nf4_table(const std::array<float, 16>& code_book, Nf4Table& table);

}  // namespace qf
