#include <algorithm>
#include <climits>

#include "qwen3fp4/kernels/cuda/half.h"

namespace qf::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kOwn = 8;  // values of a thread
constexpr unsigned kFewBlocks = 1024;

__device__ bool needs_scale(std::uint32_t largest) {
  const std::uint32_t exponent = largest >> 23;
  return largest != 0 && (exponent < 124U || exponent > 141U);
}
// Both are normal f32 numbers.
__device__ float scale_for(std::uint32_t largest) {
  if (!needs_scale(largest)) return 1.0F;
  return __uint_as_float((268U - min(max(largest >> 23, 15U), 254U)) << 23);
}
__device__ float inverse_for(std::uint32_t largest) {
  if (!needs_scale(largest)) return 1.0F;
  return __uint_as_float((min(max(largest >> 23, 15U), 254U) - 14U) << 23);
}

// As if no scale were needed.
__global__ void convert_kernel(const float* x, std::int64_t count, __half* y,
                               std::uint32_t* largest) {
  const std::int64_t first = (std::int64_t{blockIdx.x} * kThreads + threadIdx.x) * kOwn;
  std::uint32_t bits = 0;  // compared as integers: NaN above infinity above all numbers
  if (first + kOwn <= count) {
    const float4 low = reinterpret_cast<const float4*>(x + first)[0];
    const float4 high = reinterpret_cast<const float4*>(x + first)[1];
    const float v[kOwn] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    __half2 h[kOwn / 2];
#pragma unroll
    for (int i = 0; i < kOwn / 2; ++i) h[i] = __floats2half2_rn(v[2 * i], v[2 * i + 1]);
    *reinterpret_cast<uint4*>(y + first) = *reinterpret_cast<const uint4*>(h);
#pragma unroll
    for (int i = 0; i < kOwn; ++i) bits = max(bits, __float_as_uint(v[i]) & 0x7FFFFFFFU);
  } else {
    for (std::int64_t i = first; i < count; ++i) {
      y[i] = __float2half_rn(x[i]);
      bits = max(bits, __float_as_uint(x[i]) & 0x7FFFFFFFU);
    }
  }
  bits = __reduce_max_sync(0xFFFFFFFFU, bits);
  if (threadIdx.x % 32 == 0 && bits > *static_cast<volatile std::uint32_t*>(largest)) {
    atomicMax(largest, bits);
  }
}

// Again, with the scale, where one is needed.
__global__ void rescale_kernel(const float* x, std::int64_t count, __half* y,
                               const std::uint32_t* largest) {
  if (!needs_scale(*largest)) return;
  const float scale = scale_for(*largest);
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += stride) {
    y[i] = __float2half_rn(x[i] * scale);
  }
}

__global__ void undo_kernel(float* y, std::int64_t count, const std::uint32_t* largest) {
  if (!needs_scale(*largest)) return;
  const float inverse = inverse_for(*largest);
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += stride) {
    y[i] *= inverse;
  }
}

std::int64_t blocks_for(std::int64_t count) {
  return (count + kThreads * kOwn - 1) / (kThreads * kOwn);
}
bool fits(std::int64_t count) { return count > 0 && blocks_for(count) <= INT_MAX; }
unsigned few_blocks(std::int64_t count) {
  return static_cast<unsigned>(std::min<std::int64_t>(blocks_for(count), kFewBlocks));
}
bool misaligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 != 0; }

}  // namespace

cudaError_t to_half(const float* x, std::int64_t count, __half* y, std::uint32_t* largest,
                    cudaStream_t stream) {
  if (!fits(count) || misaligned(x) || misaligned(y)) return cudaErrorInvalidValue;
  const cudaError_t status = cudaMemsetAsync(largest, 0, sizeof *largest, stream);
  if (status != cudaSuccess) return status;
  convert_kernel<<<static_cast<unsigned>(blocks_for(count)), kThreads, 0, stream>>>(x, count, y,
                                                                                    largest);
  rescale_kernel<<<few_blocks(count), kThreads, 0, stream>>>(x, count, y, largest);
  return cudaGetLastError();
}

cudaError_t undo_half_scale(float* y, std::int64_t count, const std::uint32_t* largest,
                            cudaStream_t stream) {
  if (!fits(count)) return cudaErrorInvalidValue;
  undo_kernel<<<few_blocks(count), kThreads, 0, stream>>>(y, count, largest);
  return cudaGetLastError();
}

}  // namespace qf::cuda
