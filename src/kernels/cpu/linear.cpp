#include "qwen3fp4/kernels/cpu/linear.h"

#include <bit>

#include "linear_isa.h"

namespace qf {
#if QF_X86
namespace {

// What the vector kernels assume: 64 columns in a row share an absmax, whose index is a shift away.
bool suits_vectors(const Nf4View& w) {
  return w.block % 64 == 0 && std::has_single_bit(static_cast<std::uint64_t>(w.block)) &&
         w.cols % w.block == 0;
}

}  // namespace
#endif

void pack_columns(const float* x, std::int64_t tokens, std::int64_t cols, float* out) {
  const std::int64_t padded = packed_cols(cols);
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t first = 0; first < padded; first += kColumnGroup) {
      float* const group = out + t * padded + first;
      for (std::int64_t i = 0; i < kColumnGroup; ++i) {
        const std::int64_t place = i % 8 * 16 + i / 8;
        group[place] = first + i < cols ? x[t * cols + first + i] : 0.0F;
      }
    }
  }
}

void linear_nvfp4(const Nvfp4View& w, const LinearInput& in, RowRange rows, const LinearOutput& out,
                  CpuIsa isa) {
#if QF_X86
  if (isa == CpuIsa::kAvx512) return avx512::linear_nvfp4(w, in, rows, out);
  if (isa == CpuIsa::kAvx2) return avx2::linear_nvfp4(w, in, rows, out);
#endif
  static_cast<void>(isa);
  portable::linear_nvfp4(w, in, rows, out);
}

void linear_nf4(const Nf4View& w, const LinearInput& in, RowRange rows, const LinearOutput& out,
                CpuIsa isa) {
#if QF_X86
  const bool vectors = suits_vectors(w);
  if (vectors && isa == CpuIsa::kAvx512) return avx512::linear_nf4(w, in, rows, out);
  if (vectors && isa == CpuIsa::kAvx2) return avx2::linear_nf4(w, in, rows, out);
#endif
  static_cast<void>(isa);
  portable::linear_nf4(w, in, rows, out);
}

void linear_dense(const DenseRows& w, const LinearInput& in, RowRange rows, const LinearOutput& out,
                  CpuIsa isa) {
#if QF_X86
  if (isa == CpuIsa::kAvx512) return avx512::linear_dense(w, in, rows, out);
  if (isa == CpuIsa::kAvx2) return avx2::linear_dense(w, in, rows, out);
#endif
  static_cast<void>(isa);
  portable::linear_dense(w, in, rows, out);
}

}  // namespace qf
