#include "qwen3fp4/kernels/cpu/dequantize.h"

#include "e4m3_table.h"
#include "lanes.h"
#include "unpack_nf4.h"

namespace qf {
namespace {

template <int kWidth>
QF_INLINE void dequantize_nvfp4_rows(const Nvfp4View& w, RowRange rows, float* out) {
  const std::int64_t blocks_per_row = w.cols / kNvfp4Block;
  const std::int64_t first = rows.first * blocks_per_row;
  for (std::int64_t i = 0; i < rows.count * blocks_per_row; ++i) {
    const std::int64_t block = first + i;
    const float scale =
        w.scales_e4m3 != nullptr ? kE4M3Values[w.scales_e4m3[block]] : w.scales_f32[block];
    lanes::Sixteen<kWidth> values;
    lanes::unpack_e2m1(w.codes + block * (kNvfp4Block / 2), values);
    for (auto& part : values.part) part = part * scale * w.global_scale;
    lanes::store(values, out + i * kNvfp4Block);
  }
}

#if QF_X86
QF_TARGET_AVX2 void dequantize_nvfp4_avx2(const Nvfp4View& w, RowRange rows, float* out) {
  dequantize_nvfp4_rows<lanes::kAvx2Width>(w, rows, out);
}
QF_TARGET_AVX512 void dequantize_nvfp4_avx512(const Nvfp4View& w, RowRange rows, float* out) {
  dequantize_nvfp4_rows<lanes::kAvx512Width>(w, rows, out);
}
#endif

}  // namespace

void dequantize_nvfp4(const Nvfp4View& w, RowRange rows, float* out, CpuIsa isa) {
#if QF_X86
  if (isa == CpuIsa::kAvx512) return dequantize_nvfp4_avx512(w, rows, out);
  if (isa == CpuIsa::kAvx2) return dequantize_nvfp4_avx2(w, rows, out);
#endif
  static_cast<void>(isa);
  dequantize_nvfp4_rows<lanes::kPortableWidth>(w, rows, out);
}

void dequantize_nf4(const Nf4View& w, RowRange rows, float* out) {
  unpack_nf4(w, rows.first * w.cols, rows.count * w.cols, out);
}

}  // namespace qf
