#pragma once

#include <cstdint>

#include "qwen3fp4/kernels/nvfp4_scale.h"
#include "qwen3fp4/kernels/rounded.h"
#include "qwen3fp4/kernels/views.h"

// The NVFP4 quantiser one block at a time, for a thread of the device: the bits of the vectorised
// kernels/cpu/quantize.h. C++17.
namespace qf {

struct Nvfp4Block {
  std::uint32_t codes[2];  // 16 codes, the first in the low nibble of the first word
  std::uint8_t scale_e4m3;
};

QF_HD inline float nvfp4_block_amax(const float (&x)[kNvfp4Block]) {
  std::uint32_t largest = 0;
  for (const float value : x) {
    const std::uint32_t bits = float_bits(magnitude(value));
    largest = bits > largest ? bits : largest;
  }
  return float_from_bits(largest);
}

// Nearest E2M1 value of a magnitude: next to 1.5 * 2^22, 2^23 and 2^24 an fp32 counts in E2M1's
// three steps 0.5, 1 and 2, so that the addition does the rounding.
QF_HD inline float round_e2m1(float m) {
  const float y = m > kE2M1Max ? kE2M1Max : m;
  const float anchor = y < 2.0F ? 0x1.8p22F : (y < 4.0F ? 0x1.8p23F : 0x1.8p24F);
  return rounded_sum(rounded_sum(y, anchor), -anchor);
}

// Squared error of the block in units of the tensor scale, summed in the CPU kernels' order.
QF_HD inline float nvfp4_squared_error(const float (&x)[kNvfp4Block], const float* column_weights,
                                       float inverse_global, float scale) {
  const float reciprocal = inverse_global / scale;
  float sums[kNvfp4Block];
  for (int i = 0; i < kNvfp4Block; ++i) {
    const float m = magnitude(x[i]);
    const float nearest = rounded_product(round_e2m1(rounded_product(m, reciprocal)), scale);
    const float error = rounded_sum(rounded_product(m, inverse_global), -nearest);
    const float weight = column_weights != nullptr ? column_weights[i] : 1.0F;
    sums[i] = rounded_product(rounded_product(error, error), weight);
  }
  // l0 + l8, then + l4, + l2, + l1.
  for (int step = kNvfp4Block / 2; step > 0; step /= 2) {
    for (int i = 0; i < step; ++i) sums[i] = rounded_sum(sums[i], sums[i + step]);
  }
  return sums[0];
}

QF_HD inline std::uint8_t nvfp4_searched_scale(const float (&x)[kNvfp4Block],
                                               const float* column_weights, float wanted,
                                               float inverse_global) {
  std::uint8_t best = nvfp4_plain_scale(wanted);
  float least = nvfp4_squared_error(x, column_weights, inverse_global, e4m3_to_float(best));
  const unsigned last = nvfp4_last_candidate(wanted);
  for (unsigned code = nvfp4_first_candidate(wanted); code <= last; ++code) {
    const auto candidate = static_cast<std::uint8_t>(code);
    const float error =
        nvfp4_squared_error(x, column_weights, inverse_global, e4m3_to_float(candidate));
    if (error < least) {
      least = error;
      best = candidate;
    }
  }
  return best;
}

// Codes of x under a block scale.
QF_HD inline Nvfp4Block nvfp4_encode(const float (&x)[kNvfp4Block], float inverse_global,
                                     std::uint8_t scale_e4m3) {
  const float reciprocal = inverse_global / e4m3_to_float(scale_e4m3);
  Nvfp4Block block{{0, 0}, scale_e4m3};
  for (unsigned i = 0; i < kNvfp4Block; ++i) {
    block.codes[i / 8] |= e2m1_from_float(rounded_product(x[i], reciprocal)) << (i % 8 * 4);
  }
  return block;
}

QF_HD inline Nvfp4Block nvfp4_plain_block(const float (&x)[kNvfp4Block], float global_scale) {
  const float wanted = nvfp4_wanted_scale(nvfp4_block_amax(x), global_scale);
  return nvfp4_encode(x, 1.0F / global_scale, nvfp4_plain_scale(wanted));
}

// `column_weights` [16] of the squared error; nullptr: all 1.
QF_HD inline Nvfp4Block nvfp4_searched_block(const float (&x)[kNvfp4Block], float global_scale,
                                             const float* column_weights) {
  const float amax = nvfp4_block_amax(x);
  if (amax == 0.0F) return nvfp4_plain_block(x, global_scale);
  const float inverse_global = 1.0F / global_scale;
  const float wanted = nvfp4_wanted_scale(amax, global_scale);
  return nvfp4_encode(x, inverse_global,
                      nvfp4_searched_scale(x, column_weights, wanted, inverse_global));
}

}  // namespace qf
