#include <climits>
#include <cstdint>

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

// Rows of few columns, such as heads: a warp each.
__global__ void rms_norm_rows_kernel(const float* x, const float* weight, float eps,
                                     std::int64_t rows, int cols, float* y) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (row >= rows) return;
  const int lane = static_cast<int>(threadIdx.x % 32);
  x += row * cols;
  y += row * cols;
  float squares = 0;
  for (int c = lane; c < cols; c += 32) squares = fmaf(x[c], x[c], squares);
  for (int offset = 16; offset > 0; offset /= 2) {
    squares += __shfl_xor_sync(0xFFFFFFFFU, squares, offset);
  }
  const float factor = 1.0F / sqrtf(squares / static_cast<float>(cols) + eps);
  for (int c = lane; c < cols; c += 32) y[c] = x[c] * factor * weight[c];
}

// A pair of features a thread; a block row of the grid a token.
__global__ void rope_kernel(const float* x, const float* cos, const float* sin, int heads, int half,
                            float* y) {
  const std::int64_t token = blockIdx.x;
  const float* const c = cos + token * 2 * half;
  const float* const s = sin + token * 2 * half;
  for (int pair = static_cast<int>(threadIdx.x); pair < heads * half; pair += kThreads) {
    const int feature = pair % half;
    const std::int64_t at = (token * heads + pair / half) * 2 * half + feature;
    const float first = x[at];
    const float second = x[at + half];
    y[at] = first * c[feature] + -second * s[feature];
    y[at + half] = second * c[feature + half] + first * s[feature + half];
  }
}

__device__ float gated(float gate, float up) { return gate / (1.0F + expf(-gate)) * up; }

// Four values a thread where whole float4 lie there, the rest by the last threads.
template <class Operation>
__global__ void elementwise_kernel(const float* a, const float* b, std::int64_t count, float* y,
                                   Operation operation) {
  const std::int64_t quads = count / 4;
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < quads) {
    const float4 u = reinterpret_cast<const float4*>(a)[i];
    const float4 v = reinterpret_cast<const float4*>(b)[i];
    reinterpret_cast<float4*>(y)[i] = make_float4(operation(u.x, v.x), operation(u.y, v.y),
                                                  operation(u.z, v.z), operation(u.w, v.w));
  } else if (i < quads + count % 4) {
    const std::int64_t at = 4 * quads + (i - quads);
    y[at] = operation(a[at], b[at]);
  }
}

struct Gated {
  __device__ float operator()(float gate, float up) const { return gated(gate, up); }
};
struct Sum {
  __device__ float operator()(float a, float b) const { return a + b; }
};

bool misaligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 != 0; }

// Thread blocks for `count` threads, or 0 when they do not fit into a grid.
unsigned grid_for(std::int64_t count) {
  const std::int64_t grid = (count + kThreads - 1) / kThreads;
  return count <= 0 || grid > INT_MAX ? 0 : static_cast<unsigned>(grid);
}

}  // namespace

cudaError_t rms_norm(const float* x, const float* weight, float eps, std::int64_t rows,
                     std::int64_t cols, float* y, cudaStream_t stream) {
  if (rows <= 0 || rows > INT_MAX || cols <= 0) return cudaErrorInvalidValue;
  constexpr std::int64_t kFewCols = 512;
  if (cols <= kFewCols) {
    const auto grid = static_cast<unsigned>((rows + kWarps - 1) / kWarps);
    rms_norm_rows_kernel<<<grid, kThreads, 0, stream>>>(x, weight, eps, rows,
                                                        static_cast<int>(cols), y);
  } else {
    rms_norm_kernel<<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(x, weight, eps, cols, y);
  }
  return cudaGetLastError();
}

cudaError_t apply_rope(const float* x, const float* cos, const float* sin, const RopeShape& shape,
                       float* y, cudaStream_t stream) {
  if (shape.tokens <= 0 || shape.tokens > INT_MAX || shape.heads <= 0 || shape.head_dim <= 0 ||
      shape.head_dim % 2 != 0 || shape.heads > INT_MAX / shape.head_dim) {
    return cudaErrorInvalidValue;
  }
  rope_kernel<<<static_cast<unsigned>(shape.tokens), kThreads, 0, stream>>>(
      x, cos, sin, static_cast<int>(shape.heads), static_cast<int>(shape.head_dim / 2), y);
  return cudaGetLastError();
}

cudaError_t swiglu(const float* gate, const float* up, std::int64_t count, float* y,
                   cudaStream_t stream) {
  const unsigned grid = grid_for(count / 4 + count % 4);
  if (grid == 0 || misaligned(gate) || misaligned(up) || misaligned(y)) {
    return cudaErrorInvalidValue;
  }
  elementwise_kernel<<<grid, kThreads, 0, stream>>>(gate, up, count, y, Gated{});
  return cudaGetLastError();
}

cudaError_t add(const float* a, const float* b, std::int64_t count, float* y, cudaStream_t stream) {
  const unsigned grid = grid_for(count / 4 + count % 4);
  if (grid == 0 || misaligned(a) || misaligned(b) || misaligned(y)) return cudaErrorInvalidValue;
  elementwise_kernel<<<grid, kThreads, 0, stream>>>(a, b, count, y, Sum{});
  return cudaGetLastError();
}

}  // namespace qf::cuda
