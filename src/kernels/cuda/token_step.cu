#include <climits>
#include <cmath>
#include <type_traits>

#include "kv_row.cuh"
#include "narrow.cuh"
#include "qwen3fp4/kernels/cuda/token_step.h"

// Shapes in this file: H query heads, K key/value heads, E head_dim.
namespace qf::cuda {
namespace {

constexpr int kNormThreads = 512;
constexpr int kAttentionWarps = 4;
constexpr int kMaxGroup = 8;   // query heads of a key/value head
constexpr int kSplits = 32;    // parts of the cache that blocks attend to side by side
constexpr int kPositions = 4;  // of a warp at a time
constexpr std::int64_t kMaxHeadDim = 256;

__device__ float warp_sum(float value) {
  for (int offset = 16; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xFFFFFFFFU, value, offset);
  }
  return value;
}

template <class T>
__global__ void embed_kernel(const T* table, std::int64_t hidden, const TokenState* state,
                             float* x) {
  const std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < hidden) x[i] = load(table + std::int64_t{state->token} * hidden + i);
}

__global__ void __launch_bounds__(kNormThreads) add_rms_norm_kernel(NormStep s) {
  __shared__ float of_warp[kNormThreads / 32];
  float squares = 0;
  for (std::int64_t c = 4 * threadIdx.x; c < s.cols; c += 4 * kNormThreads) {
    float4 v = load4(s.x + c);
    if (s.addend != nullptr) {
      const float4 b = load4(s.addend + c);
      v = make_float4(v.x + b.x, v.y + b.y, v.z + b.z, v.w + b.w);
      store4(s.x + c, v);
    }
    squares = fmaf(v.x, v.x, fmaf(v.y, v.y, fmaf(v.z, v.z, fmaf(v.w, v.w, squares))));
  }
  squares = warp_sum(squares);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = squares;
  __syncthreads();
  float sum = 0;
  for (const float part : of_warp) sum += part;
  const float factor = 1.0F / sqrtf(sum / static_cast<float>(s.cols) + s.eps);
  for (std::int64_t c = 4 * threadIdx.x; c < s.cols; c += 4 * kNormThreads) {
    const float4 v = load4(s.x + c);
    const float4 w = load4(s.weight + c);
    store4(s.y + c, make_float4(v.x * factor * w.x, v.y * factor * w.y, v.z * factor * w.z,
                                v.w * factor * w.w));
  }
}

// A head's key or value into the cache: the lane's features are lane, lane + 32, ...
struct CacheRow {
  std::int64_t row, scale;  // places
  std::int64_t width, lane;
};
template <class T>
__device__ void put_row(T* cache, float* /*scales*/, const CacheRow& at,
                        const float (&v)[kMaxHeadDim / 32]) {
#pragma unroll
  for (int j = 0; j < kMaxHeadDim / 32; ++j) {
    const std::int64_t i = at.lane + 32 * j;
    if (i < at.width) store(cache + at.row + i, v[j]);
  }
}
__device__ void put_row(E4M3* cache, float* scales, const CacheRow& at,
                        const float (&v)[kMaxHeadDim / 32]) {
  const float scale = kv_scale(largest_magnitude(v));
#pragma unroll
  for (int j = 0; j < kMaxHeadDim / 32; ++j) {
    const std::int64_t i = at.lane + 32 * j;
    if (i < at.width) {
      cache[at.row + i].code = static_cast<std::uint8_t>(kv_code_pair(v[j], 0.0F, scale));
    }
  }
  if (at.lane == 0) scales[at.scale] = scale;
}

// A warp a head: queries first, then keys, then values.
template <class T>
__global__ void place_heads_kernel(TokenAttention<T> a) {
  __shared__ float normed[kMaxHeadDim];
  const std::int64_t width = a.head_dim;
  const std::int64_t position = a.state->position;
  const auto head = static_cast<std::int64_t>(blockIdx.x);
  const auto lane = static_cast<std::int64_t>(threadIdx.x);
  const bool query = head < a.heads;
  const std::int64_t kv = (head - a.heads) % a.kv_heads;
  const CacheRow place{(kv * a.context + position) * width,
                       kv * kv_scale_stride(a.context) + position, width, lane};
  float row[kMaxHeadDim / 32] = {};
  if (head >= a.heads + a.kv_heads) {
#pragma unroll
    for (int j = 0; j < kMaxHeadDim / 32; ++j) {
      const std::int64_t i = lane + 32 * j;
      if (i < width) row[j] = a.v[kv * width + i];
    }
    put_row(a.values, a.value_scales, place, row);
    return;
  }
  const float* const in = query ? a.q + head * width : a.k + kv * width;
  const float* const weight = query ? a.q_norm : a.k_norm;
  float factor = 1;
  if (weight != nullptr) {
    float squares = 0;
    for (std::int64_t i = lane; i < width; i += 32) squares = fmaf(in[i], in[i], squares);
    factor = 1.0F / sqrtf(warp_sum(squares) / static_cast<float>(width) + a.eps);
  }
  for (std::int64_t i = lane; i < width; i += 32) {
    normed[i] = weight != nullptr ? in[i] * factor * weight[i] : in[i];
  }
  __syncwarp();
  const std::int64_t half = width / 2;
  const float* const cos = a.cos + position * width;
  const float* const sin = a.sin + position * width;
#pragma unroll
  for (int j = 0; j < kMaxHeadDim / 32; ++j) {
    const std::int64_t i = lane + 32 * j;
    if (i >= width) break;
    const float partner = i < half ? -normed[i + half] : normed[i - half];
    row[j] = normed[i] * cos[i] + partner * sin[i];
    if (query) a.q[head * width + i] = row[j];
  }
  if (!query) put_row(a.keys, a.key_scales, place, row);
}

// A lane's neighbours of a position's features; `row`: of its scale.
template <int kOwn, class T>
__device__ void load_features(const T* x, const float* /*scales*/, std::int64_t /*row*/,
                              float (&v)[kOwn]) {
#pragma unroll
  for (int i = 0; i < kOwn; ++i) v[i] = load(x + i);
}
template <int kOwn>
__device__ void load_features(const E4M3* x, const float* scales, std::int64_t row,
                              float (&v)[kOwn]) {
  const float factor = scales[row];
  if constexpr (kOwn % 4 == 0) {
#pragma unroll
    for (int i = 0; i < kOwn; i += 4) {
      float numbers[4];
      kv_numbers(*reinterpret_cast<const std::uint32_t*>(x + i), numbers);
#pragma unroll
      for (int j = 0; j < 4; ++j) v[i + j] = numbers[j] * factor;
    }
  } else if constexpr (kOwn == 2) {
    const float2 pair = e4m3_pair(*reinterpret_cast<const std::uint16_t*>(x));
    v[0] = pair.x * factor;
    v[1] = pair.y * factor;
  } else {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) v[i] = e4m3_pair(x[i].code).x * factor;
  }
}

// A running softmax of one head: lanes hold kOwn features each.
template <int kOwn>
struct Running {
  float most = -INFINITY;
  float total = 0;
  float sum[kOwn] = {};

  __device__ void add(float score, const float (&value)[kOwn]) {
    const float next = fmaxf(most, score);
    const float kept = expf(most - next);  // 0 before the first
    const float weight = expf(score - next);
    most = next;
    total = total * kept + weight;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) sum[i] = sum[i] * kept + weight * value[i];
  }
};

// Positions of a split: [first, last).
struct Range {
  std::int64_t first, last;
};
__device__ Range range_of(std::int64_t positions, int split) {
  const std::int64_t each = (positions + kSplits - 1) / kSplits;
  const std::int64_t first = min(positions, each * split);
  return {first, min(positions, first + each)};
}

// Floats of one head's part of one split: most, total, sums.
__device__ std::int64_t part_floats(std::int64_t head_dim) { return head_dim + 2; }

// A block: one key/value head with its query heads, one split of the cache. Warps take positions in
// turn; what they have is put together in their order.
template <class T, int kOwn, int kGroup>
__global__ void __launch_bounds__(32 * kAttentionWarps) attend_kernel(TokenAttention<T> a) {
  __shared__ float parts[kAttentionWarps][kGroup][32 * kOwn + 2];
  constexpr std::int64_t kWidth = 32 * kOwn;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32);
  const std::int64_t kv = blockIdx.x;
  const int split = static_cast<int>(blockIdx.y);
  const Range range = range_of(a.state->position + 1, split);
  const float scale = 1.0F / sqrtf(static_cast<float>(kWidth));
  float q[kGroup][kOwn];
#pragma unroll
  for (int g = 0; g < kGroup; ++g) {
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      q[g][i] = a.q[(kv * kGroup + g) * kWidth + lane * kOwn + i] * scale;
    }
  }
  Running<kOwn> running[kGroup];
  const T* const keys = a.keys + kv * a.context * kWidth + lane * kOwn;
  const T* const values = a.values + kv * a.context * kWidth + lane * kOwn;
  const std::int64_t scales = kv * kv_scale_stride(a.context);
  for (std::int64_t p = range.first + warp * kPositions; p < range.last;
       p += kAttentionWarps * kPositions) {
    float key[kPositions][kOwn];
    float value[kPositions][kOwn];
#pragma unroll
    for (int j = 0; j < kPositions; ++j) {
      const std::int64_t at = min(p + j, range.last - 1);
      load_features(keys + at * kWidth, a.key_scales, scales + at, key[j]);
      load_features(values + at * kWidth, a.value_scales, scales + at, value[j]);
    }
#pragma unroll
    for (int j = 0; j < kPositions; ++j) {
      if (p + j >= range.last) break;
#pragma unroll
      for (int g = 0; g < kGroup; ++g) {
        float score = 0;
#pragma unroll
        for (int i = 0; i < kOwn; ++i) score = fmaf(q[g][i], key[j][i], score);
        running[g].add(warp_sum(score), value[j]);
      }
    }
  }
#pragma unroll
  for (int g = 0; g < kGroup; ++g) {
    float* const part = parts[warp][g];
    if (lane == 0) {
      part[0] = running[g].most;
      part[1] = running[g].total;
    }
#pragma unroll
    for (int i = 0; i < kOwn; ++i) part[2 + lane * kOwn + i] = running[g].sum[i];
  }
  __syncthreads();
  for (int g = warp; g < kGroup; g += kAttentionWarps) {
    float most = -INFINITY;
    for (int w = 0; w < kAttentionWarps; ++w) most = fmaxf(most, parts[w][g][0]);
    float* const out = a.partial + ((kv * kGroup + g) * kSplits + split) * part_floats(kWidth);
    float total = 0;
    float sum[kOwn] = {};
    for (int w = 0; w < kAttentionWarps; ++w) {
      // A warp without positions has -infinity, and so has a split without any.
      const float kept = parts[w][g][0] == -INFINITY ? 0 : expf(parts[w][g][0] - most);
      total += parts[w][g][1] * kept;
#pragma unroll
      for (int i = 0; i < kOwn; ++i) sum[i] += parts[w][g][2 + lane * kOwn + i] * kept;
    }
    if (lane == 0) {
      out[0] = most;
      out[1] = total;
    }
#pragma unroll
    for (int i = 0; i < kOwn; ++i) out[2 + lane * kOwn + i] = sum[i];
  }
}

// A block a query head, a thread a feature.
__global__ void combine_kernel(const float* partial, std::int64_t head_dim, float* out) {
  const float* const parts = partial + std::int64_t{blockIdx.x} * kSplits * part_floats(head_dim);
  const auto i = static_cast<std::int64_t>(threadIdx.x);
  float most = -INFINITY;
  for (int s = 0; s < kSplits; ++s) most = fmaxf(most, parts[s * part_floats(head_dim)]);
  float total = 0;
  float sum = 0;
  for (int s = 0; s < kSplits; ++s) {
    const float* const part = parts + s * part_floats(head_dim);
    const float kept = part[0] == -INFINITY ? 0 : expf(part[0] - most);
    total += part[1] * kept;
    sum += part[2 + i] * kept;
  }
  out[std::int64_t{blockIdx.x} * head_dim + i] = sum / total;
}

__global__ void advance_kernel(const std::uint32_t* token, TokenState* state) {
  state->token = *token;
  ++state->position;
}

template <class T, int kOwn>
cudaError_t launch_attend(const TokenAttention<T>& a, cudaStream_t stream) {
  using Kernel = void (*)(TokenAttention<T>);
  constexpr Kernel kKernels[kMaxGroup] = {attend_kernel<T, kOwn, 1>, attend_kernel<T, kOwn, 2>,
                                          attend_kernel<T, kOwn, 3>, attend_kernel<T, kOwn, 4>,
                                          attend_kernel<T, kOwn, 5>, attend_kernel<T, kOwn, 6>,
                                          attend_kernel<T, kOwn, 7>, attend_kernel<T, kOwn, 8>};
  const dim3 grid(static_cast<unsigned>(a.kv_heads), kSplits);
  kKernels[a.heads / a.kv_heads - 1]<<<grid, 32 * kAttentionWarps, 0, stream>>>(a);
  combine_kernel<<<static_cast<unsigned>(a.heads), static_cast<unsigned>(a.head_dim), 0, stream>>>(
      a.partial, a.head_dim, a.out);
  return cudaGetLastError();
}

template <class T>
bool valid(const TokenAttention<T>& a) {
  return a.heads > 0 && a.kv_heads > 0 && a.heads % a.kv_heads == 0 &&
         a.heads / a.kv_heads <= kMaxGroup && a.heads <= 65535 && a.head_dim > 0 &&
         a.head_dim % 32 == 0 && a.head_dim <= kMaxHeadDim && a.context > 0 &&
         (a.q_norm == nullptr) == (a.k_norm == nullptr) &&
         (!std::is_same_v<T, E4M3> || (a.key_scales != nullptr && a.value_scales != nullptr));
}

bool misaligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 != 0; }

}  // namespace

template <class T>
cudaError_t embed_token(const T* table, std::int64_t hidden, const TokenState* state, float* x,
                        cudaStream_t stream) {
  constexpr int kThreads = 256;
  if (hidden <= 0 || hidden > INT_MAX) return cudaErrorInvalidValue;
  const auto grid = static_cast<unsigned>((hidden + kThreads - 1) / kThreads);
  embed_kernel<<<grid, kThreads, 0, stream>>>(table, hidden, state, x);
  return cudaGetLastError();
}

cudaError_t add_rms_norm(const NormStep& step, cudaStream_t stream) {
  if (step.cols <= 0 || step.cols % 4 != 0 || misaligned(step.x) || misaligned(step.addend) ||
      misaligned(step.weight) || misaligned(step.y)) {
    return cudaErrorInvalidValue;
  }
  add_rms_norm_kernel<<<1, kNormThreads, 0, stream>>>(step);
  return cudaGetLastError();
}

std::int64_t token_attention_floats(std::int64_t heads, std::int64_t head_dim) {
  return heads * kSplits * (head_dim + 2);
}

template <class T>
cudaError_t place_heads(const TokenAttention<T>& a, cudaStream_t stream) {
  if (!valid(a)) return cudaErrorInvalidValue;
  place_heads_kernel<<<static_cast<unsigned>(a.heads + 2 * a.kv_heads), 32, 0, stream>>>(a);
  return cudaGetLastError();
}

template <class T>
cudaError_t attend_token(const TokenAttention<T>& a, cudaStream_t stream) {
  if (!valid(a)) return cudaErrorInvalidValue;
  switch (a.head_dim) {
    case 32:
      return launch_attend<T, 1>(a, stream);
    case 64:
      return launch_attend<T, 2>(a, stream);
    case 96:
      return launch_attend<T, 3>(a, stream);
    case 128:
      return launch_attend<T, 4>(a, stream);
    case 256:
      return launch_attend<T, 8>(a, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

cudaError_t advance_token(const std::uint32_t* token, TokenState* state, cudaStream_t stream) {
  advance_kernel<<<1, 1, 0, stream>>>(token, state);
  return cudaGetLastError();
}

#define QF_INSTANTIATE(T) \
  template cudaError_t embed_token(const T*, std::int64_t, const TokenState*, float*, cudaStream_t)
#define QF_INSTANTIATE_CACHE(T)                                             \
  template cudaError_t place_heads(const TokenAttention<T>&, cudaStream_t); \
  template cudaError_t attend_token(const TokenAttention<T>&, cudaStream_t)
QF_INSTANTIATE(float);
QF_INSTANTIATE(__half);
QF_INSTANTIATE(__nv_bfloat16);
QF_INSTANTIATE_CACHE(float);
QF_INSTANTIATE_CACHE(__half);
QF_INSTANTIATE_CACHE(__nv_bfloat16);
QF_INSTANTIATE_CACHE(E4M3);
#undef QF_INSTANTIATE
#undef QF_INSTANTIATE_CACHE

}  // namespace qf::cuda
