#include <algorithm>

#include "lanes.h"
#include "qwen3fp4/kernels/cpu/quantize.h"
#include "qwen3fp4/kernels/nvfp4_scale.h"

namespace qf {
namespace {

template <int kWidth>
QF_INLINE float largest_magnitude(const float* values, std::int64_t count) {
  using Ints = typename lanes::Sixteen<kWidth>::Ints;
  Ints most{};
  std::int64_t i = 0;
  for (; i + kWidth <= count; i += kWidth) {
    Ints m;
    std::memcpy(&m, values + i, sizeof(m));
    m &= 0x7FFFFFFF;
    most = m > most ? m : most;
  }
  std::int32_t largest = 0;
  for (int lane = 0; lane < kWidth; ++lane) largest = std::max(largest, most[lane]);
  for (; i < count; ++i) {
    largest = std::max(largest, static_cast<std::int32_t>(float_bits(magnitude(values[i]))));
  }
  return float_from_bits(static_cast<std::uint32_t>(largest));
}

template <class Floats, class Ints>
QF_INLINE Floats magnitudes(const Floats& v) {
  return reinterpret_cast<Floats>(reinterpret_cast<Ints>(v) & 0x7FFFFFFF);
}

// Nearest E2M1 value of magnitudes (ties to even, saturating): next to 1.5 * 2^22, 2^23 and 2^24 an
// fp32 counts in E2M1's three steps 0.5, 1 and 2, so that the addition does the rounding.
template <class Floats>
QF_INLINE Floats round_e2m1(const Floats& m) {
  const Floats largest = lanes::broadcast<Floats>(kE2M1Max);
  const Floats y = m > largest ? largest : m;
  const Floats coarse =
      y < 4.0F ? lanes::broadcast<Floats>(0x1.8p23F) : lanes::broadcast<Floats>(0x1.8p24F);
  const Floats anchor = y < 2.0F ? lanes::broadcast<Floats>(0x1.8p22F) : coarse;
  return (y + anchor) - anchor;
}

// 16 E2M1 codes of x * reciprocal, two a byte.
template <int kWidth>
QF_INLINE void pack_e2m1(const lanes::Sixteen<kWidth>& x, float reciprocal, std::uint8_t* out) {
  using Floats = typename lanes::Sixteen<kWidth>::Floats;
  using Ints = typename lanes::Sixteen<kWidth>::Ints;
  Ints codes[16 / kWidth]{};
  for (int p = 0; p < 16 / kWidth; ++p) {
    const Floats y = x.part[p] * reciprocal;
    const Floats m = magnitudes<Floats, Ints>(y);
    const Ints count = (m > 0.25F) + (m >= 0.75F) + (m > 1.25F) + (m >= 1.75F) + (m > 2.5F) +
                       (m >= 3.5F) + (m > 5.0F);  // a true lane is -1
    codes[p] = -count | ((reinterpret_cast<Ints>(y) >> 28) & 8);
  }
  lanes::pack_nibbles<kWidth, false>(codes, out);
}

template <int kWidth>
struct Block {
  lanes::Sixteen<kWidth> x;        // magnitudes of the weights
  lanes::Sixteen<kWidth> t;        // the same in units of the tensor scale
  lanes::Sixteen<kWidth> weights;  // of the squared error
};

// Squared error of the block in units of the tensor scale. The product is exact (2 by 4 significant
// bits), so candidates are compared on the true differences.
template <int kWidth>
QF_INLINE float squared_error(const Block<kWidth>& block, float inverse_global, float scale) {
  const float reciprocal = inverse_global / scale;
  lanes::Sixteen<kWidth> squares;
  for (int p = 0; p < 16 / kWidth; ++p) {
    const auto error = block.t.part[p] - round_e2m1(block.x.part[p] * reciprocal) * scale;
    squares.part[p] = error * error * block.weights.part[p];
  }
  return lanes::sum(squares);
}

// Every E4M3 scale between 0.6 and 1.5 times amax / 6, and the plain one; of equals the plain one,
// then the smallest.
template <int kWidth>
QF_INLINE std::uint8_t search_scale(const Block<kWidth>& block, float wanted,
                                    float inverse_global) {
  std::uint8_t best = nvfp4_plain_scale(wanted);
  float least = squared_error(block, inverse_global, e4m3_to_float(best));
  const unsigned last = nvfp4_last_candidate(wanted);
  for (unsigned code = nvfp4_first_candidate(wanted); code <= last; ++code) {
    const auto candidate = static_cast<std::uint8_t>(code);
    const float error = squared_error(block, inverse_global, e4m3_to_float(candidate));
    if (error < least) {
      least = error;
      best = candidate;
    }
  }
  return best;
}

template <int kWidth>
QF_INLINE void quantize_rows(const DenseView& weight, const Nvfp4Rule& rule,
                             const Nvfp4Output& out) {
  using Floats = typename lanes::Sixteen<kWidth>::Floats;
  using Ints = typename lanes::Sixteen<kWidth>::Ints;
  const std::int64_t blocks_per_row = weight.cols / kNvfp4Block;
  const float inverse_global = 1.0F / rule.global_scale;
  for (std::int64_t i = 0; i < weight.rows * blocks_per_row; ++i) {
    lanes::Sixteen<kWidth> x;
    lanes::load(weight.values + i * kNvfp4Block, x);
    const float amax = float_from_bits(lanes::largest_magnitude_bits(x));
    const float wanted = nvfp4_wanted_scale(amax, rule.global_scale);
    std::uint8_t scale = nvfp4_plain_scale(wanted);
    if (rule.search && amax > 0.0F) {
      Block<kWidth> block;
      for (int p = 0; p < 16 / kWidth; ++p) {
        block.x.part[p] = magnitudes<Floats, Ints>(x.part[p]);
        block.t.part[p] = block.x.part[p] * inverse_global;
        block.weights.part[p] = lanes::broadcast<Floats>(1.0F);
      }
      if (rule.column_weights != nullptr) {
        lanes::load(rule.column_weights + i % blocks_per_row * kNvfp4Block, block.weights);
      }
      scale = search_scale(block, wanted, inverse_global);
    }
    out.scales_e4m3[i] = scale;
    pack_e2m1(x, inverse_global / e4m3_to_float(scale), out.codes + i * (kNvfp4Block / 2));
  }
}

#if QF_X86
QF_TARGET_AVX2 void quantize_rows_avx2(const DenseView& weight, const Nvfp4Rule& rule,
                                       const Nvfp4Output& out) {
  quantize_rows<lanes::kAvx2Width>(weight, rule, out);
}
QF_TARGET_AVX512 void quantize_rows_avx512(const DenseView& weight, const Nvfp4Rule& rule,
                                           const Nvfp4Output& out) {
  quantize_rows<lanes::kAvx512Width>(weight, rule, out);
}
QF_TARGET_AVX2 float largest_magnitude_avx2(const float* values, std::int64_t count) {
  return largest_magnitude<lanes::kAvx2Width>(values, count);
}
QF_TARGET_AVX512 float largest_magnitude_avx512(const float* values, std::int64_t count) {
  return largest_magnitude<lanes::kAvx512Width>(values, count);
}
#endif

}  // namespace

float absolute_max(const float* values, std::int64_t count, CpuIsa isa) {
#if QF_X86
  if (isa == CpuIsa::kAvx512) return largest_magnitude_avx512(values, count);
  if (isa == CpuIsa::kAvx2) return largest_magnitude_avx2(values, count);
#endif
  static_cast<void>(isa);
  return largest_magnitude<lanes::kPortableWidth>(values, count);
}

float nvfp4_global_scale(float tensor_amax) {
  if (tensor_amax == 0.0F) return 1.0F;
  return std::max(tensor_amax / (kE4M3Max * kE2M1Max), 0x1p-118F);
}

void quantize_nvfp4(const DenseView& weight, const Nvfp4Rule& rule, const Nvfp4Output& out,
                    CpuIsa isa) {
#if QF_X86
  if (isa == CpuIsa::kAvx512) return quantize_rows_avx512(weight, rule, out);
  if (isa == CpuIsa::kAvx2) return quantize_rows_avx2(weight, rule, out);
#endif
  static_cast<void>(isa);
  quantize_rows<lanes::kPortableWidth>(weight, rule, out);
}

}  // namespace qf
