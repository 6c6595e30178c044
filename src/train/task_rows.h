#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "qwen3fp4/quant/parallel.h"

namespace qf {

// Rows of a tensor that one task on the CPU computes: a cut that no number of threads changes, and
// small enough that what an operation writes is still in a core's cache for the next.
inline constexpr std::int64_t kTaskRows = 64;

// run(first, count) over `rows` rows: in parallel tasks on the CPU, at once on a GPU.
template <class Run>
void by_rows(std::int64_t rows, bool cuda, const Run& run) {
  if (cuda) {
    run(std::int64_t{0}, rows);
    return;
  }
  parallel_chunks(rows, kTaskRows,
                  [&](std::int64_t first, std::int64_t end) { run(first, end - first); });
}

}  // namespace qf
