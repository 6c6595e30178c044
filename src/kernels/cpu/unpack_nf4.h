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

}  // namespace qf
