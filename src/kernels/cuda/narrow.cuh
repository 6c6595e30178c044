#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

// Loads and stores of f32, fp16 and bf16 values as f32; stores round to nearest even. Of four they
// are aligned to their size.
namespace qf::cuda {

__device__ inline float load(const float* x) { return *x; }
__device__ inline float load(const __half* x) { return __half2float(*x); }
__device__ inline float load(const __nv_bfloat16* x) { return __bfloat162float(*x); }

__device__ inline void store(float* y, float value) { *y = value; }
__device__ inline void store(__half* y, float value) { *y = __float2half_rn(value); }
__device__ inline void store(__nv_bfloat16* y, float value) { *y = __float2bfloat16_rn(value); }

__device__ inline float4 load4(const float* x) { return *reinterpret_cast<const float4*>(x); }
__device__ inline float4 load4(const __half* x) {
  const uint2 words = *reinterpret_cast<const uint2*>(x);
  const float2 low = __half22float2(*reinterpret_cast<const __half2*>(&words.x));
  const float2 high = __half22float2(*reinterpret_cast<const __half2*>(&words.y));
  return make_float4(low.x, low.y, high.x, high.y);
}
__device__ inline float4 load4(const __nv_bfloat16* x) {
  const uint2 words = *reinterpret_cast<const uint2*>(x);
  // A bf16 is the upper half of an f32.
  return make_float4(__uint_as_float(words.x << 16), __uint_as_float(words.x & 0xFFFF0000U),
                     __uint_as_float(words.y << 16), __uint_as_float(words.y & 0xFFFF0000U));
}

__device__ inline void store4(float* y, const float4& v) { *reinterpret_cast<float4*>(y) = v; }
__device__ inline void store4(__half* y, const float4& v) {
  const __half2 pairs[2] = {__floats2half2_rn(v.x, v.y), __floats2half2_rn(v.z, v.w)};
  *reinterpret_cast<uint2*>(y) = *reinterpret_cast<const uint2*>(pairs);
}
__device__ inline void store4(__nv_bfloat16* y, const float4& v) {
  const __nv_bfloat162 pairs[2] = {__floats2bfloat162_rn(v.x, v.y),
                                   __floats2bfloat162_rn(v.z, v.w)};
  *reinterpret_cast<uint2*>(y) = *reinterpret_cast<const uint2*>(pairs);
}

// Aligned to 16 bytes.
__device__ inline void store8(float* y, const float (&v)[8]) {
  store4(y, make_float4(v[0], v[1], v[2], v[3]));
  store4(y + 4, make_float4(v[4], v[5], v[6], v[7]));
}
__device__ inline void store8(__half* y, const float (&v)[8]) {
  const __half2 pairs[4] = {__floats2half2_rn(v[0], v[1]), __floats2half2_rn(v[2], v[3]),
                            __floats2half2_rn(v[4], v[5]), __floats2half2_rn(v[6], v[7])};
  *reinterpret_cast<uint4*>(y) = *reinterpret_cast<const uint4*>(pairs);
}
__device__ inline void store8(__nv_bfloat16* y, const float (&v)[8]) {
  const __nv_bfloat162 pairs[4] = {
      __floats2bfloat162_rn(v[0], v[1]), __floats2bfloat162_rn(v[2], v[3]),
      __floats2bfloat162_rn(v[4], v[5]), __floats2bfloat162_rn(v[6], v[7])};
  *reinterpret_cast<uint4*>(y) = *reinterpret_cast<const uint4*>(pairs);
}

}  // namespace qf::cuda
