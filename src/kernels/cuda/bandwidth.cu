#include "qwen3fp4/kernels/cuda/bandwidth.h"

namespace qf::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kAtOnce = 4;  // loads of a thread on their way
constexpr unsigned kBlocks = 132 * 8;

__global__ void read_kernel(const uint4* words, std::int64_t count, std::uint32_t* result) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  std::uint32_t sum = 0;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count;
       i += kAtOnce * stride) {
    uint4 v[kAtOnce] = {};
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      if (i + k * stride < count) v[k] = __ldcs(words + i + k * stride);
    }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) sum ^= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
  }
  sum = __reduce_xor_sync(0xFFFFFFFFU, sum);
  if (threadIdx.x % 32 == 0 && sum != 0) atomicXor(result, sum);
}

}  // namespace

cudaError_t read_all(const void* words, std::int64_t count, std::uint32_t* result,
                     cudaStream_t stream) {
  if (count < 1) return cudaErrorInvalidValue;
  const cudaError_t status = cudaMemsetAsync(result, 0, sizeof *result, stream);
  if (status != cudaSuccess) return status;
  read_kernel<<<kBlocks, kThreads, 0, stream>>>(static_cast<const uint4*>(words), count, result);
  return cudaGetLastError();
}

}  // namespace qf::cuda
