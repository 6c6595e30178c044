#include "qwen3fp4/kernels/cpu/dequantize.h"

#include "e4m3_table.h"
#include "lanes.h"
#include "qwen3fp4/kernels/fp4.h"
#include "unpack.h"

namespace qf {
namespace {

QF_INLINE void dequantize_nvfp4_rows(const Nvfp4View& w, RowRange rows, float* out) {
  const std::int64_t blocks_per_row = w.cols / kNvfp4Block;
  const std::int64_t first = rows.first * blocks_per_row;
  for (std::int64_t i = 0; i < rows.count * blocks_per_row; ++i) {
    const std::int64_t block = first + i;
    const float scale =
        w.scales_e4m3 != nullptr ? kE4M3Values[w.scales_e4m3[block]] : w.scales_f32[block];
    const lanes::Floats values =
        lanes::unpack_e2m1(w.codes + block * (kNvfp4Block / 2)) * scale * w.global_scale;
    lanes::store(out + i * kNvfp4Block, values);
  }
}

#if QF_X86
QF_TARGET_AVX2 void dequantize_nvfp4_rows_avx2(const Nvfp4View& w, RowRange rows, float* out) {
  dequantize_nvfp4_rows(w, rows, out);
}
QF_TARGET_AVX512 void dequantize_nvfp4_rows_avx512(const Nvfp4View& w, RowRange rows, float* out) {
  dequantize_nvfp4_rows(w, rows, out);
}
#endif

}  // namespace

void dequantize_nvfp4(const Nvfp4View& w, RowRange rows, float* out, CpuIsa isa) {
#if QF_X86
  if (isa == CpuIsa::kAvx512) return dequantize_nvfp4_rows_avx512(w, rows, out);
  if (isa == CpuIsa::kAvx2) return dequantize_nvfp4_rows_avx2(w, rows, out);
#endif
  static_cast<void>(isa);
  dequantize_nvfp4_rows(w, rows, out);
}

void dequantize_nf4(const Nf4View& w, RowRange rows, float* out) {
  unpack_nf4(w, rows.first * w.cols, rows.count * w.cols, out);
}

}  // namespace qf
