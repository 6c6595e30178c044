#pragma once

#include "e2m1_word.cuh"
#include "qwen3fp4/kernels/adam_step.h"

// Functions of kernels/adam_step.h by tables in shared memory: the same values in fewer
// instructions, of which the optimiser's step has as many as it has bytes to move.
namespace qf::cuda {

struct CellSteps {
  float low;    // with the code's sign
  float width;  // with the code's sign
};
struct CellLookup {
  float low;
  float per_step;  // 1 / (width / levels)
};
struct PowerLookup {
  float next;         // ratio^(code + 1)
  std::int32_t code;  // the last one whose power is at most the bucket's start
};

// Edges of cells are whole quarters.
inline constexpr int kQuarters = 28;
// Buckets of an eighth of an octave, each with one power of 1.5 at most: up to 2^9.
inline constexpr int kRatioBuckets = 72;

struct AdamTables {
  CellSteps cell[16];             // by code
  CellLookup quarter[kQuarters];  // of the cell that |y| in [i / 4, i / 4 + 1 / 4) is in
  std::int32_t quarter_code[kQuarters];
  float power[16], inverse[16];  // of 1.5, by code
  PowerLookup ratio[kRatioBuckets];
};

// By the whole block, of at least kRatioBuckets threads, for cells of so many levels.
__device__ inline void fill(AdamTables& t, float levels) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < 16) {
    t.cell[i] = {with_sign_of_code(cell_low(i & 7), i), with_sign_of_code(cell_width(i & 7), i)};
    t.power[i] = geometric_power<4>(i);
    t.inverse[i] = geometric_inverse<4>(i);
  }
  if (i < kQuarters) {
    const std::int32_t code = cell_code(static_cast<float>(i) * 0.25F);
    t.quarter_code[i] = code;
    t.quarter[i] = {cell_low(code), cell_per_width(code) * levels};
  }
  if (i < kRatioBuckets) {
    const float start = float_from_bits((static_cast<unsigned>(i) << 20U) + float_bits(1.0F));
    std::int32_t code = 0;
    while (code < 15 && geometric_power<4>(code + 1) <= start) ++code;
    // There is no code 16: draw_above() keeps to 15.
    t.ratio[i] = {code < 15 ? geometric_power<4>(code + 1) : 0x1p126F, code};
  }
  __syncthreads();
}

// 0 .. 2^23 - 1, exact and without the slow conversion.
__device__ inline float small_integer(std::int32_t value) {
  return float_from_bits(static_cast<unsigned>(value) | float_bits(0x1p23F)) - 0x1p23F;
}

template <std::int32_t kLevels>
__device__ float position_of(const AdamTables& t, std::int32_t code, std::int32_t residual) {
  const CellSteps cell = t.cell[code];
  // Every operation is exact.
  return __fmaf_rn(small_integer(residual) * (1.0F / kLevels), cell.width, cell.low);
}

template <std::int32_t kLevels>
__device__ Position rounded_position(const AdamTables& t, float y, std::uint32_t draw) {
  const float m = fminf(magnitude(y), kLastPosition<kLevels>);
  const unsigned quarter = float_bits(__fmaf_rd(m, 4.0F, 0x1p23F)) & 31U;
  const CellLookup cell = t.quarter[quarter];
  const float steps = rounded_product(rounded_sum(m, -cell.low), cell.per_step);
  const std::int32_t residual = draw_integer<kPositionDrawBits<kLevels>>(steps, draw);
  return {(t.quarter_code[quarter] + residual / kLevels) | sign_code(y), residual % kLevels};
}

template <int kBits>
__device__ float power_of(const AdamTables& t, std::int32_t code) {
  if constexpr (kBits == 4) return t.power[code];
  return geometric_power<kBits>(code);
}

template <int kBits>
__device__ float inverse_of(const AdamTables& t, std::int32_t code) {
  if constexpr (kBits == 4) return t.inverse[code];
  return geometric_inverse<kBits>(code);
}

template <int kBits>
__device__ std::int32_t geometric_code(const AdamTables& t, float ratios, std::uint32_t draw) {
  if constexpr (kBits == 4) {
    const float x = fminf(fmaxf(ratios, 1.0F), kGeometricRange<4>);
    const PowerLookup bucket = t.ratio[(float_bits(x) - float_bits(1.0F)) >> 20U];
    const std::int32_t code = bucket.code + static_cast<std::int32_t>(x >= bucket.next);
    return draw_above<4>(code, t.inverse[code], x, draw);
  }
  return draw_geometric<kBits>(ratios, draw);
}

}  // namespace qf::cuda
