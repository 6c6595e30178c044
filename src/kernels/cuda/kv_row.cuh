#pragma once

#include "e4m3_pair.cuh"
#include "qwen3fp4/kernels/kv_row.h"

// kernels/kv_row.h by a warp.
namespace qf::cuda {

// Of all lanes' values, as kv_scale() takes it; all 32 lanes take part.
template <int kCount>
__device__ __forceinline__ std::uint32_t largest_magnitude(const float (&v)[kCount]) {
  std::uint32_t bits = 0;  // compared as integers, NaN and infinity are the largest
#pragma unroll
  for (int i = 0; i < kCount; ++i) bits = max(bits, __float_as_uint(v[i]) & 0x7FFFFFFFU);
  return __reduce_max_sync(~0U, bits);
}

// kv_code() of two values, the first in the low byte.
__device__ __forceinline__ std::uint32_t kv_code_pair(float first, float second, float scale) {
#if __CUDA_ARCH__ >= 890
  if (!(scale > 0.0F)) return scale == 0.0F ? 0U : 0x7F7FU;
  std::uint16_t pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0,%1,%2;"
      : "=h"(pair)
      : "f"(__fdiv_rn(second, scale)), "f"(__fdiv_rn(first, scale)));
  return pair;
#else
  return static_cast<std::uint32_t>(kv_code(first, scale)) |
         static_cast<std::uint32_t>(kv_code(second, scale)) << 8;
#endif
}

// Four codes of a word as numbers, before their scale.
__device__ __forceinline__ void kv_numbers(std::uint32_t word, float (&v)[4]) {
  const float2 low = e4m3_pair(word & 0xFFFFU);
  const float2 high = e4m3_pair(word >> 16);
  v[0] = low.x;
  v[1] = low.y;
  v[2] = high.x;
  v[3] = high.y;
}

}  // namespace qf::cuda
