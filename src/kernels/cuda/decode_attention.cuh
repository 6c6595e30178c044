#pragma once

#include "decode_args.cuh"
#include "decode_stage.cuh"

// The attention phase: a block takes one item (up to four query heads of one key/value head) and
// one split of the cached tokens, and leaves sums for load_attended(). Flash decoding: a stream of
// head_dim / 8 lanes reads a token's key and value, 16 bytes a lane, and keeps its own running
// maximum.
namespace qf::cuda::decode {

struct AttentionShared {
  float* query;   // [kHeadsPerItem, head_dim], scaled by log2(e) / sqrt(head_dim)
  float2* scale;  // [kConsumerWarps, kHeadsPerItem] maximum, sum of exp
  float* sums;    // [kConsumerWarps, kHeadsPerItem, head_dim]: lies over the staged activations
};

// The unused columns of the staged activations must be zero again when the next phase stages.
template <int kHeadDim>
__device__ __forceinline__ void clear_sums(const AttentionShared& shared, int thread) {
  constexpr int kVectors = kConsumerWarps * kHeadsPerItem * kHeadDim / 4;
  for (int i = thread; i < kVectors; i += kConsumers) {
    reinterpret_cast<float4*>(shared.sums)[i] = make_float4(0, 0, 0, 0);
  }
}

// One head of q, k or v from the qkv phase's parts: E / 32 neighbours a lane.
template <int kHeadDim>
__device__ __forceinline__ void load_head(const Args& a, const std::uint8_t* parts, int row,
                                          int lane, float (&v)[kHeadDim / 32]) {
  const std::int64_t stride = std::int64_t{qkv_tiles(a)} * kStreamRows;
  const int first = row + lane * (kHeadDim / 32);
  const int count = parts[first / static_cast<int>(kStreamRows)];
#pragma unroll
  for (int i = 0; i < kHeadDim / 32; ++i) v[i] = __ldcg(a.space.qkv + first + i);
  for (int part = 1; part < count; ++part) {
#pragma unroll
    for (int i = 0; i < kHeadDim / 32; ++i) v[i] += __ldcg(a.space.qkv + part * stride + first + i);
  }
}

// RMS norm over the head (when the model has one), then RoPE: feature i with feature i + E/2.
template <int kHeadDim>
__device__ __forceinline__ void norm_and_rotate(const Args& a, const float* weight, int lane,
                                                float (&v)[kHeadDim / 32]) {
  constexpr int kOwn = kHeadDim / 32;
  const int first = lane * kOwn;
  if (weight != nullptr) {
    float squares = 0;
#pragma unroll
    for (int i = 0; i < kOwn; ++i) squares = fmaf(v[i], v[i], squares);
    const float inverse =
        1.0F / sqrtf(warp_sum(squares) / static_cast<float>(kHeadDim) + a.model.rms_norm_eps);
#pragma unroll
    for (int i = 0; i < kOwn; ++i) v[i] = v[i] * inverse * weight[first + i];
  }
  const std::int64_t row = a.step.position * (kHeadDim / 2);
  const bool low = lane < 16;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const float other = __shfl_xor_sync(~0U, v[i], 16);
    const int feature = (first + i) % (kHeadDim / 2);
    const float cosine = a.model.rope_cos[row + feature];
    const float sine = a.model.rope_sin[row + feature];
    v[i] = v[i] * cosine + (low ? -other : other) * sine;
  }
}

template <int kHeadDim>
__device__ __forceinline__ void store_head(__nv_bfloat16* out, int lane,
                                           const float (&v)[kHeadDim / 32]) {
#pragma unroll
  for (int i = 0; i < kHeadDim / 32; ++i) {
    out[lane * (kHeadDim / 32) + i] = __float2bfloat16_rn(v[i]);
  }
}

// The queries into shared memory and, for the split that ends with it, the new token into the
// cache (blocks that share a key/value head write the same bits). Warps 0..3 have the queries, warp
// 4 the key, warp 5 the value.
template <int kHeadDim>
__device__ __forceinline__ void prepare_heads(const Args& a, const Phase& p,
                                              const std::uint8_t* parts, int item, bool newest,
                                              const AttentionShared& shared, int warp, int lane) {
  const DecodeLayer& layer = a.model.layer[p.layer];
  const int group = a.model.heads / a.model.kv_heads;
  const int kv_head = item / a.subgroups;
  const int in_group = item % a.subgroups * kHeadsPerItem + warp;
  float v[kHeadDim / 32];
  if (warp < kHeadsPerItem) {
#pragma unroll
    for (int i = 0; i < kHeadDim / 32; ++i) v[i] = 0;
    if (in_group < group) {
      load_head<kHeadDim>(a, parts, (kv_head * group + in_group) * kHeadDim, lane, v);
      norm_and_rotate<kHeadDim>(a, layer.q_norm, lane, v);
    }
    const float scale = 1.44269504088896340736F / sqrtf(static_cast<float>(kHeadDim));
#pragma unroll
    for (int i = 0; i < kHeadDim / 32; ++i) {
      shared.query[warp * kHeadDim + lane * (kHeadDim / 32) + i] = v[i] * scale;
    }
  } else if (newest && warp < kHeadsPerItem + 2) {
    const bool key = warp == kHeadsPerItem;
    const int tile = key ? a.q_tiles : a.q_tiles + a.kv_tiles;
    load_head<kHeadDim>(a, parts, tile * static_cast<int>(kStreamRows) + kv_head * kHeadDim, lane,
                        v);
    if (key) norm_and_rotate<kHeadDim>(a, layer.k_norm, lane, v);
    const std::int64_t place =
        ((p.layer * a.model.context + a.step.position) * a.model.kv_heads + kv_head) * kHeadDim;
    store_head<kHeadDim>((key ? a.model.keys : a.model.values) + place, lane, v);
  }
}

__device__ __forceinline__ void unpack_bf16(const uint4& bits, float (&v)[8]) {
  const std::uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    v[2 * i] = __uint_as_float(words[i] << 16);
    v[2 * i + 1] = __uint_as_float(words[i] & 0xFFFF0000U);
  }
}

// A stream's running softmax of four heads over a lane's eight features.
struct Running {
  float largest[kHeadsPerItem];
  float total[kHeadsPerItem];
  float sum[kHeadsPerItem][8];
};

template <int kCount>
__device__ __forceinline__ void add_tokens(const float (&query)[kHeadsPerItem][8],
                                           const uint4 (&keys)[kCount],
                                           const uint4 (&values)[kCount], int present, int lanes,
                                           Running& run) {
  float score[kCount][kHeadsPerItem];
#pragma unroll
  for (int t = 0; t < kCount; ++t) {
    float key[8];
    unpack_bf16(keys[t], key);
#pragma unroll
    for (int h = 0; h < kHeadsPerItem; ++h) {
      float dot = 0;
#pragma unroll
      for (int i = 0; i < 8; ++i) dot = fmaf(query[h][i], key[i], dot);
      for (int offset = lanes / 2; offset > 0; offset /= 2) {
        dot += __shfl_xor_sync(~0U, dot, offset);
      }
      score[t][h] = t < present ? dot : -INFINITY;
    }
  }
#pragma unroll
  for (int h = 0; h < kHeadsPerItem; ++h) {
    float largest = run.largest[h];
#pragma unroll
    for (int t = 0; t < kCount; ++t) largest = fmaxf(largest, score[t][h]);
    // Without a token so far there is nothing to rescale (and no infinity to subtract).
    const float factor = run.largest[h] == -INFINITY ? 0.0F : exp2f(run.largest[h] - largest);
    run.largest[h] = largest;
    run.total[h] *= factor;
#pragma unroll
    for (int i = 0; i < 8; ++i) run.sum[h][i] *= factor;
#pragma unroll
    for (int t = 0; t < kCount; ++t) {
      score[t][h] = t < present ? exp2f(score[t][h] - largest) : 0.0F;
      run.total[h] += score[t][h];
    }
  }
#pragma unroll
  for (int t = 0; t < kCount; ++t) {
    float value[8];
    unpack_bf16(values[t], value);
#pragma unroll
    for (int h = 0; h < kHeadsPerItem; ++h) {
#pragma unroll
      for (int i = 0; i < 8; ++i) run.sum[h][i] = fmaf(score[t][h], value[i], run.sum[h][i]);
    }
  }
}

// Two streams of one warp into one; both halves end with the same.
__device__ __forceinline__ void merge_streams(int offset, Running& run) {
#pragma unroll
  for (int h = 0; h < kHeadsPerItem; ++h) {
    const float other = __shfl_xor_sync(~0U, run.largest[h], offset);
    const float largest = fmaxf(run.largest[h], other);
    const float factor = run.largest[h] == -INFINITY ? 0.0F : exp2f(run.largest[h] - largest);
    run.largest[h] = largest;
    run.total[h] *= factor;
    run.total[h] += __shfl_xor_sync(~0U, run.total[h], offset);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      run.sum[h][i] *= factor;
      run.sum[h][i] += __shfl_xor_sync(~0U, run.sum[h][i], offset);
    }
  }
}

// Tokens first .. last - 1 of a key/value head, dealt to all streams of the block in turn.
template <int kHeadDim>
__device__ __forceinline__ void attend(const Args& a, const Phase& p, int kv_head, int first,
                                       int last, const AttentionShared& shared, int warp,
                                       int lane) {
  constexpr int kLanes = kHeadDim / 8;
  constexpr int kStreamsPerWarp = 32 / kLanes;
  constexpr int kStreams = kConsumerWarps * kStreamsPerWarp;
  constexpr int kUnroll = 4;
  const int feature = lane % kLanes * 8;
  float query[kHeadsPerItem][8];
#pragma unroll
  for (int h = 0; h < kHeadsPerItem; ++h) {
    const auto* const source =
        reinterpret_cast<const float4*>(shared.query + h * kHeadDim + feature);
    const float4 low = source[0];
    const float4 high = source[1];
    const float values[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
    for (int i = 0; i < 8; ++i) query[h][i] = values[i];
  }
  Running run;
#pragma unroll
  for (int h = 0; h < kHeadsPerItem; ++h) {
    run.largest[h] = -INFINITY;
    run.total[h] = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) run.sum[h][i] = 0;
  }
  const std::int64_t stride = std::int64_t{a.model.kv_heads} * kHeadDim;
  const std::int64_t place =
      p.layer * a.model.context * stride + std::int64_t{kv_head} * kHeadDim + feature;
  // The same number of rounds for all streams of a warp, which shuffle together.
  for (int base = first + warp * kStreamsPerWarp; base < last; base += kUnroll * kStreams) {
    uint4 keys[kUnroll], values[kUnroll];
    int present = 0;
#pragma unroll
    for (int t = 0; t < kUnroll; ++t) {
      const int token = base + lane / kLanes + t * kStreams;
      keys[t] = values[t] = make_uint4(0, 0, 0, 0);
      if (token < last) {
        const std::int64_t at = place + token * stride;
        keys[t] = __ldcg(reinterpret_cast<const uint4*>(a.model.keys + at));
        values[t] = __ldcg(reinterpret_cast<const uint4*>(a.model.values + at));
        present = t + 1;
      }
    }
    add_tokens(query, keys, values, present, kLanes, run);
  }
#pragma unroll
  for (int offset = kLanes; offset < 32; offset *= 2) merge_streams(offset, run);
  if (lane < kLanes) {
#pragma unroll
    for (int h = 0; h < kHeadsPerItem; ++h) {
      float* const out = shared.sums + (warp * kHeadsPerItem + h) * kHeadDim + feature;
#pragma unroll
      for (int i = 0; i < 8; ++i) out[i] = run.sum[h][i];
      if (lane == 0) {
        shared.scale[warp * kHeadsPerItem + h] = make_float2(run.largest[h], run.total[h]);
      }
    }
  }
}

// The warps' sums put together, in their order, into the workspace.
template <int kHeadDim>
__device__ __forceinline__ void store_attended(const Args& a, int item, int split,
                                               const AttentionShared& shared, int thread) {
  for (int i = thread; i < kHeadsPerItem * kHeadDim; i += kConsumers) {
    const int h = i / kHeadDim;
    float largest = -INFINITY;
    for (int w = 0; w < kConsumerWarps; ++w) {
      largest = fmaxf(largest, shared.scale[w * kHeadsPerItem + h].x);
    }
    float total = 0;
    float sum = 0;
    for (int w = 0; w < kConsumerWarps; ++w) {
      const float2 scale = shared.scale[w * kHeadsPerItem + h];
      const float factor = scale.x == -INFINITY ? 0.0F : exp2f(scale.x - largest);
      total = fmaf(factor, scale.y, total);
      sum = fmaf(factor, shared.sums[w * kHeadsPerItem * kHeadDim + i], sum);
    }
    const std::int64_t place = (std::int64_t{item} * a.splits + split) * kHeadsPerItem + h;
    a.space.attended[place * kHeadDim + i % kHeadDim] = sum;
    if (i % kHeadDim == 0) a.space.attended_scale[place] = make_float2(largest, total);
  }
}

template <int kHeadDim>
__device__ __forceinline__ void attention_phase(const Args& a, const Phase& p,
                                                const std::uint8_t* qkv_parts,
                                                const AttentionShared& shared, int thread) {
  const int items = a.model.kv_heads * a.subgroups;
  const int item = static_cast<int>(blockIdx.x) % items;
  const int number = static_cast<int>(blockIdx.x) / items;
  const Split split = split_of(a);
  if (number >= split.count) return;  // the whole block
  const int tokens = static_cast<int>(a.step.position) + 1;
  const int first = number * split.tokens;
  const int last = min(tokens, first + split.tokens);
  const int warp = thread / 32;
  const int lane = thread % 32;
  prepare_heads<kHeadDim>(a, p, qkv_parts, item, last == tokens, shared, warp, lane);
  named_barrier<kConsumers>();
  attend<kHeadDim>(a, p, item / a.subgroups, first, last, shared, warp, lane);
  named_barrier<kConsumers>();
  store_attended<kHeadDim>(a, item, number, shared, thread);
}

}  // namespace qf::cuda::decode
