#include <algorithm>
#include <climits>

#include "qwen3fp4/kernels/cuda/half.h"

namespace qf::cuda {
namespace {

constexpr int kThreads = 256;
constexpr std::int64_t kMostBlocks = 1024;

// 2^14 over the power of two of the largest magnitude, and its inverse; both normal f32 numbers.
__device__ std::uint32_t exponent_of(const std::uint32_t* largest) {
  return min(max(*largest >> 23, 15U), 254U);
}
__device__ float scale_for(const std::uint32_t* largest) {
  return __uint_as_float((268U - exponent_of(largest)) << 23);
}
__device__ float inverse_for(const std::uint32_t* largest) {
  return __uint_as_float((exponent_of(largest) - 14U) << 23);
}

__global__ void largest_kernel(const float* x, std::int64_t count, std::uint32_t* bits) {
  std::uint32_t largest = 0;  // compared as integers: NaN above infinity above all numbers
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += stride) {
    largest = max(largest, __float_as_uint(x[i]) & 0x7FFFFFFFU);
  }
  for (int offset = 16; offset > 0; offset /= 2) {
    largest = max(largest, __shfl_xor_sync(0xFFFFFFFFU, largest, offset));
  }
  if (threadIdx.x % 32 == 0 && largest != 0) atomicMax(bits, largest);
}

__global__ void to_half_kernel(const float* x, std::int64_t count, const std::uint32_t* largest,
                               __half* y) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) y[i] = __float2half_rn(x[i] * scale_for(largest));
}

__global__ void undo_kernel(float* y, std::int64_t count, const std::uint32_t* largest,
                            float factor) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) y[i] = y[i] * inverse_for(largest) * factor;
}

std::int64_t blocks_for(std::int64_t count) { return (count + kThreads - 1) / kThreads; }
bool fits(std::int64_t count) { return count > 0 && blocks_for(count) <= INT_MAX; }

}  // namespace

cudaError_t largest_magnitude(const float* x, std::int64_t count, std::uint32_t* bits,
                              cudaStream_t stream) {
  if (!fits(count)) return cudaErrorInvalidValue;
  const cudaError_t status = cudaMemsetAsync(bits, 0, sizeof *bits, stream);
  if (status != cudaSuccess) return status;
  const auto blocks = static_cast<unsigned>(std::min(blocks_for(count), kMostBlocks));
  largest_kernel<<<blocks, kThreads, 0, stream>>>(x, count, bits);
  return cudaGetLastError();
}

cudaError_t to_half(const float* x, std::int64_t count, const std::uint32_t* largest, __half* y,
                    cudaStream_t stream) {
  if (!fits(count)) return cudaErrorInvalidValue;
  to_half_kernel<<<static_cast<unsigned>(blocks_for(count)), kThreads, 0, stream>>>(x, count,
                                                                                    largest, y);
  return cudaGetLastError();
}

cudaError_t undo_half_scale(float* y, std::int64_t count, const std::uint32_t* largest,
                            float factor, cudaStream_t stream) {
  if (!fits(count)) return cudaErrorInvalidValue;
  undo_kernel<<<static_cast<unsigned>(blocks_for(count)), kThreads, 0, stream>>>(y, count, largest,
                                                                                 factor);
  return cudaGetLastError();
}

}  // namespace qf::cuda
