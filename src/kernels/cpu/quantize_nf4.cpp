#include <algorithm>

#include "lanes.h"
#include "qwen3fp4/kernels/cpu/quantize.h"
#include "qwen3fp4/kernels/fp4.h"

namespace qf {
namespace {

// bitsandbytes' guard against dividing by zero; it is subnormal in fp32.
constexpr float kNf4SmallestAbsmax = 1e-38F;

template <int kWidth>
QF_INLINE void pack_nf4(const lanes::Sixteen<kWidth>& x, float reciprocal, std::uint8_t* out) {
  using Ints = typename lanes::Sixteen<kWidth>::Ints;
  Ints codes[16 / kWidth]{};
  for (int p = 0; p < 16 / kWidth; ++p) {
    // What the reciprocal's rounding lifts above 1 needs no clamp: the last code is open-ended.
    const auto scaled = x.part[p] * reciprocal;
    codes[p] = Ints{};
#pragma GCC unroll 15
    for (unsigned i = 0; i < 15; ++i) codes[p] -= scaled > nf4_border(i);  // a true lane is -1
  }
  lanes::pack_nibbles<kWidth, true>(codes, out);
}

template <int kWidth>
QF_INLINE void quantize_full_blocks(const float* values, std::int64_t blocks, std::uint8_t* codes,
                                    float* absmax) {
  constexpr int kSixteens = kNf4Block / 16;
  for (std::int64_t b = 0; b < blocks; ++b) {
    lanes::Sixteen<kWidth> x[kSixteens];
    std::uint32_t largest = 0;
    for (int i = 0; i < kSixteens; ++i) {
      lanes::load(values + b * kNf4Block + i * 16, x[i]);
      largest = std::max(largest, lanes::largest_magnitude_bits(x[i]));
    }
    absmax[b] = float_from_bits(largest);
    const float reciprocal = 1.0F / std::max(absmax[b], kNf4SmallestAbsmax);
    for (int i = 0; i < kSixteens; ++i) {
      pack_nf4(x[i], reciprocal, codes + b * (kNf4Block / 2) + i * 8);
    }
  }
}

// bitsandbytes treats the last, shorter block differently: it divides, and stores the guarded
// absmax (1e-38, not 0, for zeros).
void quantize_last_block(const float* values, std::int64_t count, std::uint8_t* codes,
                         float* absmax) {
  float amax = kNf4SmallestAbsmax;
  for (std::int64_t i = 0; i < count; ++i) amax = std::max(amax, magnitude(values[i]));
  for (std::int64_t i = 0; i < count; i += 2) {
    const unsigned high = nf4_from_float(values[i] / amax);
    const unsigned low = nf4_from_float(values[i + 1] / amax);
    codes[i / 2] = static_cast<std::uint8_t>((high << 4U) | low);
  }
  *absmax = amax;
}

#if QF_X86
QF_TARGET_AVX2 void quantize_full_blocks_avx2(const float* values, std::int64_t blocks,
                                              std::uint8_t* codes, float* absmax) {
  quantize_full_blocks<lanes::kAvx2Width>(values, blocks, codes, absmax);
}
QF_TARGET_AVX512 void quantize_full_blocks_avx512(const float* values, std::int64_t blocks,
                                                  std::uint8_t* codes, float* absmax) {
  quantize_full_blocks<lanes::kAvx512Width>(values, blocks, codes, absmax);
}
#endif

void quantize_full_blocks_with(CpuIsa isa, const float* values, std::int64_t blocks,
                               std::uint8_t* codes, float* absmax) {
#if QF_X86
  if (isa == CpuIsa::kAvx512) return quantize_full_blocks_avx512(values, blocks, codes, absmax);
  if (isa == CpuIsa::kAvx2) return quantize_full_blocks_avx2(values, blocks, codes, absmax);
#endif
  static_cast<void>(isa);
  quantize_full_blocks<lanes::kPortableWidth>(values, blocks, codes, absmax);
}

}  // namespace

void quantize_nf4(const float* values, std::int64_t count, std::uint8_t* codes, float* absmax,
                  CpuIsa isa) {
  const std::int64_t blocks = count / kNf4Block;
  const std::int64_t done = blocks * kNf4Block;
  quantize_full_blocks_with(isa, values, blocks, codes, absmax);
  if (done < count) {
    quantize_last_block(values + done, count - done, codes + done / 2, absmax + blocks);
  }
}

}  // namespace qf
