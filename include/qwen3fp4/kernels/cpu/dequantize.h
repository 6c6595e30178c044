#pragma once

#include <cstdint>

#include "qwen3fp4/kernels/cpu/isa.h"
#include "qwen3fp4/kernels/views.h"

// Exactly the formulas in views.h, evaluated from left to right, every product rounded to fp32
// once; the same bits for every `isa`.
namespace qf {

struct RowRange {
  std::int64_t first, count;
};

// `out` [rows.count, w.cols]
void dequantize_nvfp4(const Nvfp4View& w, RowRange rows, float* out, CpuIsa isa = best_cpu_isa());
void dequantize_nf4(const Nf4View& w, RowRange rows, float* out);

}  // namespace qf
