#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "qwen3fp4/kernels/fp4.h"

namespace qf::cuda {

// Two E4M3 numbers in the low 16 bits, exactly.
__device__ __forceinline__ float2 e4m3_pair(std::uint32_t pair) {
#if __CUDA_ARCH__ >= 890
  std::uint32_t halves;
  asm("{.reg .b16 t; cvt.u16.u32 t,%1; cvt.rn.f16x2.e4m3x2 %0,t;}" : "=r"(halves) : "r"(pair));
  return __half22float2(*reinterpret_cast<const __half2*>(&halves));
#else
  return make_float2(e4m3_to_float(static_cast<std::uint8_t>(pair)),
                     e4m3_to_float(static_cast<std::uint8_t>(pair >> 8)));
#endif
}

}  // namespace qf::cuda
