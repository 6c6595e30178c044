#include <algorithm>

#include "lanes.h"
#include "qwen3fp4/kernels/cpu/quantize.h"
#include "qwen3fp4/kernels/nvfp4_scale.h"

namespace qf {
namespace {

using lanes::Floats;
using lanes::Ints;

QF_INLINE std::int32_t largest_magnitude_bits(const float* values, std::int64_t count) {
  Ints largest{};
  std::int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const Ints m = lanes::bits(lanes::load(values + i)) & 0x7FFFFFFF;
    largest = m > largest ? m : largest;
  }
  std::int32_t result = lanes::max(largest);
  for (; i < count; ++i) {
    result = std::max(result, static_cast<std::int32_t>(float_bits(magnitude(values[i]))));
  }
  return result;
}

// Nearest E2M1 value of magnitudes (ties to even, saturating): next to 1.5 * 2^22, 2^23 and 2^24 an
// fp32 counts in E2M1's three steps 0.5, 1 and 2, so that the addition does the rounding.
QF_INLINE Floats round_e2m1(const Floats& m) {
  const Floats y = m > kE2M1Max ? lanes::broadcast(kE2M1Max) : m;
  const Floats coarse = y < 4.0F ? lanes::broadcast(0x1.8p23F) : lanes::broadcast(0x1.8p24F);
  const Floats anchor = y < 2.0F ? lanes::broadcast(0x1.8p22F) : coarse;
  return (y + anchor) - anchor;
}

// 16 E2M1 codes of x * reciprocal, two a byte.
QF_INLINE void pack_e2m1(const Floats& x, float reciprocal, std::uint8_t* out) {
  const Floats y = x * reciprocal;
  const Floats m = lanes::magnitude(y);
  const Ints count = (m > 0.25F) + (m >= 0.75F) + (m > 1.25F) + (m >= 1.75F) + (m > 2.5F) +
                     (m >= 3.5F) + (m > 5.0F);  // a true lane is -1
  const Ints codes = -count | ((lanes::bits(y) >> 28) & 8);
  const auto bytes = __builtin_convertvector(codes, lanes::Bytes);
  for (int i = 0; i < 8; ++i) {
    out[i] = static_cast<std::uint8_t>(bytes[2 * i] | (bytes[2 * i + 1] << 4));
  }
}

struct Block {
  Floats x;        // the weights
  Floats t;        // their magnitudes in units of the tensor scale
  Floats weights;  // of the squared error
};

// Squared error of the block in units of the tensor scale. The product is exact (4 by 2 significant
// bits), so candidates are compared on the true differences.
QF_INLINE float squared_error(const Block& block, float inverse_global, float scale) {
  const Floats m = lanes::magnitude(block.x) * (inverse_global / scale);
  const Floats error = block.t - round_e2m1(m) * scale;
  return lanes::sum(error * error * block.weights);
}

// Every E4M3 scale between 0.6 and 1.5 times amax / 6, and the plain one; of equals the plain one,
// then the smallest.
QF_INLINE std::uint8_t search_scale(const Block& block, float wanted, float inverse_global) {
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

QF_INLINE void quantize_rows(const DenseView& weight, const Nvfp4Rule& rule,
                             const Nvfp4Output& out) {
  const std::int64_t blocks_per_row = weight.cols / kNvfp4Block;
  const float inverse_global = 1.0F / rule.global_scale;
  for (std::int64_t i = 0; i < weight.rows * blocks_per_row; ++i) {
    const float* values = weight.values + i * kNvfp4Block;
    Block block{};
    block.x = lanes::load(values);
    const float amax =
        float_from_bits(static_cast<std::uint32_t>(lanes::max(lanes::bits(block.x) & 0x7FFFFFFF)));
    const float wanted = nvfp4_wanted_scale(amax, rule.global_scale);
    std::uint8_t scale = nvfp4_plain_scale(wanted);
    if (rule.search && amax > 0.0F) {
      block.t = lanes::magnitude(block.x) * inverse_global;
      block.weights = rule.column_weights != nullptr
                          ? lanes::load(rule.column_weights + i % blocks_per_row * kNvfp4Block)
                          : lanes::broadcast(1.0F);
      scale = search_scale(block, wanted, inverse_global);
    }
    out.scales_e4m3[i] = scale;
    pack_e2m1(block.x, inverse_global / e4m3_to_float(scale), out.codes + i * (kNvfp4Block / 2));
  }
}

void quantize_rows_portable(const DenseView& weight, const Nvfp4Rule& rule,
                            const Nvfp4Output& out) {
  quantize_rows(weight, rule, out);
}
#if QF_X86
QF_TARGET_AVX2 void quantize_rows_avx2(const DenseView& weight, const Nvfp4Rule& rule,
                                       const Nvfp4Output& out) {
  quantize_rows(weight, rule, out);
}
QF_TARGET_AVX512 void quantize_rows_avx512(const DenseView& weight, const Nvfp4Rule& rule,
                                           const Nvfp4Output& out) {
  quantize_rows(weight, rule, out);
}
QF_TARGET_AVX2 std::int32_t largest_magnitude_bits_avx2(const float* values, std::int64_t count) {
  return largest_magnitude_bits(values, count);
}
#endif

}  // namespace

float absolute_max(const float* values, std::int64_t count, CpuIsa isa) {
#if QF_X86
  if (isa != CpuIsa::kPortable) {
    return float_from_bits(static_cast<std::uint32_t>(largest_magnitude_bits_avx2(values, count)));
  }
#endif
  static_cast<void>(isa);
  return float_from_bits(static_cast<std::uint32_t>(largest_magnitude_bits(values, count)));
}

float nvfp4_global_scale(float tensor_amax) {
  if (tensor_amax == 0.0F) return 1.0F;
  return std::max(tensor_amax / (kE4M3Max * kE2M1Max), 0x1p-118F);
}

void quantize_nvfp4(const DenseView& weight, const Nvfp4Rule& rule, const Nvfp4Output& out,
                    CpuIsa isa) {
  switch (isa) {
#if QF_X86
    case CpuIsa::kAvx512:
      return quantize_rows_avx512(weight, rule, out);
    case CpuIsa::kAvx2:
      return quantize_rows_avx2(weight, rule, out);
#else
    case CpuIsa::kAvx512:
    case CpuIsa::kAvx2:
#endif
    case CpuIsa::kPortable:
      return quantize_rows_portable(weight, rule, out);
  }
}

}  // namespace qf
