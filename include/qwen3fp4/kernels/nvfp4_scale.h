#pragma once

#include "qwen3fp4/kernels/fp4.h"

// The scale arithmetic of the NVFP4 quantiser, shared by the CPU and the CUDA kernels: every
// operation rounds once, in this order, so the bits are the same everywhere (doc/quantisation.md).
// A single-level file is the case of a tensor scale of 1.
namespace qf {

// What the block scale should be before it is rounded to E4M3.
QF_HD constexpr float nvfp4_wanted_scale(float block_amax, float global_scale) {
  return block_amax / kE2M1Max / global_scale;
}
QF_HD constexpr float nvfp4_clamp(float value, float lowest) {
  return value < lowest ? lowest : (value > kE4M3Max ? kE4M3Max : value);
}
// Plain rounding never goes below the smallest normal E4M3, 2^-6, as torchao does not.
QF_HD constexpr std::uint8_t nvfp4_plain_scale(float wanted) {
  return e4m3_from_float(nvfp4_clamp(wanted, kE4M3MinNormal));
}
// The search also tries the subnormal scales: single-level files of small weights live there.
QF_HD constexpr std::uint8_t nvfp4_first_candidate(float wanted) {
  return e4m3_from_float(nvfp4_clamp(wanted * 0.6F, kE4M3MinSubnormal));
}
QF_HD constexpr std::uint8_t nvfp4_last_candidate(float wanted) {
  return e4m3_from_float(nvfp4_clamp(wanted * 1.5F, kE4M3MinSubnormal));
}
// The tensor scale of one token's activations: its largest magnitude / 2688, but a scale of 0 would
// divide, so never below the smallest normal number; NaN for a token that is not finite.
QF_HD constexpr float nvfp4_token_scale(float token_amax) {
  if (!is_finite(token_amax)) return float_from_bits(0x7FC00000U);
  const float scale = token_amax / (kE4M3Max * kE2M1Max);
  return scale < 0x1p-126F ? 0x1p-126F : scale;
}
static_assert(nvfp4_plain_scale(0.0F) == 0x08, "an all-zero block has the scale 2^-6");
static_assert(nvfp4_plain_scale(448.0F) == 0x7E && nvfp4_last_candidate(448.0F) == 0x7E,
              "no candidate is NaN");
static_assert(nvfp4_last_candidate(1.0F) - nvfp4_first_candidate(1.0F) + 1 == 11,
              "the range holds 11 E4M3 numbers");

}  // namespace qf
