#pragma once

#include <cuda_fp16.h>

namespace qf::cuda {

// What unpack_e2m1() leaves its values short of.
inline constexpr float kE2m1WordScale = 0x1p14F;

// E2M1 codes 0..7 of a word as numbers of 2^-14 their value: exponent and mantissa keep their
// places beside each other, so that placing the bits is all it takes, subnormals included.
__device__ inline void unpack_e2m1(unsigned word, float (&values)[8]) {
#pragma unroll
  for (unsigned pair = 0; pair < 4; ++pair) {
    // Codes `pair` and `pair + 4` into the two halves of a register.
    const unsigned codes = word >> (4 * pair) & 0x000F000FU;
    const unsigned bits = (codes & 0x00070007U) << 9 | (codes & 0x00080008U) << 12;
    const float2 two = __half22float2(*reinterpret_cast<const __half2*>(&bits));
    values[pair] = two.x;
    values[pair + 4] = two.y;
  }
}

// The code in the lowest four bits: its bits are those of a float whose exponent is 126 too small,
// subnormal ones too.
__device__ inline float e2m1_of_bits(unsigned word) {
  return __uint_as_float((word & 8U) << 28U | (word & 7U) << 22U) * 0x1p126F;
}

}  // namespace qf::cuda
