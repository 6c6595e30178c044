#include "linear_isa.h"

#if QF_X86
#include <immintrin.h>

#include <bit>

#include "qwen3fp4/kernels/fp4.h"

// A word holds 8 codes and a permute looks only at the low 4 bits of each lane, so that shifting
// all 16 words by 4 k and looking them up gives 16 weights in two instructions; x comes packed to
// match.
namespace qf::avx512 {
namespace {

#define QF_KERNEL QF_TARGET_AVX512 static inline __attribute__((always_inline))

struct Group {
  __m512i words;   // 128 codes
  __m512 scales;   // of the 8 columns that each lane holds
  const float* x;  // the group's 128 packed values of token 0
};

// sums[t] += scales * (the group's weights times token t's values). kSwap: NF4 stores the two codes
// of a byte the other way round.
template <int kTokens, unsigned kSwap>
QF_KERNEL void add_group(const Group& group, __m512 table, std::int64_t x_stride, __m512* sums) {
  __m512 part[kTokens];
  for (int t = 0; t < kTokens; ++t) part[t] = _mm512_setzero_ps();
#pragma GCC unroll 8
  for (unsigned k = 0; k < 8; ++k) {
    const __m512 weights = _mm512_permutexvar_ps(_mm512_srli_epi32(group.words, 4 * k), table);
#pragma GCC unroll 4
    for (int t = 0; t < kTokens; ++t) {
      const __m512 x = _mm512_loadu_ps(group.x + t * x_stride + 16 * (k ^ kSwap));
      part[t] = _mm512_fmadd_ps(weights, x, part[t]);
    }
  }
  for (int t = 0; t < kTokens; ++t) sums[t] = _mm512_fmadd_ps(part[t], group.scales, sums[t]);
}

// Each of 8 bytes for two lanes. By arithmetic: a gather of 16 costs more.
QF_KERNEL __m512 decode_e4m3(__m128i bytes) {
  const __m512i codes = _mm512_cvtepu8_epi32(_mm_unpacklo_epi8(bytes, bytes));
  const __m512i m = _mm512_and_si512(codes, _mm512_set1_epi32(0x7F));
  const __m512i normal = _mm512_add_epi32(_mm512_slli_epi32(m, 20), _mm512_set1_epi32(120 << 23));
  const __mmask16 subnormal = _mm512_cmplt_epi32_mask(m, _mm512_set1_epi32(8));
  const __mmask16 nan = _mm512_cmpeq_epi32_mask(m, _mm512_set1_epi32(0x7F));
  __m512 value = _mm512_castsi512_ps(normal);
  value = _mm512_mask_mul_ps(value, subnormal, _mm512_cvtepi32_ps(m),
                             _mm512_set1_ps(kE4M3MinSubnormal));
  value = _mm512_mask_mov_ps(value, nan, _mm512_set1_ps(e4m3_to_float(0x7F)));
  const __m512i sign = _mm512_slli_epi32(_mm512_and_si512(codes, _mm512_set1_epi32(0x80)), 24);
  return _mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(value), sign));
}

// The scales of `blocks` (1 .. 8) blocks from `block` on, each for two lanes, zeros for the rest.
QF_KERNEL __m512 nvfp4_scales(const Nvfp4View& w, std::int64_t block, int blocks) {
  const auto mask = static_cast<__mmask8>((1U << static_cast<unsigned>(blocks)) - 1U);
  if (w.scales_e4m3 != nullptr) {
    return decode_e4m3(_mm_maskz_loadu_epi8(mask, w.scales_e4m3 + block));
  }
  const __m512i twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
  const __m256 scales = _mm256_maskz_loadu_ps(mask, w.scales_f32 + block);
  return _mm512_permutexvar_ps(twice, _mm512_castps256_ps512(scales));
}

QF_KERNEL __mmask16 lane_mask(std::int64_t lanes) {
  return static_cast<__mmask16>((1U << static_cast<unsigned>(lanes)) - 1U);
}

template <int kTokens>
QF_TARGET_AVX512 void nvfp4_rows(const Nvfp4View& w, const LinearInput& in, RowRange rows,
                                 const LinearOutput& out) {
  const __m512 table = _mm512_setr_ps(0.0F, 0.5F, 1.0F, 1.5F, 2.0F, 3.0F, 4.0F, 6.0F, -0.0F, -0.5F,
                                      -1.0F, -1.5F, -2.0F, -3.0F, -4.0F, -6.0F);
  const std::int64_t x_stride = packed_cols(w.cols);
  const std::int64_t whole = w.cols / kColumnGroup;
  const std::int64_t rest = w.cols % kColumnGroup;
  for (std::int64_t r = rows.first; r < rows.first + rows.count; ++r) {
    const std::uint8_t* const codes = w.codes + r * (w.cols / 2);
    const std::int64_t block = r * (w.cols / kNvfp4Block);
    __m512 sums[kTokens];
    for (int t = 0; t < kTokens; ++t) sums[t] = _mm512_setzero_ps();
    for (std::int64_t g = 0; g < whole; ++g) {
      const Group group{_mm512_loadu_si512(codes + g * 64), nvfp4_scales(w, block + g * 8, 8),
                        in.x_packed + g * kColumnGroup};
      add_group<kTokens, 0>(group, table, x_stride, sums);
    }
    if (rest != 0) {
      const Group group{_mm512_maskz_loadu_epi32(lane_mask(rest / 8), codes + whole * 64),
                        nvfp4_scales(w, block + whole * 8, static_cast<int>(rest / kNvfp4Block)),
                        in.x_packed + whole * kColumnGroup};
      add_group<kTokens, 0>(group, table, x_stride, sums);
    }
    for (int t = 0; t < kTokens; ++t) {
      out.y[t * out.stride + r] = _mm512_reduce_add_ps(sums[t]) * w.global_scale;
    }
  }
}

template <int kTokens>
QF_TARGET_AVX512 void nf4_rows(const Nf4View& w, const LinearInput& in, RowRange rows,
                               const LinearOutput& out) {
  const __m512 table = _mm512_loadu_ps(w.code_book);
  const std::int64_t x_stride = packed_cols(w.cols);
  const auto halves = static_cast<std::uint32_t>(w.cols / 64);  // each of one absmax
  const int shift = std::countr_zero(static_cast<std::uint64_t>(w.block / 64));
  for (std::int64_t r = rows.first; r < rows.first + rows.count; ++r) {
    const std::uint8_t* const codes = w.codes + r * (w.cols / 2);
    const float* const absmax = w.absmax + r * (w.cols / w.block);
    __m512 sums[kTokens];
    for (int t = 0; t < kTokens; ++t) sums[t] = _mm512_setzero_ps();
    for (std::uint32_t h = 0; h < halves; h += 2) {
      const bool both = h + 1 < halves;
      const float upper = both ? absmax[(h + 1) >> shift] : 0.0F;
      const __m512 scales =
          _mm512_mask_blend_ps(0xFF00, _mm512_set1_ps(absmax[h >> shift]), _mm512_set1_ps(upper));
      const std::uint8_t* const from = codes + static_cast<std::int64_t>(h) * 32;
      const Group group{_mm512_maskz_loadu_epi32(lane_mask(both ? 16 : 8), from), scales,
                        in.x_packed + static_cast<std::int64_t>(h) * 64};
      add_group<kTokens, 1>(group, table, x_stride, sums);
    }
    for (int t = 0; t < kTokens; ++t) {
      out.y[t * out.stride + r] = _mm512_reduce_add_ps(sums[t]);
    }
  }
}

template <DenseType kType>
QF_KERNEL __m512 load_dense(const DenseRows& w, std::int64_t first, __mmask16 mask) {
  if constexpr (kType == DenseType::kF32) {
    return _mm512_maskz_loadu_ps(mask, static_cast<const float*>(w.values) + first);
  } else {
    const __m256i halves =
        _mm256_maskz_loadu_epi16(mask, static_cast<const std::uint16_t*>(w.values) + first);
    if constexpr (kType == DenseType::kF16) return _mm512_cvtph_ps(halves);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }
}

// sums[t] += 16 columns (or those of the mask) of a row times token t's.
template <int kTokens, DenseType kType>
QF_KERNEL void add_dense(const DenseRows& w, std::int64_t first, const float* x, __mmask16 mask,
                         __m512* sums) {
  const __m512 weights = load_dense<kType>(w, first, mask);
#pragma GCC unroll 4
  for (int t = 0; t < kTokens; ++t) {
    sums[t] = _mm512_fmadd_ps(weights, _mm512_maskz_loadu_ps(mask, x + t * w.cols), sums[t]);
  }
}

template <int kTokens, DenseType kType>
QF_TARGET_AVX512 void dense_rows(const DenseRows& w, const LinearInput& in, RowRange rows,
                                 const LinearOutput& out) {
  constexpr int kChains = 4;  // sums in flight, to hide the latency of an addition
  const std::int64_t whole = w.cols / (16 * kChains) * (16 * kChains);
  for (std::int64_t r = rows.first; r < rows.first + rows.count; ++r) {
    __m512 sums[kChains][kTokens];
    for (auto& chain : sums) {
      for (auto& sum : chain) sum = _mm512_setzero_ps();
    }
    for (std::int64_t c = 0; c < whole; c += 16 * kChains) {
#pragma GCC unroll 4
      for (int i = 0; i < kChains; ++i) {
        add_dense<kTokens, kType>(w, r * w.cols + c + 16 * i, in.x + c + 16 * i, 0xFFFF, sums[i]);
      }
    }
    for (std::int64_t c = whole; c < w.cols; c += 16) {
      const std::int64_t left = w.cols - c;
      add_dense<kTokens, kType>(w, r * w.cols + c, in.x + c, lane_mask(left < 16 ? left : 16),
                                sums[0]);
    }
    for (int t = 0; t < kTokens; ++t) {
      const __m512 sum = _mm512_add_ps(_mm512_add_ps(sums[0][t], sums[1][t]),
                                       _mm512_add_ps(sums[2][t], sums[3][t]));
      out.y[t * out.stride + r] = _mm512_reduce_add_ps(sum);
    }
  }
}

template <int kTokens>
void dense_rows_of_type(const DenseRows& w, const LinearInput& in, RowRange rows,
                        const LinearOutput& out) {
  switch (w.type) {
    case DenseType::kF32:
      return dense_rows<kTokens, DenseType::kF32>(w, in, rows, out);
    case DenseType::kF16:
      return dense_rows<kTokens, DenseType::kF16>(w, in, rows, out);
    case DenseType::kBF16:
      return dense_rows<kTokens, DenseType::kBF16>(w, in, rows, out);
  }
}

}  // namespace

void linear_nvfp4(const Nvfp4View& w, const LinearInput& in, RowRange rows,
                  const LinearOutput& out) {
  constexpr decltype(&nvfp4_rows<1>) kByTokens[] = {nvfp4_rows<1>, nvfp4_rows<2>, nvfp4_rows<3>,
                                                    nvfp4_rows<4>};
  kByTokens[in.tokens - 1](w, in, rows, out);
}

void linear_nf4(const Nf4View& w, const LinearInput& in, RowRange rows, const LinearOutput& out) {
  constexpr decltype(&nf4_rows<1>) kByTokens[] = {nf4_rows<1>, nf4_rows<2>, nf4_rows<3>,
                                                  nf4_rows<4>};
  kByTokens[in.tokens - 1](w, in, rows, out);
}

void linear_dense(const DenseRows& w, const LinearInput& in, RowRange rows,
                  const LinearOutput& out) {
  constexpr decltype(&dense_rows_of_type<1>) kByTokens[] = {
      dense_rows_of_type<1>, dense_rows_of_type<2>, dense_rows_of_type<3>, dense_rows_of_type<4>};
  kByTokens[in.tokens - 1](w, in, rows, out);
}

}  // namespace qf::avx512
#endif
