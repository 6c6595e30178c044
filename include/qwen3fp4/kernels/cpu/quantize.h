#pragma once

#include <cstdint>

#include "qwen3fp4/kernels/cpu/isa.h"
#include "qwen3fp4/kernels/views.h"

// The quantisers (doc/quantisation.md has the arithmetic). Each works on the rows or blocks it is
// given, so that callers thread over them; the bits depend neither on that split nor on `isa`.
// Weights must be finite: check absolute_max() first.
namespace qf {

// Largest magnitude; infinity or NaN when some value is not finite; 0 for count 0.
[[nodiscard]] float absolute_max(const float* values, std::int64_t count,
                                 CpuIsa isa = best_cpu_isa());

// The tensor scale of a tensor with this absolute_max: amax / 2688, but 1 for an all-zero tensor,
// and never below 2^-118, where 1 / (tensor scale * block scale) would overflow.
[[nodiscard]] float nvfp4_global_scale(float tensor_amax);

struct Nvfp4Rule {
  float global_scale;  // nvfp4_global_scale(), or 1 for single-level files
  bool search;         // block scales by least squared error instead of amax / 6
  const float*
      column_weights;  // [cols], finite, >= 0: weights of the squared error; nullptr: all 1
};
struct Nvfp4Output {
  std::uint8_t* codes;        // [rows, cols/2]
  std::uint8_t* scales_e4m3;  // [rows, cols/16]
};
// weight.cols: multiple of 16.
void quantize_nvfp4(const DenseView& weight, const Nvfp4Rule& rule, const Nvfp4Output& out,
                    CpuIsa isa = best_cpu_isa());

// `count` (even) flattened values starting at a block edge, as bitsandbytes quantises them: blocks
// of 64, and a last one of what remains. codes [count/2], absmax [ceil(count/64)].
void quantize_nf4(const float* values, std::int64_t count, std::uint8_t* codes, float* absmax,
                  CpuIsa isa = best_cpu_isa());

}  // namespace qf
