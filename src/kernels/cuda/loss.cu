#include <climits>

#include "narrow.cuh"
#include "qwen3fp4/kernels/cuda/loss.h"

// A block a row: its logits are read for their maximum, and again, from the cache, for their sums.
namespace qf::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr unsigned kAllLanes = 0xFFFFFFFFU;

struct Add {
  __device__ float operator()(float a, float b) const { return a + b; }
};
struct Larger {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

// Of all threads, in a fixed order; every thread gets it.
template <class Combine>
__device__ float over_block(float value, const Combine& combine) {
  __shared__ float of_warp[kWarps];
  for (int offset = 16; offset > 0; offset /= 2) {
    value = combine(value, __shfl_xor_sync(kAllLanes, value, offset));
  }
  __syncthreads();
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  float all = of_warp[0];
  for (int warp = 1; warp < kWarps; ++warp) all = combine(all, of_warp[warp]);
  return all;
}

__device__ float largest_of(const float* values, std::int64_t count) {
  float largest = -INFINITY;
  for (std::int64_t i = threadIdx.x; i < count; i += kThreads) largest = fmaxf(largest, values[i]);
  return over_block(largest, Larger{});
}

__device__ float logsumexp_of(const float* values, std::int64_t count) {
  const float largest = largest_of(values, count);
  float total = 0;
  for (std::int64_t i = threadIdx.x; i < count; i += kThreads) total += expf(values[i] - largest);
  return largest + logf(over_block(total, Add{}));
}

__global__ void __launch_bounds__(kThreads)
    cross_entropy_kernel(LogitChunk chunk, const std::int64_t* next, float* logsumexp,
                         float* value) {
  const std::int64_t row = blockIdx.x;
  const float* const logits = chunk.logits + row * chunk.cols;
  const float sum = logsumexp_of(logits, chunk.cols);
  if (threadIdx.x != 0) return;
  const std::int64_t column = next[row] - chunk.first;
  logsumexp[row] = sum;
  value[row] = column >= 0 && column < chunk.cols ? logits[column] : 0.0F;
}

__global__ void __launch_bounds__(kThreads)
    divergence_kernel(LogitChunk chunk, const float* teacher, float* logsumexp,
                      float* teacher_logsumexp, float* value) {
  const std::int64_t row = blockIdx.x;
  const float* const logits = chunk.logits + row * chunk.cols;
  const float* const taught = teacher + row * chunk.cols;
  const float sum = logsumexp_of(logits, chunk.cols);
  const float largest = largest_of(taught, chunk.cols);
  float total = 0;
  float weighted = 0;
  for (std::int64_t i = threadIdx.x; i < chunk.cols; i += kThreads) {
    const float share = expf(taught[i] - largest);
    total += share;
    weighted = fmaf(share, taught[i] - logits[i], weighted);
  }
  total = over_block(total, Add{});
  weighted = over_block(weighted, Add{});
  if (threadIdx.x != 0) return;
  logsumexp[row] = sum;
  teacher_logsumexp[row] = largest + logf(total);
  value[row] = weighted / total;
}

template <class Out>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_gradient_kernel(LogitChunk chunk, const std::int64_t* next,
                                  const float* logsumexp, float weight, Out* out) {
  const std::int64_t row = blockIdx.x;
  const float* const logits = chunk.logits + row * chunk.cols;
  const float all = logsumexp[row];
  const std::int64_t column = next[row] - chunk.first;
  for (std::int64_t i = threadIdx.x; i < chunk.cols; i += kThreads) {
    const float share = expf(logits[i] - all);
    store(out + row * chunk.cols + i, (i == column ? share - 1.0F : share) * weight);
  }
}

template <class Out>
__global__ void __launch_bounds__(kThreads)
    divergence_gradient_kernel(LogitChunk chunk, const float* teacher, const float* logsumexp,
                               const float* teacher_logsumexp, float weight, Out* out) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t begin = row * chunk.cols;
  const float all = logsumexp[row];
  const float taught = teacher_logsumexp[row];
  for (std::int64_t i = threadIdx.x; i < chunk.cols; i += kThreads) {
    const float share = expf(chunk.logits[begin + i] - all);
    store(out + begin + i, (share - expf(teacher[begin + i] - taught)) * weight);
  }
}

template <class... Pointers>
bool usable(const LogitChunk& chunk, const Pointers*... pointers) {
  return chunk.rows > 0 && chunk.rows <= INT_MAX && chunk.cols > 0 && chunk.logits != nullptr &&
         (... && (pointers != nullptr));
}

unsigned grid(const LogitChunk& chunk) { return static_cast<unsigned>(chunk.rows); }

}  // namespace

cudaError_t cross_entropy(const LogitChunk& chunk, const std::int64_t* next, float* logsumexp,
                          float* value, cudaStream_t stream) {
  if (!usable(chunk, next, logsumexp, value)) return cudaErrorInvalidValue;
  cross_entropy_kernel<<<grid(chunk), kThreads, 0, stream>>>(chunk, next, logsumexp, value);
  return cudaGetLastError();
}

cudaError_t divergence(const LogitChunk& chunk, const float* teacher, float* logsumexp,
                       float* teacher_logsumexp, float* value, cudaStream_t stream) {
  if (!usable(chunk, teacher, logsumexp, teacher_logsumexp, value)) return cudaErrorInvalidValue;
  divergence_kernel<<<grid(chunk), kThreads, 0, stream>>>(chunk, teacher, logsumexp,
                                                          teacher_logsumexp, value);
  return cudaGetLastError();
}

template <class Out>
cudaError_t cross_entropy_gradient(const LogitChunk& chunk, const std::int64_t* next,
                                   const float* logsumexp, float weight, Out* out,
                                   cudaStream_t stream) {
  if (!usable(chunk, next, logsumexp, out)) return cudaErrorInvalidValue;
  cross_entropy_gradient_kernel<<<grid(chunk), kThreads, 0, stream>>>(chunk, next, logsumexp,
                                                                      weight, out);
  return cudaGetLastError();
}

template <class Out>
cudaError_t divergence_gradient(const LogitChunk& chunk, const float* teacher,
                                const float* logsumexp, const float* teacher_logsumexp,
                                float weight, Out* out, cudaStream_t stream) {
  if (!usable(chunk, teacher, logsumexp, teacher_logsumexp, out)) return cudaErrorInvalidValue;
  divergence_gradient_kernel<<<grid(chunk), kThreads, 0, stream>>>(chunk, teacher, logsumexp,
                                                                   teacher_logsumexp, weight, out);
  return cudaGetLastError();
}

#define QF_INSTANTIATE(Out)                                                               \
  template cudaError_t cross_entropy_gradient(const LogitChunk&, const std::int64_t*,     \
                                              const float*, float, Out*, cudaStream_t);   \
  template cudaError_t divergence_gradient(const LogitChunk&, const float*, const float*, \
                                           const float*, float, Out*, cudaStream_t)
QF_INSTANTIATE(float);
QF_INSTANTIATE(__nv_bfloat16);
#undef QF_INSTANTIATE

}  // namespace qf::cuda
