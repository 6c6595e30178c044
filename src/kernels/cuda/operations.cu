#include <climits>

#include "qwen3fp4/kernels/cuda/operations.h"

namespace qf::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

__device__ float block_sum(float value) {
  __shared__ float of_warp[kWarps];
  for (int offset = 16; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xFFFFFFFFU, value, offset);
  }
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0;
  for (int warp = 0; warp < kWarps; ++warp) sum += of_warp[warp];
  return sum;
}

__global__ void rms_norm_kernel(const float* x, const float* weight, float eps, std::int64_t cols,
                                float* y) {
  const std::int64_t row = std::int64_t{blockIdx.x} * cols;
  float squares = 0;
  for (std::int64_t c = threadIdx.x; c < cols; c += kThreads) {
    squares = fmaf(x[row + c], x[row + c], squares);
  }
  const float mean = block_sum(squares) / static_cast<float>(cols);
  const float factor = 1.0F / sqrtf(mean + eps);
  for (std::int64_t c = threadIdx.x; c < cols; c += kThreads) {
    y[row + c] = x[row + c] * factor * weight[c];
  }
}

__global__ void rope_kernel(const float* x, const float* cos, const float* sin, RopeShape shape,
                            std::int64_t count, float* y) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  const std::int64_t half = shape.head_dim / 2;
  const std::int64_t feature = i % shape.head_dim;
  const std::int64_t angle = i / (shape.heads * shape.head_dim) * shape.head_dim + feature;
  const float partner = feature < half ? -x[i + half] : x[i - half];
  y[i] = x[i] * cos[angle] + partner * sin[angle];
}

__global__ void swiglu_kernel(const float* gate, const float* up, std::int64_t count, float* y) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) y[i] = gate[i] / (1.0F + expf(-gate[i])) * up[i];
}

__global__ void add_kernel(const float* a, const float* b, std::int64_t count, float* y) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) y[i] = a[i] + b[i];
}

// Thread blocks for `count` threads, or 0 when they do not fit into a grid.
unsigned grid_for(std::int64_t count) {
  const std::int64_t grid = (count + kThreads - 1) / kThreads;
  return count <= 0 || grid > INT_MAX ? 0 : static_cast<unsigned>(grid);
}

}  // namespace

cudaError_t rms_norm(const float* x, const float* weight, float eps, std::int64_t rows,
                     std::int64_t cols, float* y, cudaStream_t stream) {
  if (rows <= 0 || rows > INT_MAX || cols <= 0) return cudaErrorInvalidValue;
  rms_norm_kernel<<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(x, weight, eps, cols, y);
  return cudaGetLastError();
}

cudaError_t apply_rope(const float* x, const float* cos, const float* sin, const RopeShape& shape,
                       float* y, cudaStream_t stream) {
  const std::int64_t count = shape.tokens * shape.heads * shape.head_dim;
  const unsigned grid = grid_for(count);
  if (grid == 0 || shape.head_dim % 2 != 0) return cudaErrorInvalidValue;
  rope_kernel<<<grid, kThreads, 0, stream>>>(x, cos, sin, shape, count, y);
  return cudaGetLastError();
}

cudaError_t swiglu(const float* gate, const float* up, std::int64_t count, float* y,
                   cudaStream_t stream) {
  const unsigned grid = grid_for(count);
  if (grid == 0) return cudaErrorInvalidValue;
  swiglu_kernel<<<grid, kThreads, 0, stream>>>(gate, up, count, y);
  return cudaGetLastError();
}

cudaError_t add(const float* a, const float* b, std::int64_t count, float* y, cudaStream_t stream) {
  const unsigned grid = grid_for(count);
  if (grid == 0) return cudaErrorInvalidValue;
  add_kernel<<<grid, kThreads, 0, stream>>>(a, b, count, y);
  return cudaGetLastError();
}

}  // namespace qf::cuda
