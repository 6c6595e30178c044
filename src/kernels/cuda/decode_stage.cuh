#pragma once

#include "decode_words.cuh"
#include "hopper.cuh"
#include "kv_row.cuh"
#include "qwen3fp4/kernels/int8_digits.h"

// Activations into shared memory as the right operand of wgmma, in two areas of x_chunks * 2048
// bytes. A core matrix holds 16 columns of k for 8 columns of N, 16 bytes each. The columns of N
// are for blocks of k that have scales of their own, and for the terms of an activation; all other
// columns stay zero, so that a product comes out with the blocks side by side, where each can be
// multiplied by its scale.
//
// For NVFP4 (TermStaging) block b (16 columns of k) of a chunk stands in core matrix b, its E4M3
// terms in columns of its own: high in 2 (b mod 4), middle in the next, low in column 2 (b mod 4)
// of the second half of N, which is the second area.
//
// For NF4 (DigitStaging) block b (64 columns of k) stands in core matrices 4b .. 4b + 3, its three
// int8 digits in columns 4 (b mod 2) on, the most significant first. The second area is another
// operand: what the fine bytes of the weights (kernels/nf4_table.h) are multiplied by, the same
// activations times the fine step. Core matrices 2s and 2s + 1 are for the 32 columns of a k-step:
// bytes 4t .. 4t + 3 of both for columns 8t .. 8t + 7, which are one word of the weights.
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
  float2 back = e4m3_pair(t.high);
  x0 = (x0 - back.x) * 32.0F;
  x1 = (x1 - back.y) * 32.0F;
  t.middle = floats_to_e4m3x2(x0, x1);
  back = e4m3_pair(t.middle);
  t.low = floats_to_e4m3x2((x0 - back.x) * 32.0F, (x1 - back.y) * 32.0F);
  return t;
}

// A power of two and its inverse.
struct Power {
  float scale, inverse;
};

// How a warp stages its 256 values, eight a lane, as one chunk. `largest`: the bits of the largest
// magnitude. Returns what the sums are to be multiplied by.
struct TermStaging {
  // Brings `largest` to [128, 256).
  __device__ __forceinline__ static Power power_for(std::uint32_t largest) {
    const std::uint32_t exponent = min(max(largest >> 23, 20U), 220U);
    return {__uint_as_float((261U - exponent) << 23), __uint_as_float((exponent - 7U) << 23)};
  }
  __device__ __forceinline__ static float stage(const Args& a, int chunk, int lane,
                                                std::uint32_t largest, const float (&v)[8]) {
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
    return power.inverse;
  }
};

struct DigitStaging {
  // Brings `largest` to [2^20, 2^21): times a fine step, which is below 2, it stays below 2^22.
  __device__ __forceinline__ static Power power_for(std::uint32_t largest) {
    const std::uint32_t exponent = min(max(largest >> 23, 21U), 220U);
    return {__uint_as_float((274U - exponent) << 23), __uint_as_float((exponent - 20U) << 23)};
  }
  __device__ __forceinline__ static void store(std::uint8_t* p, float scale, const float (&v)[8]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      std::uint32_t words[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        words[j] = int8_digits(fmaf(v[4 * i + j], scale, kIntegerStart));
      }
      // Bytes 2, 1 and 0 of all four: the digits.
      const std::uint32_t low[2] = {permuted(words[0], words[1], 0x5140U),
                                    permuted(words[2], words[3], 0x5140U)};
      const std::uint32_t high[2] = {permuted(words[0], words[1], 0x6262U),
                                     permuted(words[2], words[3], 0x6262U)};
      auto* const column = reinterpret_cast<std::uint32_t*>(p + i * 128);
      column[0] = permuted(high[0], high[1], 0x5410U);
      column[4] = permuted(low[0], low[1], 0x7632U);
      column[8] = permuted(low[0], low[1], 0x5410U);
    }
  }
  __device__ __forceinline__ static float stage(const Args& a, int chunk, int lane,
                                                std::uint32_t largest, const float (&v)[8]) {
    const Power power = power_for(largest);
    std::uint8_t* const p = staged_x(a) + chunk * kXChunkBytes + (lane >> 2) * 256 +
                            (lane >> 3 & 1) * 64 + (lane & 3) * 4;
    store(p, power.scale, v);
    store(p + a.x_chunks * kXChunkBytes, power.scale * a.nf4.fine_step, v);
    return power.inverse;
  }
};

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
  bool ready = true;
  // One word of the tile first, by one lane: blocks that all read everything over and over would
  // be in the way of what they wait for.
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

// For comparisons: the stream as the phase found it, by the last block (which has chunks in every
// phase, also of small models).
__device__ __forceinline__ void keep_hidden(const Args& a, const Phase& p, int element,
                                            const float (&v)[8]) {
  if (a.step.hidden == nullptr || blockIdx.x != gridDim.x - 1) return;
  if (p.layer == 0 || p.type == kGateUp) return;
  float* const out = a.step.hidden + std::int64_t{p.layer - 1} * a.model.hidden + element;
#pragma unroll
  for (int i = 0; i < 8; ++i) out[i] = v[i];
}

// Times the norm's weights; 1/rms is applied to the sums, so that the norm needs no second pass.
// Returns the lane's sum of squares.
__device__ __forceinline__ float load_normed(const Args& a, const Phase& p, int element,
                                             float (&v)[8]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = 0;
  if (element >= a.model.hidden) return 0;
  const auto* const source = reinterpret_cast<const float4*>(norm_of(a, p) + element);
  const float4 low = source[0];
  const float4 high = source[1];
  if (p.number == 0) {
    load_embedding(a, element, v);
  } else {
    load_stream(a, p, element, v);
  }
  keep_hidden(a, p, element, v);
  float squares = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) squares = fmaf(v[i], v[i], squares);
  v[0] *= low.x;
  v[1] *= low.y;
  v[2] *= low.z;
  v[3] *= low.w;
  v[4] *= high.x;
  v[5] *= high.y;
  v[6] *= high.z;
  v[7] *= high.w;
  return squares;
}

// Attention's output: the splits of a head put together, a batch of them on their way at a time.
template <int kHeadDim>
__device__ __forceinline__ void load_attended(const Args& a, const Phase& p, int splits,
                                              int element, float (&v)[8]) {
  constexpr int kBatch = 4;
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = 0;
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
    uint4 low[kBatch], high[kBatch];
    bool ready = true;
    do {
      ready = true;
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const int split = first + i;
        const auto* const sum =
            reinterpret_cast<const uint4*>(sums + split * (kHeadsPerItem * kHeadDim));
        // Past the end: ready, and of no weight.
        const uint4 none = make_uint4(tag, tag, tag, tag);
        scale[i] = split < splits ? load_relaxed(scales + split * kHeadsPerItem)
                                  : make_uint2(tagged(-INFINITY, tag), tag);
        low[i] = split < splits ? load_relaxed(sum) : none;
        high[i] = split < splits ? load_relaxed(sum + 1) : none;
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        ready = ready && has_tag(scale[i], tag) && has_tag(low[i], tag) && has_tag(high[i], tag);
      }
    } while (!ready && patience.more());
    float next = largest;
#pragma unroll
    for (int i = 0; i < kBatch; ++i) next = fmaxf(next, untagged(scale[i].x));
    const float factor = first == 0 ? 0.0F : power_of_two(largest - next);
    largest = next;
    total *= factor;
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] *= factor;
#pragma unroll
    for (int i = 0; i < kBatch; ++i) {
      const float weight = power_of_two(untagged(scale[i].x) - largest);
      total = fmaf(weight, untagged(scale[i].y), total);
      const std::uint32_t words[8] = {low[i].x,  low[i].y,  low[i].z,  low[i].w,
                                      high[i].x, high[i].y, high[i].z, high[i].w};
#pragma unroll
      for (int j = 0; j < 8; ++j) v[j] = fmaf(weight, untagged(words[j]), v[j]);
    }
  }
  const float inverse = __fdividef(1.0F, total);
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] *= inverse;
}

__device__ __forceinline__ float silu(float x) { return __fdividef(x, 1.0F + __expf(-x)); }

// Four neighbours of a product, of which the blocks that share their tile have a part each.
struct TaggedRows {
  const std::uint32_t* rows;
  std::int64_t stride;
  int parts;

  __device__ __forceinline__ uint4 load(int part, int quad) const {
    return load_relaxed(reinterpret_cast<const uint4*>(rows + part * stride) + quad);
  }
};

__device__ __forceinline__ void add_untagged(const uint4& words, float (&v)[8], int quad) {
  v[4 * quad] += untagged(words.x);
  v[4 * quad + 1] += untagged(words.y);
  v[4 * quad + 2] += untagged(words.z);
  v[4 * quad + 3] += untagged(words.w);
}

__device__ __forceinline__ void load_swiglu(const Args& a, const Phase& p, int element,
                                            float (&v)[8]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = 0;
  if (element >= a.model.intermediate) return;
  const std::uint32_t tag = tag_of(a, p.layer);
  const std::int64_t stride = std::int64_t{2} * a.gate_tiles * kTileRows;
  const int tile = element / kTileRows;
  const TaggedRows gate{a.space.gate_up + element, stride, shared_state().gate_up_parts[tile]};
  const TaggedRows up{gate.rows + a.gate_tiles * kTileRows, stride,
                      shared_state().gate_up_parts[a.gate_tiles + tile]};
  float u[8] = {};
  Patience patience{a, p.number};
  // Both at once, as many parts as most tiles have.
  constexpr int kAtATime = 2;
  for (int first = 0; first < max(gate.parts, up.parts); first += kAtATime) {
    uint4 of_gate[kAtATime][2], of_up[kAtATime][2];
    bool ready = true;
    do {
      ready = true;
#pragma unroll
      for (int k = 0; k < kAtATime; ++k) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const uint4 none = make_uint4(tag, tag, tag, tag);
          of_gate[k][i] = first + k < gate.parts ? gate.load(first + k, i) : none;
          of_up[k][i] = first + k < up.parts ? up.load(first + k, i) : none;
        }
      }
#pragma unroll
      for (int k = 0; k < kAtATime; ++k) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          ready = ready && has_tag(of_gate[k][i], tag) && has_tag(of_up[k][i], tag);
        }
      }
    } while (!ready && patience.more());
#pragma unroll
    for (int k = 0; k < kAtATime; ++k) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        add_untagged(of_gate[k][i], v, i);
        add_untagged(of_up[k][i], u, i);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = silu(v[i]) * u[i];
}

// Eight neighbours a lane of what a phase reads: of the normed stream, of attention's output, or of
// the gated product. Returns the stream's squares (else 0).
template <int kHeadDim>
__device__ __forceinline__ float load_inputs(const Args& a, const Phase& p, int element,
                                             float (&v)[8]) {
  if (p.reads_stream()) return load_normed(a, p, element, v);
  if (p.type == kO) {
    load_attended<kHeadDim>(a, p, shared_state().share.splits, element, v);
  } else {
    load_swiglu(a, p, element, v);
  }
  return 0;
}

template <class Staging>
__device__ __forceinline__ void stage_inputs(const Args& a, const Phase& p, int chunk, int lane,
                                             const float (&v)[8], float squares) {
  const std::uint32_t largest = largest_magnitude(v);
  const float scale = Staging::stage(a, chunk, lane, largest, v);
  if (lane == 0) shared_state().x_scale[chunk] = scale;
  if (p.reads_stream()) squares = warp_sum(squares);
  if (lane != 0) return;
  if (p.reads_stream()) shared_state().square[chunk] = squares;
  // 2^60 is far beyond what the fixed-point stream holds, times a norm's weight; 2^94 what other
  // inputs may be.
  if (largest >= (p.reads_stream() ? 187U : 221U) << 23) report_non_finite(a, p.number);
}

}  // namespace qf::cuda::decode
