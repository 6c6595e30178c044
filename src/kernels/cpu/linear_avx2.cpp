#include "linear_isa.h"

#if QF_X86
#include <immintrin.h>

#include <bit>
#include <cstring>

#include "qwen3fp4/kernels/fp4.h"

// As AVX-512's, with 8 lanes: a group is two halves of 64 columns. A permute looks up 8 values by
// the low 3 bits of each lane; the code's high bit is the sign (NVFP4) or chooses between two
// tables (NF4).
namespace qf::avx2 {
namespace {

#define QF_KERNEL QF_TARGET_AVX2 static inline __attribute__((always_inline))

struct Half {
  __m256i words;   // 64 codes
  __m256 scales;   // of the 8 columns that each lane holds
  const float* x;  // this half of the group's packed values of token 0: 8 of every 16
};

template <int kTokens>
QF_KERNEL void add_values(__m256 weights, const float* x, std::int64_t x_stride, __m256* part) {
#pragma GCC unroll 4
  for (int t = 0; t < kTokens; ++t) {
    part[t] = _mm256_fmadd_ps(weights, _mm256_loadu_ps(x + t * x_stride), part[t]);
  }
}

template <int kTokens>
QF_KERNEL void add_nvfp4(const Half& half, std::int64_t x_stride, __m256* sums) {
  const __m256 table = _mm256_setr_ps(0.0F, 0.5F, 1.0F, 1.5F, 2.0F, 3.0F, 4.0F, 6.0F);
  const __m256i sign_bit = _mm256_set1_epi32(INT32_MIN);
  __m256 part[kTokens];
  for (int t = 0; t < kTokens; ++t) part[t] = _mm256_setzero_ps();
#pragma GCC unroll 8
  for (int k = 0; k < 8; ++k) {
    const __m256 m = _mm256_permutevar8x32_ps(table, _mm256_srli_epi32(half.words, 4 * k));
    const __m256i sign = _mm256_and_si256(_mm256_slli_epi32(half.words, 28 - 4 * k), sign_bit);
    add_values<kTokens>(_mm256_xor_ps(m, _mm256_castsi256_ps(sign)), half.x + 16 * k, x_stride,
                        part);
  }
  for (int t = 0; t < kTokens; ++t) sums[t] = _mm256_fmadd_ps(part[t], half.scales, sums[t]);
}

template <int kTokens>
QF_KERNEL void add_nf4(const Half& half, const float* code_book, std::int64_t x_stride,
                       __m256* sums) {
  const __m256 low = _mm256_loadu_ps(code_book);
  const __m256 high = _mm256_loadu_ps(code_book + 8);
  __m256 part[kTokens];
  for (int t = 0; t < kTokens; ++t) part[t] = _mm256_setzero_ps();
#pragma GCC unroll 8
  for (int k = 0; k < 8; ++k) {
    const __m256i codes = _mm256_srli_epi32(half.words, 4 * k);
    const __m256 choice = _mm256_castsi256_ps(_mm256_slli_epi32(half.words, 28 - 4 * k));
    const __m256 weights = _mm256_blendv_ps(_mm256_permutevar8x32_ps(low, codes),
                                            _mm256_permutevar8x32_ps(high, codes), choice);
    add_values<kTokens>(weights, half.x + 16 * (k ^ 1), x_stride, part);
  }
  for (int t = 0; t < kTokens; ++t) sums[t] = _mm256_fmadd_ps(part[t], half.scales, sums[t]);
}

QF_KERNEL float reduce(__m256 v) {
  const __m128 a = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 b = _mm_add_ps(a, _mm_movehl_ps(a, a));
  return _mm_cvtss_f32(_mm_add_ss(b, _mm_shuffle_ps(b, b, 1)));
}

// By arithmetic: four look-ups would meet in a register only by way of memory.
QF_KERNEL __m128 decode_e4m3(std::uint32_t bytes) {
  const __m128i codes = _mm_cvtepu8_epi32(_mm_cvtsi32_si128(static_cast<int>(bytes)));
  const __m128i m = _mm_and_si128(codes, _mm_set1_epi32(0x7F));
  const __m128 normal =
      _mm_castsi128_ps(_mm_add_epi32(_mm_slli_epi32(m, 20), _mm_set1_epi32(120 << 23)));
  const __m128 subnormal = _mm_mul_ps(_mm_cvtepi32_ps(m), _mm_set1_ps(kE4M3MinSubnormal));
  const __m128 is_subnormal = _mm_castsi128_ps(_mm_cmplt_epi32(m, _mm_set1_epi32(8)));
  const __m128 is_nan = _mm_castsi128_ps(_mm_cmpeq_epi32(m, _mm_set1_epi32(0x7F)));
  const __m128 value = _mm_blendv_ps(normal, subnormal, is_subnormal);
  const __m128 sign = _mm_castsi128_ps(_mm_slli_epi32(_mm_andnot_si128(m, codes), 24));
  return _mm_or_ps(_mm_or_ps(value, sign), is_nan);  // all ones is a NaN
}

// The scales of `blocks` (1 .. 4) blocks from `block` on, each for two lanes, zeros for the rest.
QF_KERNEL __m256 nvfp4_scales(const Nvfp4View& w, std::int64_t block, std::int64_t blocks) {
  __m128 scales = _mm_setzero_ps();
  const auto count = static_cast<std::size_t>(blocks);
  if (w.scales_e4m3 != nullptr) {
    std::uint32_t bytes = 0;
    std::memcpy(&bytes, w.scales_e4m3 + block, count);
    scales = decode_e4m3(bytes);
  } else {
    std::memcpy(&scales, w.scales_f32 + block, count * 4);
  }
  const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
  return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(scales), twice);
}

template <int kTokens>
QF_TARGET_AVX2 void nvfp4_rows(const Nvfp4View& w, const LinearInput& in, RowRange rows,
                               const LinearOutput& out) {
  const std::int64_t x_stride = packed_cols(w.cols);
  const std::int64_t whole = w.cols / 64;
  const std::int64_t rest = w.cols % 64;
  for (std::int64_t r = rows.first; r < rows.first + rows.count; ++r) {
    const std::uint8_t* const codes = w.codes + r * (w.cols / 2);
    const std::int64_t block = r * (w.cols / kNvfp4Block);
    __m256 sums[kTokens];
    for (int t = 0; t < kTokens; ++t) sums[t] = _mm256_setzero_ps();
    for (std::int64_t h = 0; h < whole; ++h) {
      const auto* const from = reinterpret_cast<const __m256i*>(codes + h * 32);
      const float* const x = in.x_packed + h / 2 * kColumnGroup + h % 2 * 8;
      add_nvfp4<kTokens>({_mm256_loadu_si256(from), nvfp4_scales(w, block + h * 4, 4), x}, x_stride,
                         sums);
    }
    if (rest != 0) {
      __m256i words = _mm256_setzero_si256();
      std::memcpy(&words, codes + whole * 32, static_cast<std::size_t>(rest / 2));
      const float* const x = in.x_packed + whole / 2 * kColumnGroup + whole % 2 * 8;
      add_nvfp4<kTokens>({words, nvfp4_scales(w, block + whole * 4, rest / kNvfp4Block), x},
                         x_stride, sums);
    }
    for (int t = 0; t < kTokens; ++t) {
      out.y[t * out.stride + r] = reduce(sums[t]) * w.global_scale;
    }
  }
}

template <int kTokens>
QF_TARGET_AVX2 void nf4_rows(const Nf4View& w, const LinearInput& in, RowRange rows,
                             const LinearOutput& out) {
  const std::int64_t x_stride = packed_cols(w.cols);
  const auto halves = static_cast<std::uint32_t>(w.cols / 64);  // each of one absmax
  const int shift = std::countr_zero(static_cast<std::uint64_t>(w.block / 64));
  for (std::int64_t r = rows.first; r < rows.first + rows.count; ++r) {
    const std::uint8_t* const codes = w.codes + r * (w.cols / 2);
    const float* const absmax = w.absmax + r * (w.cols / w.block);
    __m256 sums[kTokens];
    for (int t = 0; t < kTokens; ++t) sums[t] = _mm256_setzero_ps();
    for (std::uint32_t h = 0; h < halves; ++h) {
      const auto* const from =
          reinterpret_cast<const __m256i*>(codes + static_cast<std::int64_t>(h) * 32);
      const float* const x =
          in.x_packed + static_cast<std::int64_t>(h / 2) * kColumnGroup + h % 2 * 8;
      add_nf4<kTokens>({_mm256_loadu_si256(from), _mm256_set1_ps(absmax[h >> shift]), x},
                       w.code_book, x_stride, sums);
    }
    for (int t = 0; t < kTokens; ++t) out.y[t * out.stride + r] = reduce(sums[t]);
  }
}

template <DenseType kType>
QF_KERNEL __m256 load_dense(const void* values, std::int64_t first) {
  if constexpr (kType == DenseType::kF32) {
    return _mm256_loadu_ps(static_cast<const float*>(values) + first);
  } else {
    const auto* const from =
        reinterpret_cast<const __m128i*>(static_cast<const std::uint16_t*>(values) + first);
    const __m128i halves = _mm_loadu_si128(from);
    if constexpr (kType == DenseType::kF16) return _mm256_cvtph_ps(halves);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }
}

template <int kTokens, DenseType kType>
QF_TARGET_AVX2 void dense_rows(const DenseRows& w, const LinearInput& in, RowRange rows,
                               const LinearOutput& out) {
  constexpr std::size_t kWeightBytes = kType == DenseType::kF32 ? 4 : 2;
  const std::int64_t rest = w.cols % 8;
  const std::int64_t whole = w.cols - rest;
  for (std::int64_t r = rows.first; r < rows.first + rows.count; ++r) {
    __m256 sums[2][kTokens];  // two in flight, to hide the latency of an addition
    for (auto& chain : sums) {
      for (auto& sum : chain) sum = _mm256_setzero_ps();
    }
    for (std::int64_t c = 0; c < whole; c += 8) {
      add_values<kTokens>(load_dense<kType>(w.values, r * w.cols + c), in.x + c, w.cols,
                          sums[c / 8 % 2]);
    }
    if (rest != 0) {
      float weights[8] = {};  // room for 8 of the wider type
      float x[kTokens][8] = {};
      const auto* const from = static_cast<const std::uint8_t*>(w.values) +
                               static_cast<std::size_t>(r * w.cols + whole) * kWeightBytes;
      std::memcpy(weights, from, static_cast<std::size_t>(rest) * kWeightBytes);
      for (int t = 0; t < kTokens; ++t) {
        std::memcpy(x[t], in.x + t * w.cols + whole, static_cast<std::size_t>(rest) * 4);
      }
      add_values<kTokens>(load_dense<kType>(weights, 0), x[0], 8, sums[0]);
    }
    for (int t = 0; t < kTokens; ++t) {
      out.y[t * out.stride + r] = reduce(_mm256_add_ps(sums[0][t], sums[1][t]));
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

}  // namespace qf::avx2
#endif
