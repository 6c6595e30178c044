#pragma once

#include <algorithm>

#include "lanes.h"
#include "qwen3fp4/kernels/fp4.h"
#include "qwen3fp4/kernels/views.h"

namespace qf {

// Elements [begin, begin + count) of the flattened matrix, for every block size and alignment.
QF_INLINE void unpack_nf4(const Nf4View& w, std::int64_t begin, std::int64_t count, float* out) {
  const std::int64_t end = begin + count;
  for (std::int64_t i = begin; i < end;) {
    const std::int64_t block = i / w.block;
    const std::int64_t block_end = std::min(end, (block + 1) * w.block);
    const float absmax = w.absmax[block];
    for (; i < block_end; ++i) {
      *out++ = w.code_book[nibble(w.codes[i / 2], i % 2 == 0 ? 1U : 0U)] * absmax;
    }
  }
}

namespace lanes {

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

}  // namespace lanes
}  // namespace qf
