#pragma once

#include "decode_stage.cuh"
#include "hopper.cuh"

// How the decode kernel multiplies a chunk of the stream layout by staged activations, for each
// format of weights.
namespace qf::cuda::decode {

// A lane's sums of rows g and g + 8 over its blocks and terms.
struct RowSums {
  float low = 0, high = 0;
};

// Columns 2t, 2t + 1 and 8 + 2t of a unit's products: the three terms of this lane's block.
__device__ __forceinline__ void add_terms(const float (&c)[8], float scale_low, float scale_high,
                                          float& sum_low, float& sum_high) {
  const float row_low = fmaf(c[4], 0x1p-10F, fmaf(c[1], 0x1p-5F, c[0]));
  const float row_high = fmaf(c[6], 0x1p-10F, fmaf(c[3], 0x1p-5F, c[2]));
  sum_low = fmaf(row_low, scale_low, sum_low);
  sum_high = fmaf(row_high, scale_high, sum_high);
}

// A lane's codes of a chunk, a unit of 64 columns each.
struct ChunkWords {
  uint4 of_unit[4];
  __device__ __forceinline__ ChunkWords(const std::uint8_t* bytes, int lane) {
#pragma unroll
    for (int u = 0; u < 4; ++u) {
      of_unit[u] = *reinterpret_cast<const uint4*>(bytes + u * 512 + lane * 16);
    }
  }
};

// How a warp multiplies its 16 rows of one chunk. `bytes`: its part of the chunk; `x`: descriptor
// of the staged chunk; the slot is given back as soon as its bytes are in registers.
struct Nvfp4Weights {
  using Staging = TermStaging;
  __device__ __forceinline__ explicit Nvfp4Weights(const Args& /*a*/) {}
  __device__ __forceinline__ void multiply(const std::uint8_t* bytes, std::uint32_t empty,
                                           std::uint64_t x, float x_scale, int lane,
                                           RowSums& sums) const {
    const ChunkWords words(bytes, lane);
    const uint2 scales = *reinterpret_cast<const uint2*>(bytes + 2048 + lane * 8);
    __syncwarp();
    if (lane == 0) mbarrier_arrive(empty);
    float c[4][8];
    std::uint32_t low[16], high[16];
#pragma unroll
    for (int u = 0; u < 4; ++u) {
      const uint4& word = words.of_unit[u];
      unpack_stream_word(word.x, low[4 * u], high[4 * u]);
      unpack_stream_word(word.y, low[4 * u + 1], high[4 * u + 1]);
      unpack_stream_word(word.z, low[4 * u + 2], high[4 * u + 2]);
      unpack_stream_word(word.w, low[4 * u + 3], high[4 * u + 3]);
#pragma unroll
      for (int j = 4 * u; j < 4 * u + 4; ++j) {
        wgmma_operand(low[j]);
        wgmma_operand(high[j]);
      }
      wgmma_fence();
      wgmma_m64n16k32(c[u], low[4 * u], high[4 * u], low[4 * u + 1], high[4 * u + 1], x + 32 * u);
      wgmma_m64n16k32_add(c[u], low[4 * u + 2], high[4 * u + 2], low[4 * u + 3], high[4 * u + 3],
                          x + 32 * u + 16);
      wgmma_commit();
    }
    float sum_low = 0, sum_high = 0;
    const auto add_unit = [&](int u, std::uint32_t scale_pair) {
      const float2 scale = e4m3_pair(scale_pair);
      add_terms(c[u], scale.x, scale.y, sum_low, sum_high);
    };
    wgmma_wait<3>();
    add_unit(0, scales.x & 0xFFFFU);
    wgmma_wait<2>();
    add_unit(1, scales.x >> 16);
    wgmma_wait<1>();
    add_unit(2, scales.y & 0xFFFFU);
    wgmma_wait<0>();
    add_unit(3, scales.y >> 16);
    sums.low = fmaf(sum_low, x_scale, sums.low);
    sums.high = fmaf(sum_high, x_scale, sums.high);
  }
};

// A level is the sum of a coarse and a fine byte, each times digits of the activations, and a
// unit's products add both. Byte permutations look four of them up at a time (kernels/nf4_table.h).
// Columns 2t, 2t + 1 of a product are digits of one block of 64 columns, for two blocks side by
// side: of lane 4g + t digits 2 and 1, or digit 0 and nothing.
struct Nf4Weights {
  using Staging = DigitStaging;
  std::uint32_t lower[2], upper[2], fine[2];
  std::uint32_t fine_area;  // as descriptors count
  std::uint32_t minus_one;

  __device__ __forceinline__ explicit Nf4Weights(const Args& a)
      : lower{a.nf4.lower[0], a.nf4.lower[1]},
        upper{a.nf4.upper[0], a.nf4.upper[1]},
        fine{a.nf4.fine[0], a.nf4.fine[1]},
        fine_area(static_cast<std::uint32_t>(a.x_chunks) * (kXChunkBytes / 16)),
        minus_one(a.minus_one) {}

  // Of four codes.
  __device__ __forceinline__ std::uint32_t coarse_bytes(std::uint32_t codes) const {
    // ~codes, as a multiplication: the pipe of the other integer operations is the busy one.
    const std::uint32_t inverted = codes * minus_one + minus_one;
    return permuted(lower[0], lower[1], codes) ^ permuted(upper[0], upper[1], inverted);
  }
  __device__ __forceinline__ std::uint32_t fine_bytes(std::uint32_t codes) const {
    return permuted(fine[0], fine[1], codes);
  }
  __device__ __forceinline__ static void start_sums(std::int32_t (&c)[2][4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      c[0][i] = kIntegerBits;
      c[1][i] = kIntegerBits;
      opaque(c[0][i]);
      opaque(c[1][i]);
    }
  }
  __device__ __forceinline__ static float sum_of(std::int32_t high, std::int32_t low) {
    return sum_of_digits(__int_as_float(high), __int_as_float(low));
  }
  __device__ __forceinline__ void multiply(const std::uint8_t* bytes, std::uint32_t empty,
                                           std::uint64_t x, float x_scale, int lane,
                                           RowSums& sums) const {
    const ChunkWords words(bytes, lane);
    // Of this lane's blocks in both pairs.
    const auto* const absmax = reinterpret_cast<const float2*>(bytes + 2048) + lane / 2;
    const float2 scale_low = absmax[0];
    const float2 scale_high = absmax[16];
    __syncwarp();
    if (lane == 0) mbarrier_arrive(empty);
    // Both pairs' begin here: written after the first wgmma, they would have it run alone.
    std::int32_t c[2][4];
    start_sums(c);
    // Of word i of unit u: codes 0..3 and 4..7.
    std::uint32_t coarse[4][4][2], finer[4][4][2];
#pragma unroll
    for (int u = 0; u < 4; ++u) {
      const uint4& word = words.of_unit[u];
      const std::uint32_t of_unit[4] = {word.x, word.y, word.z, word.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const std::uint32_t codes = of_unit[i] >> (16 * half);
          coarse[u][i][half] = coarse_bytes(codes);
          finer[u][i][half] = fine_bytes(codes);
          wgmma_operand(coarse[u][i][half]);
          wgmma_operand(finer[u][i][half]);
        }
      }
      std::int32_t(&sum)[4] = c[u / 2];
      wgmma_fence();
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        const auto& of_coarse = coarse[u];
        const auto& of_fine = finer[u];
        const int low = 2 * s;
        const int high = 2 * s + 1;
        const std::uint64_t step = x + 32 * u + 16 * s;
        wgmma_m64n8k32_add(sum, of_coarse[low][0], of_coarse[high][0], of_coarse[low][1],
                           of_coarse[high][1], step);
        wgmma_m64n8k32_add(sum, of_fine[low][0], of_fine[high][0], of_fine[low][1],
                           of_fine[high][1], step + fine_area);
      }
      wgmma_commit();
    }
    wgmma_wait<2>();
    float sum_low = sum_of(c[0][0], c[0][1]) * scale_low.x;
    float sum_high = sum_of(c[0][2], c[0][3]) * scale_high.x;
    wgmma_wait<0>();
    sum_low = fmaf(sum_of(c[1][0], c[1][1]), scale_low.y, sum_low);
    sum_high = fmaf(sum_of(c[1][2], c[1][3]), scale_high.y, sum_high);
    const float digits = (lane & 1) == 0 ? x_scale * 0x1p16F : x_scale;
    sums.low = fmaf(sum_low, digits, sums.low);
    sums.high = fmaf(sum_high, digits, sums.high);
  }
};

}  // namespace qf::cuda::decode
