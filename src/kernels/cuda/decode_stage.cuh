#pragma once

#include "decode_args.cuh"
#include "hopper.cuh"

// Activations into shared memory as the right operand of wgmma.
//
// A core matrix holds 16 columns of k for 8 columns of N, 16 bytes each. Block b (16 columns of k)
// of a chunk stands in core matrix b, its E4M3 terms in columns of its own: high in 2 (b mod 4),
// middle in the next, low in column 2 (b mod 4) of the second half of N, x_area bytes further. All
// other columns stay zero, so that a product of four blocks comes out with the blocks side by side,
// where each can be multiplied by its own scale.
namespace qf::cuda::decode {

struct StagedX {
  std::uint8_t* bytes;  // [x_chunks, 2048] and the same again for the low terms
  float* scale;         // [2 x_chunks] of each half chunk
  float* square;        // [hidden_chunks] sums of squares
  int x_area;           // x_chunks * 2048
};

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
__device__ __forceinline__ std::uint32_t stage_chunk(const StagedX& x, int chunk, int lane,
                                                     const float (&v)[8]) {
  const std::uint32_t largest = largest_bits(v);
  const Power power = power_for(largest);
  std::uint32_t high[2], middle[2], low[2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const Terms a = terms_of(v[4 * i], v[4 * i + 1], power.scale);
    const Terms b = terms_of(v[4 * i + 2], v[4 * i + 3], power.scale);
    high[i] = a.high | b.high << 16;
    middle[i] = a.middle | b.middle << 16;
    low[i] = a.low | b.low << 16;
  }
  const int block = lane >> 1;
  std::uint8_t* const p =
      x.bytes + chunk * kXChunkBytes + block * 128 + (block & 3) * 32 + (lane & 1) * 8;
  *reinterpret_cast<uint2*>(p) = make_uint2(high[0], high[1]);
  *reinterpret_cast<uint2*>(p + 16) = make_uint2(middle[0], middle[1]);
  *reinterpret_cast<uint2*>(p + x.x_area) = make_uint2(low[0], low[1]);
  if (lane == 0) x.scale[2 * chunk] = x.scale[2 * chunk + 1] = power.inverse;
  return largest;
}

// The same for 128 values, four a lane, as half a chunk.
__device__ __forceinline__ std::uint32_t stage_half(const StagedX& x, int half, int lane,
                                                    const float (&v)[4]) {
  const std::uint32_t largest = largest_bits(v);
  const Power power = power_for(largest);
  const Terms a = terms_of(v[0], v[1], power.scale);
  const Terms b = terms_of(v[2], v[3], power.scale);
  const int block = lane >> 2;
  std::uint8_t* const p =
      x.bytes + half * (kXChunkBytes / 2) + block * 128 + (block & 3) * 32 + (lane & 3) * 4;
  *reinterpret_cast<std::uint32_t*>(p) = a.high | b.high << 16;
  *reinterpret_cast<std::uint32_t*>(p + 16) = a.middle | b.middle << 16;
  *reinterpret_cast<std::uint32_t*>(p + x.x_area) = a.low | b.low << 16;
  if (lane == 0) x.scale[half] = power.inverse;
  return largest;
}

__device__ __forceinline__ float residual_value(long long steps) {
  return __ll2float_rn(steps) * 0x1p-32F;
}

// Eight neighbours of the stream: of the token's embedding before the first layer.
__device__ __forceinline__ void load_stream(const Args& a, int phase, int element, float (&v)[8]) {
  if (phase == 0) {
    const std::int64_t row = *a.step.token;
    const uint4 bits =
        *reinterpret_cast<const uint4*>(a.model.embed_tokens + row * a.model.hidden + element);
    const std::uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      v[2 * i] = __uint_as_float(words[i] << 16);
      v[2 * i + 1] = __uint_as_float(words[i] & 0xFFFF0000U);
    }
    return;
  }
  const auto* const source = reinterpret_cast<const longlong2*>(a.space.residual + element);
  longlong2 steps[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) steps[i] = __ldcg(source + i);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    v[2 * i] = residual_value(steps[i].x);
    v[2 * i + 1] = residual_value(steps[i].y);
  }
}

// The norm's weights of the chunks that a warp stages: loaded while the block still waits.
struct NormWeights {
  static constexpr int kRounds = (kDecodeMaxHidden / 256 + kConsumerWarps - 1) / kConsumerWarps;
  float w[kRounds][8];
};
__device__ __forceinline__ NormWeights load_norm(const Args& a, const Phase& p, int warp,
                                                 int lane) {
  const DecodeLayer& layer = a.model.layer[p.layer < a.model.layers ? p.layer : 0];
  const float* const weights = p.type == kQkv      ? layer.input_layernorm
                               : p.type == kGateUp ? layer.post_attention_layernorm
                                                   : a.model.norm;
  NormWeights out;
#pragma unroll
  for (int r = 0; r < NormWeights::kRounds; ++r) {
    const int element = (warp + r * kConsumerWarps) * 256 + lane * 8;
    const bool inside = element < a.model.hidden;
    const auto* const source = reinterpret_cast<const float4*>(weights + (inside ? element : 0));
    const float4 first = source[0];
    const float4 second = source[1];
    const float values[8] = {first.x,  first.y,  first.z,  first.w,
                             second.x, second.y, second.z, second.w};
#pragma unroll
    for (int i = 0; i < 8; ++i) out.w[r][i] = inside ? values[i] : 0.0F;
  }
  return out;
}

// The whole stream times the norm's weights; 1/rms is applied to the sums, so that the norm needs
// no second pass.
__device__ __forceinline__ void stage_stream(const Args& a, int phase, const NormWeights& norm,
                                             const StagedX& x, int warp, int lane) {
#pragma unroll
  for (int r = 0; r < NormWeights::kRounds; ++r) {
    const int chunk = warp + r * kConsumerWarps;
    if (chunk >= a.hidden_chunks) break;
    const int element = chunk * 256 + lane * 8;
    float v[8] = {};
    if (element < a.model.hidden) load_stream(a, phase, element, v);
    float squares = 0;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      squares = fmaf(v[i], v[i], squares);
      v[i] *= norm.w[r][i];
    }
    squares = warp_sum(squares);
    const std::uint32_t largest = stage_chunk(x, chunk, lane, v);
    if (lane == 0) {
      x.square[chunk] = squares;
      // 2^60: far beyond what the fixed-point stream holds, times a norm's weight.
      if (largest >= (127U + 60U) << 23) report_non_finite(a, phase);
    }
  }
}

// Attention's output: the splits of a head put together.
__device__ __forceinline__ void load_attended(const Args& a, int splits, int element,
                                              float (&v)[4]) {
  const int head_dim = a.model.head_dim;
  const int head = element / head_dim;
  v[0] = v[1] = v[2] = v[3] = 0;
  if (head >= a.model.heads) return;
  const int group = a.model.heads / a.model.kv_heads;
  const int in_group = head % group;
  const int item = head / group * a.subgroups + in_group / kHeadsPerItem;
  const std::int64_t place =
      std::int64_t{item} * a.splits * kHeadsPerItem + in_group % kHeadsPerItem;
  const float2* const scale = a.space.attended_scale + place;
  const float* const sums = a.space.attended + place * head_dim + element % head_dim;
  float largest = -INFINITY;
  for (int s = 0; s < splits; ++s) largest = fmaxf(largest, __ldcg(scale + s * kHeadsPerItem).x);
  float total = 0;
#pragma unroll 4
  for (int s = 0; s < splits; ++s) {
    const float2 part = __ldcg(scale + s * kHeadsPerItem);
    const float4 sum =
        __ldcg(reinterpret_cast<const float4*>(sums + std::int64_t{s} * kHeadsPerItem * head_dim));
    const float weight = exp2f(part.x - largest);
    total = fmaf(weight, part.y, total);
    v[0] = fmaf(weight, sum.x, v[0]);
    v[1] = fmaf(weight, sum.y, v[1]);
    v[2] = fmaf(weight, sum.z, v[2]);
    v[3] = fmaf(weight, sum.w, v[3]);
  }
  const float inverse = 1.0F / total;
#pragma unroll
  for (int i = 0; i < 4; ++i) v[i] *= inverse;
}

// Four rows of a product that several blocks may share.
__device__ __forceinline__ float4 sum_parts(const float* rows, std::int64_t stride, int parts) {
  float4 sum = __ldcg(reinterpret_cast<const float4*>(rows));
  for (int i = 1; i < parts; ++i) {
    const float4 part = __ldcg(reinterpret_cast<const float4*>(rows + i * stride));
    sum.x += part.x;
    sum.y += part.y;
    sum.z += part.z;
    sum.w += part.w;
  }
  return sum;
}

__device__ __forceinline__ float silu(float x) { return x / (1.0F + __expf(-x)); }

__device__ __forceinline__ void load_swiglu(const Args& a, const std::uint8_t* parts, int element,
                                            float (&v)[4]) {
  v[0] = v[1] = v[2] = v[3] = 0;
  if (element >= a.model.intermediate) return;
  const std::int64_t stride = std::int64_t{2} * a.gate_tiles * kStreamRows;
  const int tile = element / static_cast<int>(kStreamRows);
  const float* const gate_rows = a.space.gate_up + element;
  const float4 gate = sum_parts(gate_rows, stride, parts[tile]);
  const float4 up =
      sum_parts(gate_rows + a.gate_tiles * kStreamRows, stride, parts[a.gate_tiles + tile]);
  v[0] = silu(gate.x) * up.x;
  v[1] = silu(gate.y) * up.y;
  v[2] = silu(gate.z) * up.z;
  v[3] = silu(gate.w) * up.w;
}

// What the chunks first .. last - 1 of o or down read, in their order.
__device__ __forceinline__ void stage_columns(const Args& a, int phase, const Phase& p, int first,
                                              int last, const std::uint8_t* gate_up_parts,
                                              const StagedX& x, int warp, int lane) {
  const int splits = p.type == kO ? split_of(a).count : 0;
  for (int half = warp; half < 2 * (last - first); half += kConsumerWarps) {
    const int chunk = (first + half / 2) % p.chunks_per_tile;
    const int element = chunk * 256 + half % 2 * 128 + lane * 4;
    float v[4];
    if (p.type == kO) {
      load_attended(a, splits, element, v);
    } else {
      load_swiglu(a, gate_up_parts, element, v);
    }
    const std::uint32_t largest = stage_half(x, half, lane, v);
    if (lane == 0 && largest >= 221U << 23) report_non_finite(a, phase);
  }
}

}  // namespace qf::cuda::decode
