#include <algorithm>

#include "lanes.h"
#include "qwen3fp4/kernels/cpu/quantize.h"
#include "qwen3fp4/kernels/fp4.h"

namespace qf {
namespace {

using lanes::Floats;
using lanes::Ints;

// bitsandbytes' guard against dividing by zero; it is subnormal in fp32.
constexpr float kNf4SmallestAbsmax = 1e-38F;

QF_INLINE void pack_nf4(const Floats& scaled, std::uint8_t* out) {
  Ints codes{};
  for (unsigned i = 0; i < 15; ++i) codes -= scaled > nf4_border(i);  // a true lane is -1
  const auto bytes = __builtin_convertvector(codes, lanes::Bytes);
  for (int i = 0; i < 8; ++i) {
    out[i] = static_cast<std::uint8_t>((bytes[2 * i] << 4) | bytes[2 * i + 1]);
  }
}

QF_INLINE void quantize_full_block(const float* values, std::uint8_t* codes, float* absmax) {
  Ints largest{};
  for (int i = 0; i < kNf4Block; i += 16) {
    const Ints m = lanes::bits(lanes::load(values + i)) & 0x7FFFFFFF;
    largest = m > largest ? m : largest;
  }
  const float amax = float_from_bits(static_cast<std::uint32_t>(lanes::max(largest)));
  const float reciprocal = 1.0F / std::max(amax, kNf4SmallestAbsmax);
  // Values that the reciprocal's rounding lifts above 1 need no clamp: the last code is open-ended.
  for (int i = 0; i < kNf4Block; i += 16) {
    pack_nf4(lanes::load(values + i) * reciprocal, codes + i / 2);
  }
  *absmax = amax;
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

QF_INLINE void quantize_full_blocks(const float* values, std::int64_t blocks, std::uint8_t* codes,
                                    float* absmax) {
  for (std::int64_t b = 0; b < blocks; ++b) {
    quantize_full_block(values + b * kNf4Block, codes + b * (kNf4Block / 2), absmax + b);
  }
}

#if QF_X86
QF_TARGET_AVX2 void quantize_full_blocks_avx2(const float* values, std::int64_t blocks,
                                              std::uint8_t* codes, float* absmax) {
  quantize_full_blocks(values, blocks, codes, absmax);
}
QF_TARGET_AVX512 void quantize_full_blocks_avx512(const float* values, std::int64_t blocks,
                                                  std::uint8_t* codes, float* absmax) {
  quantize_full_blocks(values, blocks, codes, absmax);
}
#endif

void quantize_full_blocks_with(CpuIsa isa, const float* values, std::int64_t blocks,
                               std::uint8_t* codes, float* absmax) {
#if QF_X86
  if (isa == CpuIsa::kAvx512) return quantize_full_blocks_avx512(values, blocks, codes, absmax);
  if (isa == CpuIsa::kAvx2) return quantize_full_blocks_avx2(values, blocks, codes, absmax);
#endif
  static_cast<void>(isa);
  quantize_full_blocks(values, blocks, codes, absmax);
}

}  // namespace

void quantize_nf4(const float* values, std::int64_t count, std::uint8_t* codes, float* absmax,
                  CpuIsa isa) {
  const std::int64_t blocks = count / kNf4Block;
  const std::int64_t done = blocks * kNf4Block;
  quantize_full_blocks_with(isa, values, blocks, codes, absmax);
  if (done < count)
    quantize_last_block(values + done, count - done, codes + done / 2, absmax + blocks);
}

}  // namespace qf
