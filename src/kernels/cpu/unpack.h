#pragma once

#include "lanes.h"

namespace qf::lanes {

// The 16 values of 8 bytes of E2M1 codes. By shifts and selects: SSE2 and NEON have no table of 16
// floats, and the shorter trick of scaling a subnormal is slow on some processors.
QF_INLINE Floats unpack_e2m1(const std::uint8_t* codes) {
  Ints pairs;
  for (int i = 0; i < 8; ++i) {
    pairs[2 * i] = codes[i] & 0xF;
    pairs[2 * i + 1] = codes[i] >> 4;
  }
  const Ints m = pairs & 7;
  const Ints small = (m == 1) & 0x3F000000;
  const Ints normal = (m << 22) + (126 << 23);
  const Ints value = m >= 2 ? normal : small;
  return reinterpret_cast<Floats>(value | ((pairs & 8) << 28));
}

}  // namespace qf::lanes
