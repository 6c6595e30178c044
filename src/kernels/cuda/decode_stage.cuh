#pragma once

#include "decode_words.cuh"
#include "hopper.cuh"

// Activations into shared memory as the right operand of wgmma.
//
// A core matrix holds 16 columns of k for 8 columns of N, 16 bytes each. Block b (16 columns of k)
// of a chunk stands in core matrix b, its E4M3 terms in columns of its own: high in 2 (b mod 4),
// middle in the next, low in column 2 (b mod 4) of the second half of N, x_area bytes further. All
// other columns stay zero, so that a product of four blocks comes out with the blocks side by side,
// where each can be multiplied by its own scale.
namespace qf::cuda::decode {

// x as a power of two times E4M3 terms: high + middle 2^-5 + low 2^-10.
struct Terms {
  std::uint32_t high, middle, low;
};
__device__ __forceinline__ Terms terms_of(float x0, float x1, float scale) {
  Terms t;
  x0 *= scale;
  x1 *= scale;
  t.high = floats_to_e4m3x2(x0, x1);
  float2 back = e4m3x2_to_floats(t.high);
  x0 = (x0 - back.x) * 32.0F;
  x1 = (x1 - back.y) * 32.0F;
  t.middle = floats_to_e4m3x2(x0, x1);
  back = e4m3x2_to_floats(t.middle);
  t.low = floats_to_e4m3x2((x0 - back.x) * 32.0F, (x1 - back.y) * 32.0F);
  return t;
}

// The power of two that brings `largest` (bits of a magnitude) to [128, 256), and its inverse.
struct Power {
  float scale, inverse;
};
__device__ __forceinline__ Power power_for(std::uint32_t largest) {
  const std::uint32_t exponent = min(max(largest >> 23, 20U), 220U);
  return {__uint_as_float((261U - exponent) << 23), __uint_as_float((exponent - 7U) << 23)};
}

template <int kCount>
__device__ __forceinline__ std::uint32_t largest_bits(const float (&v)[kCount]) {
  std::uint32_t bits = 0;  // compared as integers, NaN and infinity are the largest
#pragma unroll
  for (int i = 0; i < kCount; ++i) bits = max(bits, __float_as_uint(v[i]) & 0x7FFFFFFFU);
  return __reduce_max_sync(~0U, bits);
}

// A warp's 256 values, eight a lane, as one chunk. Returns the bits of the largest magnitude.
__device__ __forceinline__ std::uint32_t stage_chunk(const Args& a, int chunk, int lane,
                                                     const float (&v)[8]) {
  const std::uint32_t largest = largest_bits(v);
  const Power power = power_for(largest);
  std::uint32_t high[2], middle[2], low[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const Terms t = terms_of(v[4 * i], v[4 * i + 1], power.scale);
    const Terms u = terms_of(v[4 * i + 2], v[4 * i + 3], power.scale);
    high[i] = t.high | u.high << 16;
    middle[i] = t.middle | u.middle << 16;
    low[i] = t.low | u.low << 16;
  }
  const int block = lane >> 1;
  std::uint8_t* const p =
      staged_x(a) + chunk * kXChunkBytes + block * 128 + (block & 3) * 32 + (lane & 1) * 8;
  *reinterpret_cast<uint2*>(p) = make_uint2(high[0], high[1]);
  *reinterpret_cast<uint2*>(p + 16) = make_uint2(middle[0], middle[1]);
  *reinterpret_cast<uint2*>(p + a.x_chunks * kXChunkBytes) = make_uint2(low[0], low[1]);
  if (lane == 0)
    shared_state().x_scale[2 * chunk] = shared_state().x_scale[2 * chunk + 1] = power.inverse;
  return largest;
}

// The same for 128 values, four a lane, as half a chunk.
__device__ __forceinline__ std::uint32_t stage_half(const Args& a, int half, int lane,
                                                    const float (&v)[4]) {
  const std::uint32_t largest = largest_bits(v);
  const Power power = power_for(largest);
  const Terms t = terms_of(v[0], v[1], power.scale);
  const Terms u = terms_of(v[2], v[3], power.scale);
  const int block = lane >> 2;
  std::uint8_t* const p =
      staged_x(a) + half * (kXChunkBytes / 2) + block * 128 + (block & 3) * 32 + (lane & 3) * 4;
  *reinterpret_cast<std::uint32_t*>(p) = t.high | u.high << 16;
  *reinterpret_cast<std::uint32_t*>(p + 16) = t.middle | u.middle << 16;
  *reinterpret_cast<std::uint32_t*>(p + a.x_chunks * kXChunkBytes) = t.low | u.low << 16;
  if (lane == 0) shared_state().x_scale[half] = power.inverse;
  return largest;
}

// Eight neighbours of the token's embedding.
__device__ __forceinline__ void load_embedding(const Args& a, int element, float (&v)[8]) {
  const std::int64_t row = *a.step.token;
  const uint4 bits =
      *reinterpret_cast<const uint4*>(a.model.embed_tokens + row * a.model.hidden + element);
  const std::uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    v[2 * i] = __uint_as_float(words[i] << 16);
    v[2 * i + 1] = __uint_as_float(words[i] & 0xFFFF0000U);
  }
}

// Eight neighbours of the stream, once all additions that come before the phase are there.
__device__ __forceinline__ void load_stream(const Args& a, const Phase& p, int element,
                                            float (&v)[8]) {
  const int tile = element / kTileRows;
  const std::uint32_t of_o = shared_state().o_adds[tile];
  const std::uint32_t layer_adds = of_o + shared_state().down_adds[tile];
  const std::uint32_t count =
      (1U + static_cast<std::uint32_t>(p.layer) * layer_adds + (p.type == kGateUp ? of_o : 0U)) &
      kCountMask;
  const auto* const source = reinterpret_cast<const uint4*>(a.space.stream + element);
  Patience patience{a, p.number};
  // One word of the tile first, by one lane: blocks that all read everything over and over would
  // be in the way of what they wait for.
  bool ready = true;
  if (element % kTileRows == 0) {
    while ((load_relaxed(source).x & kCountMask) != count && patience.more()) {
    }
  }
  __syncwarp(__activemask());
  do {
    uint4 words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) words[i] = load_relaxed(source + i);
    ready = true;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      ready = ready && ((words[i].x ^ count) & kCountMask) == 0 &&
              ((words[i].z ^ count) & kCountMask) == 0;
      const unsigned long long low = static_cast<unsigned long long>(words[i].y) << 32 | words[i].x;
      const unsigned long long high =
          static_cast<unsigned long long>(words[i].w) << 32 | words[i].z;
      v[2 * i] = stream_value(low);
      v[2 * i + 1] = stream_value(high);
    }
  } while (!ready && patience.more());
}

__device__ __forceinline__ const float* norm_of(const Args& a, const Phase& p) {
  if (p.type == kHead) return a.model.norm;
  return shared_state().layers[p.layer].norm[p.type == kQkv ? 0 : 1];
}

// What a warp stages of the stream: loaded before the block has finished with the activations of
// the phase before, staged after it.
struct StreamShare {
  static constexpr int kRounds =
      (kDecodeMaxHidden / kChunkCols + kConsumerWarps - 1) / kConsumerWarps;
  float v[8], norm[8];

  __device__ __forceinline__ static int element(int warp, int round, int lane) {
    return (warp + round * kConsumerWarps) * kChunkCols + lane * 8;
  }
  __device__ __forceinline__ void load(const Args& a, const Phase& p, int element) {
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = norm[i] = 0;
    if (element >= a.model.hidden) return;
    const auto* const source = reinterpret_cast<const float4*>(norm_of(a, p) + element);
    const float4 low = source[0];
    const float4 high = source[1];
    if (p.number == 0) {
      load_embedding(a, element, v);
    } else {
      load_stream(a, p, element, v);
    }
    norm[0] = low.x;
    norm[1] = low.y;
    norm[2] = low.z;
    norm[3] = low.w;
    norm[4] = high.x;
    norm[5] = high.y;
    norm[6] = high.z;
    norm[7] = high.w;
  }
  // Times the norm's weights; 1/rms is applied to the sums, so that the norm needs no second pass.
  __device__ __forceinline__ void stage(const Args& a, const Phase& p, int chunk, int lane) {
    float squares = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      squares = fmaf(v[i], v[i], squares);
      v[i] *= norm[i];
    }
    const std::uint32_t largest = stage_chunk(a, chunk, lane, v);
    squares = warp_sum(squares);
    if (lane != 0) return;
    shared_state().square[chunk] = squares;
    // 2^60: far beyond what the fixed-point stream holds, times a norm's weight.
    if (largest >= (127U + 60U) << 23) report_non_finite(a, p.number);
  }
};

// Attention's output: the splits of a head put together, a batch of them on their way at a time.
template <int kHeadDim>
__device__ __forceinline__ void load_attended(const Args& a, const Phase& p, int splits,
                                              int element, float (&v)[4]) {
  constexpr int kBatch = 4;
  v[0] = v[1] = v[2] = v[3] = 0;
  const int head = element / kHeadDim;
  if (head >= a.model.heads) return;
  const std::uint32_t tag = tag_of(a, p.layer);
  const int kv_head = head / a.group;
  const int in_group = head - kv_head * a.group;
  const int item = kv_head * a.subgroups + in_group / kHeadsPerItem;
  const int place = item * a.splits * kHeadsPerItem + in_group % kHeadsPerItem;
  const uint2* const scales = a.space.attended_scale + place;
  const std::uint32_t* const sums =
      a.space.attended + std::int64_t{place} * kHeadDim + element % kHeadDim;
  Patience patience{a, p.number};
  float largest = -INFINITY;
  float total = 0;
  for (int first = 0; first < splits; first += kBatch) {
    uint2 scale[kBatch];
    uint4 sum[kBatch];
    bool ready = true;
    do {
      ready = true;
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        if (first + i >= splits) continue;
        scale[i] = load_relaxed(scales + (first + i) * kHeadsPerItem);
        sum[i] = load_relaxed(
            reinterpret_cast<const uint4*>(sums + (first + i) * (kHeadsPerItem * kHeadDim)));
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        if (first + i < splits) ready = ready && has_tag(scale[i], tag) && has_tag(sum[i], tag);
      }
    } while (!ready && patience.more());
    float next = largest;
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (first + i < splits) next = fmaxf(next, untagged(scale[i].x));
    }
    const float factor = first == 0 ? 0.0F : exp2f(largest - next);
    largest = next;
    total *= factor;
#pragma unroll
    for (int i = 0; i < 4; ++i) v[i] *= factor;
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      if (first + i >= splits) continue;
      const float weight = exp2f(untagged(scale[i].x) - largest);
      total = fmaf(weight, untagged(scale[i].y), total);
      v[0] = fmaf(weight, untagged(sum[i].x), v[0]);
      v[1] = fmaf(weight, untagged(sum[i].y), v[1]);
      v[2] = fmaf(weight, untagged(sum[i].z), v[2]);
      v[3] = fmaf(weight, untagged(sum[i].w), v[3]);
    }
  }
  const float inverse = 1.0F / total;
#pragma unroll
  for (int i = 0; i < 4; ++i) v[i] *= inverse;
}

__device__ __forceinline__ float silu(float x) { return __fdividef(x, 1.0F + __expf(-x)); }

__device__ __forceinline__ void load_swiglu(const Args& a, const Phase& p, int element,
                                            float (&v)[4]) {
  v[0] = v[1] = v[2] = v[3] = 0;
  if (element >= a.model.intermediate) return;
  const std::uint32_t tag = tag_of(a, p.layer);
  const std::int64_t stride = std::int64_t{2} * a.gate_tiles * kTileRows;
  const int tile = element / kTileRows;
  TaggedRows gate, up;
  gate.set(a.space.gate_up + element, stride, shared_state().gate_up_parts[tile]);
  up.set(a.space.gate_up + a.gate_tiles * kTileRows + element, stride,
         shared_state().gate_up_parts[a.gate_tiles + tile]);
  Patience patience{a, p.number};
  do {
    gate.load();
    up.load();
  } while (!(gate.complete(tag) && up.complete(tag)) && patience.more());
  const float4 g = gate.sum(tag, patience);
  const float4 u = up.sum(tag, patience);
  v[0] = silu(g.x) * u.x;
  v[1] = silu(g.y) * u.y;
  v[2] = silu(g.z) * u.z;
  v[3] = silu(g.w) * u.w;
}

// What the chunks of a pass of o or down read, in their order; by halves of a chunk.
struct Columns {
  int first, last;  // chunks
  int chunks_per_tile;
  __device__ __forceinline__ int halves() const { return 2 * (last - first); }
  __device__ __forceinline__ int element(int half, int lane) const {
    return (first + half / 2) % chunks_per_tile * kChunkCols + half % 2 * (kChunkCols / 2) +
           lane * 4;
  }
};

template <int kHeadDim>
__device__ __forceinline__ void load_columns(const Args& a, const Phase& p, int splits, int element,
                                             float (&v)[4]) {
  if (p.type == kO) {
    load_attended<kHeadDim>(a, p, splits, element, v);
  } else {
    load_swiglu(a, p, element, v);
  }
}

__device__ __forceinline__ void stage_columns(const Args& a, const Phase& p, int half, int lane,
                                              const float (&v)[4]) {
  const std::uint32_t largest = stage_half(a, half, lane, v);
  if (lane == 0 && largest >= 221U << 23) report_non_finite(a, p.number);
}

}  // namespace qf::cuda::decode
