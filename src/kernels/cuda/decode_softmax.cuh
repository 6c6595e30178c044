#pragma once

#include <type_traits>

#include "decode_args.cuh"
#include "kv_row.cuh"

// The running softmax of the decode kernel's attention (decode_attention.cuh).
namespace qf::cuda::decode {

// [kConsumerWarps, kHeadsPerItem, head_dim] sums, over the staged activations.
__device__ __forceinline__ float* attention_sums(const Args& a) {
  return reinterpret_cast<float*>(staged_x(a));
}

__device__ __forceinline__ void unpack_halves(const uint2& bits, float (&v)[4]) {
  const float2 low = __half22float2(*reinterpret_cast<const __half2*>(&bits.x));
  const float2 high = __half22float2(*reinterpret_cast<const __half2*>(&bits.y));
  v[0] = low.x;
  v[1] = low.y;
  v[2] = high.x;
  v[3] = high.y;
}

// What a stream takes at a time: of kBatchTokens tokens a lane's four features, the first `present`
// of which exist.
inline constexpr int kBatchTokens = 4;
template <class T>
struct Batch;
template <>
struct Batch<__half> {
  uint2 keys[kBatchTokens] = {};
  uint2 values[kBatchTokens] = {};
  int present = 0;
};
template <>
struct Batch<E4M3> {
  std::uint32_t keys[kBatchTokens] = {};
  std::uint32_t values[kBatchTokens] = {};
  float key_scale = 0, value_scale = 0;  // of the token whose score the lane has; 0 without it
  int present = 0;
};
__device__ __forceinline__ void unpack(const uint2& bits, float (&v)[4]) { unpack_halves(bits, v); }
__device__ __forceinline__ void unpack(std::uint32_t bits, float (&v)[4]) { kv_numbers(bits, v); }

// A stream's running softmax. Scores of four tokens by four heads are dealt to the stream's lanes,
// so that each lane keeps one head's maximum and total and takes one exponential a batch; the
// weighted sums are a lane's own four features of all four heads.
template <int kHeadDim>
struct Running {
  static constexpr int kLanes = kHeadDim / 4;
  static constexpr int kTokenBit = kLanes / 4;  // lanes differing in these two bits have the same
                                                // head and other tokens
  static constexpr int kHeadBit = kLanes / 16;  // lowest of the two bits of the head
  float query[kHeadsPerItem][4];
  float sum[kHeadsPerItem][4];
  float largest, total;  // of head_of(lane)

  __device__ __forceinline__ static int head_of(int lane) { return lane / kHeadBit % 4; }
  __device__ __forceinline__ static int token_of(int lane) { return lane / kTokenBit % 4; }

  __device__ __forceinline__ void start(int lane) {
#pragma unroll
    for (int h = 0; h < kHeadsPerItem; ++h) {
      const float4 q =
          *reinterpret_cast<const float4*>(shared_state().query[h] + lane % kLanes * 4);
      query[h][0] = q.x;
      query[h][1] = q.y;
      query[h][2] = q.z;
      query[h][3] = q.w;
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[h][i] = 0;
    }
    largest = -INFINITY;
    total = 0;
  }

  // Halves the values a lane holds with its partner `offset` lanes away, who keeps the other half.
  template <int kCount>
  __device__ __forceinline__ static void deal(float (&v)[16], int offset, int lane) {
    const bool upper = (lane & offset) != 0;
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) {
      const float kept = upper ? v[i + kCount / 2] : v[i];
      const float given = upper ? v[i] : v[i + kCount / 2];
      v[i] = kept + __shfl_xor_sync(~0U, given, offset);
    }
  }

  template <class T>
  __device__ __forceinline__ void add(const Batch<T>& batch, int lane) {
    const int present = batch.present;
    float score[16];  // [token, head]
#pragma unroll
    for (int t = 0; t < kBatchTokens; ++t) {
      float key[4];
      unpack(batch.keys[t], key);
#pragma unroll
      for (int h = 0; h < kHeadsPerItem; ++h) {
        float dot = query[h][0] * key[0];
#pragma unroll
        for (int i = 1; i < 4; ++i) dot = fmaf(query[h][i], key[i], dot);
        score[t * 4 + h] = dot;
      }
    }
    deal<16>(score, kLanes / 2, lane);
    deal<8>(score, kLanes / 4, lane);
    deal<4>(score, kLanes / 8, lane);
    deal<2>(score, kLanes / 16, lane);
    float own = score[0];
    if (kLanes == 32) own += __shfl_xor_sync(~0U, own, 1);
    if constexpr (std::is_same_v<T, E4M3>) own *= batch.key_scale;
    if (token_of(lane) >= present) own = -INFINITY;
    float next = fmaxf(largest, own);
    next = fmaxf(next, __shfl_xor_sync(~0U, next, kTokenBit));
    next = fmaxf(next, __shfl_xor_sync(~0U, next, 2 * kTokenBit));
    // Before the first token there is nothing to rescale (and no infinity to subtract).
    const float factor = largest == -INFINITY ? 0.0F : power_of_two(largest - next);
    const float weight = token_of(lane) < present ? power_of_two(own - next) : 0.0F;
    float weights = weight + __shfl_xor_sync(~0U, weight, kTokenBit);
    weights += __shfl_xor_sync(~0U, weights, 2 * kTokenBit);
    total = fmaf(total, factor, weights);
    largest = next;
    float carried = weight;  // by the value's numbers
    if constexpr (std::is_same_v<T, E4M3>) carried *= batch.value_scale;
    const int base = lane / kLanes * kLanes;
#pragma unroll
    for (int h = 0; h < kHeadsPerItem; ++h) {
      const float f = __shfl_sync(~0U, factor, base + h * kHeadBit);
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[h][i] *= f;
    }
#pragma unroll
    for (int t = 0; t < kBatchTokens; ++t) {
      float value[4];
      unpack(batch.values[t], value);
#pragma unroll
      for (int h = 0; h < kHeadsPerItem; ++h) {
        const float w = __shfl_sync(~0U, carried, base + t * kTokenBit + h * kHeadBit);
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[h][i] = fmaf(w, value[i], sum[h][i]);
      }
    }
  }

  // Two streams of one warp into one (head_dim 64).
  __device__ __forceinline__ void merge(int offset, int lane) {
    const float next = fmaxf(largest, __shfl_xor_sync(~0U, largest, offset));
    const float factor = largest == -INFINITY ? 0.0F : power_of_two(largest - next);
    total *= factor;
    total += __shfl_xor_sync(~0U, total, offset);
    largest = next;
    const int base = lane / kLanes * kLanes;
#pragma unroll
    for (int h = 0; h < kHeadsPerItem; ++h) {
      const float f = __shfl_sync(~0U, factor, base + h * kHeadBit);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        sum[h][i] *= f;
        sum[h][i] += __shfl_xor_sync(~0U, sum[h][i], offset);
      }
    }
  }

  __device__ __forceinline__ void store(const Args& a, int warp, int lane) const {
    if (lane >= kLanes) return;
#pragma unroll
    for (int h = 0; h < kHeadsPerItem; ++h) {
      *reinterpret_cast<float4*>(attention_sums(a) + (warp * kHeadsPerItem + h) * kHeadDim +
                                 lane * 4) =
          make_float4(sum[h][0], sum[h][1], sum[h][2], sum[h][3]);
    }
    if (token_of(lane) == 0 && lane % kHeadBit == 0) {
      shared_state().head_scale[warp][head_of(lane)] = make_float2(largest, total);
    }
  }
};

}  // namespace qf::cuda::decode
