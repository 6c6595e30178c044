#include <algorithm>
#include <iterator>
#include <type_traits>
#include <utility>

#include "decode_args.cuh"
#include "decode_attention.cuh"
#include "decode_stage.cuh"
#include "hopper.cuh"
#include "qwen3fp4/kernels/cuda/decode_step.h"

namespace qf::cuda {
namespace decode {
namespace {

// The small weights that are read next into L2, a line a block: they come out of DRAM once a token.
__device__ __forceinline__ void prefetch_norms(const LaunchArgs& launch, int layer) {
  const ModelArgs& model = launch.args.model;
  constexpr int kLine = 32;  // floats
  const int line = static_cast<int>(blockIdx.x) * kLine;
  const auto prefetch = [line](const float* weights, int count) {
    if (weights != nullptr && line < count) {
      asm volatile("prefetch.global.L2 [%0];" ::"l"(weights + line));
    }
  };
  const DecodeLayer& next = launch.layer[min(layer + 1, model.layers - 1)];
  prefetch(launch.layer[layer].post_attention_layernorm, model.hidden);
  prefetch(next.input_layernorm, model.hidden);
  prefetch(next.q_norm, model.head_dim);
  prefetch(next.k_norm, model.head_dim);
}

// Fetches this block's bytes of all phases in order. While the block waits for activations only a
// few slots are on their way: more would delay what it waits for. While it multiplies, as many as
// the memory can be kept busy with.
struct Producer {
  static constexpr int kInFlightWaiting = 2;
  static constexpr int kInFlightMultiplying = 4;
  const LaunchArgs& launch;
  const Args& a;
  int slot = 0, arrived_slot = 0;
  std::uint32_t parity = 1, arrived_parity = 0;
  int issued = 0, arrived = 0;

  __device__ __forceinline__ void wait_arrived() {
    mbarrier_wait(shared_address(shared_state().full + arrived_slot), arrived_parity);
    ++arrived;
    if (++arrived_slot == a.ring) {
      arrived_slot = 0;
      arrived_parity ^= 1U;
    }
  }
  // The next slot, once its last bytes are used.
  __device__ __forceinline__ void acquire(int bytes) {
    mbarrier_wait(shared_address(shared_state().empty + slot), parity);
    const volatile std::uint32_t& multiplying = shared_state().multiplying;
    while (issued - arrived >= (multiplying != 0 ? kInFlightMultiplying : kInFlightWaiting)) {
      wait_arrived();
    }
    mbarrier_expect(shared_address(shared_state().full + slot), bytes);
  }
  __device__ __forceinline__ void copy(int offset, const void* source, int bytes) const {
    bulk_copy(shared_address(ring_slot(slot) + offset), source, bytes,
              shared_address(shared_state().full + slot));
  }
  __device__ __forceinline__ void advance() {
    ++issued;
    if (++slot == a.ring) {
      slot = 0;
      parity ^= 1U;
    }
  }

  __device__ __forceinline__ void weights(const Phase& p) {
    const std::uint8_t* source = nullptr;
    int tile = p.first_tile;
    int column = p.first_column;
    for (int chunk = p.first; chunk < p.last; ++chunk, ++column, source += kChunkBytes) {
      if (column == p.chunks_per_tile) {
        column = 0;
        ++tile;
      }
      if (chunk == p.first || column == 0) {
        int of_matrix = tile;
        const std::uint8_t* const base = matrix_of(launch, p, of_matrix).chunks;
        source = base + (std::int64_t{of_matrix} * p.chunks_per_tile + column) * kChunkBytes;
      }
      acquire(kChunkBytes);
      copy(0, source, kChunkBytes);
      advance();
    }
  }
  // Keys, then values, of the tokens that the cache holds.
  template <class T>
  __device__ __forceinline__ void cached_tokens(const Phase& p) {
    const AttentionShare& share = shared_state().share;
    const int slot_size = slot_tokens<T>(a.model.head_dim);
    for (int i = 0; i < share.slots; ++i) {
      const int tokens = min(slot_size, share.cached - i * slot_size);
      const int bytes = tokens * a.model.head_dim * static_cast<int>(sizeof(T));
      const std::int64_t first = share.first + i * slot_size;
      const std::int64_t place = cache_place(a, p.layer, share.kv_head, first);
      const T* const keys = static_cast<const T*>(a.model.keys) + place;
      const T* const values = static_cast<const T*>(a.model.values) + place;
      if constexpr (std::is_same_v<T, E4M3>) {
        const int scale_bytes = copied_scale_bytes(tokens);
        const std::int64_t scales = scale_place(a, p.layer, share.kv_head, first);
        acquire(2 * (bytes + scale_bytes));
        copy(0, keys, bytes);
        copy(kSlotPart, values, bytes);
        copy(2 * kSlotPart, a.model.key_scales + scales, scale_bytes);
        copy(2 * kSlotPart + kSlotScaleBytes, a.model.value_scales + scales, scale_bytes);
      } else {
        acquire(2 * bytes);
        copy(0, keys, bytes);
        copy(bytes, values, bytes);
      }
      advance();
    }
  }
  template <class T>
  __device__ __forceinline__ void run() {
    const int phases = a.model.layers * kPhasesPerLayer;
    for (int index = 0; index <= phases; ++index) {
      const Phase p = phase_at(a, shared_state().ranges, index);
      if (p.type == kQkv) prefetch_norms(launch, p.layer);
      if (p.type == kO) cached_tokens<T>(p);
      weights(p);
    }
  }
};

// A lane's sums of rows g and g + 8 over its blocks and terms.
struct RowSums {
  float low = 0, high = 0;
};

// Columns 2t, 2t + 1 and 8 + 2t of a unit's products: the three terms of this lane's block.
__device__ __forceinline__ void add_terms(const float (&c)[8], float scale_low, float scale_high,
                                          float& sum_low, float& sum_high) {
  const float row_low = fmaf(c[4], 0x1p-10F, fmaf(c[1], 0x1p-5F, c[0]));
  const float row_high = fmaf(c[6], 0x1p-10F, fmaf(c[3], 0x1p-5F, c[2]));
  sum_low = fmaf(row_low, scale_low, sum_low);
  sum_high = fmaf(row_high, scale_high, sum_high);
}

// How a warp multiplies its 16 rows of one chunk. `bytes`: its part of the chunk; `x`: descriptor
// of the staged chunk; the slot is given back as soon as its bytes are in registers.
struct Nvfp4Weights {
  using Staging = TermStaging;
  __device__ __forceinline__ explicit Nvfp4Weights(const Args& /*a*/) {}
  __device__ __forceinline__ void multiply(const std::uint8_t* bytes, std::uint32_t empty,
                                           std::uint64_t x, float x_scale, int lane,
                                           RowSums& sums) const {
    uint4 words[4];
#pragma unroll
    for (int u = 0; u < 4; ++u) {
      words[u] = *reinterpret_cast<const uint4*>(bytes + u * 512 + lane * 16);
    }
    const uint2 scales = *reinterpret_cast<const uint2*>(bytes + 2048 + lane * 8);
    __syncwarp();
    if (lane == 0) mbarrier_arrive(empty);
    float c[4][8];
    std::uint32_t low[16], high[16];
#pragma unroll
    for (int u = 0; u < 4; ++u) {
      unpack_stream_word(words[u].x, low[4 * u], high[4 * u]);
      unpack_stream_word(words[u].y, low[4 * u + 1], high[4 * u + 1]);
      unpack_stream_word(words[u].z, low[4 * u + 2], high[4 * u + 2]);
      unpack_stream_word(words[u].w, low[4 * u + 3], high[4 * u + 3]);
#pragma unroll
      for (int j = 4 * u; j < 4 * u + 4; ++j) {
        wgmma_operand(low[j]);
        wgmma_operand(high[j]);
      }
      wgmma_fence();
      wgmma_m64n16k32(c[u], low[4 * u], high[4 * u], low[4 * u + 1], high[4 * u + 1], x + 32 * u);
      wgmma_m64n16k32_add(c[u], low[4 * u + 2], high[4 * u + 2], low[4 * u + 3], high[4 * u + 3],
                          x + 32 * u + 16);
      wgmma_commit();
    }
    float sum_low = 0, sum_high = 0;
    const auto add_unit = [&](int u, std::uint32_t scale_pair) {
      const float2 scale = e4m3_pair(scale_pair);
      add_terms(c[u], scale.x, scale.y, sum_low, sum_high);
    };
    wgmma_wait<3>();
    add_unit(0, scales.x & 0xFFFFU);
    wgmma_wait<2>();
    add_unit(1, scales.x >> 16);
    wgmma_wait<1>();
    add_unit(2, scales.y & 0xFFFFU);
    wgmma_wait<0>();
    add_unit(3, scales.y >> 16);
    sums.low = fmaf(sum_low, x_scale, sums.low);
    sums.high = fmaf(sum_high, x_scale, sums.high);
  }
};

// A level is the sum of a coarse and a fine byte, each times digits of the activations, and a
// unit's products add both. Byte permutations look four of them up at a time (kernels/nf4_table.h).
// Columns 2t, 2t + 1 of a product are digits of one block of 64 columns, for two blocks side by
// side: of lane 4g + t digits 2 and 1, or digit 0 and nothing.
struct Nf4Weights {
  using Staging = DigitStaging;
  std::uint32_t lower[2], upper[2], fine[2];
  std::uint32_t fine_area;  // as descriptors count
  std::uint32_t minus_one;

  __device__ __forceinline__ explicit Nf4Weights(const Args& a)
      : lower{a.nf4.lower[0], a.nf4.lower[1]},
        upper{a.nf4.upper[0], a.nf4.upper[1]},
        fine{a.nf4.fine[0], a.nf4.fine[1]},
        fine_area(static_cast<std::uint32_t>(a.x_chunks) * (kXChunkBytes / 16)),
        minus_one(a.minus_one) {}

  // Of four codes.
  __device__ __forceinline__ std::uint32_t coarse_bytes(std::uint32_t codes) const {
    // ~codes, as a multiplication: the pipe of the other integer operations is the busy one.
    const std::uint32_t inverted = codes * minus_one + minus_one;
    return permuted(lower[0], lower[1], codes) ^ permuted(upper[0], upper[1], inverted);
  }
  __device__ __forceinline__ std::uint32_t fine_bytes(std::uint32_t codes) const {
    return permuted(fine[0], fine[1], codes);
  }
  __device__ __forceinline__ static float sum_of(std::int32_t high, std::int32_t low) {
    return sum_of_digits(__int_as_float(high), __int_as_float(low));
  }
  __device__ __forceinline__ void multiply(const std::uint8_t* bytes, std::uint32_t empty,
                                           std::uint64_t x, float x_scale, int lane,
                                           RowSums& sums) const {
    uint4 words[4];
#pragma unroll
    for (int u = 0; u < 4; ++u) {
      words[u] = *reinterpret_cast<const uint4*>(bytes + u * 512 + lane * 16);
    }
    // Of this lane's blocks in both pairs.
    const auto* const absmax = reinterpret_cast<const float2*>(bytes + 2048) + lane / 2;
    const float2 scale_low = absmax[0];
    const float2 scale_high = absmax[16];
    __syncwarp();
    if (lane == 0) mbarrier_arrive(empty);
    // Both pairs' begin here: written after the first wgmma, they would have it run alone.
    std::int32_t c[2][4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      c[0][i] = kIntegerBits;
      c[1][i] = kIntegerBits;
      opaque(c[0][i]);
      opaque(c[1][i]);
    }
    // Of word i of unit u: codes 0..3 and 4..7.
    std::uint32_t coarse[4][4][2], finer[4][4][2];
#pragma unroll
    for (int u = 0; u < 4; ++u) {
      const std::uint32_t of_unit[4] = {words[u].x, words[u].y, words[u].z, words[u].w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const std::uint32_t codes = of_unit[i] >> (16 * half);
          coarse[u][i][half] = coarse_bytes(codes);
          finer[u][i][half] = fine_bytes(codes);
          wgmma_operand(coarse[u][i][half]);
          wgmma_operand(finer[u][i][half]);
        }
      }
      std::int32_t(&sum)[4] = c[u / 2];
      wgmma_fence();
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        const auto& of_coarse = coarse[u];
        const auto& of_fine = finer[u];
        const int low = 2 * s;
        const int high = 2 * s + 1;
        const std::uint64_t step = x + 32 * u + 16 * s;
        wgmma_m64n8k32_add(sum, of_coarse[low][0], of_coarse[high][0], of_coarse[low][1],
                           of_coarse[high][1], step);
        wgmma_m64n8k32_add(sum, of_fine[low][0], of_fine[high][0], of_fine[low][1],
                           of_fine[high][1], step + fine_area);
      }
      wgmma_commit();
    }
    wgmma_wait<2>();
    float sum_low = sum_of(c[0][0], c[0][1]) * scale_low.x;
    float sum_high = sum_of(c[0][2], c[0][3]) * scale_high.x;
    wgmma_wait<0>();
    sum_low = fmaf(sum_of(c[1][0], c[1][1]), scale_low.y, sum_low);
    sum_high = fmaf(sum_of(c[1][2], c[1][3]), scale_high.y, sum_high);
    const float digits = (lane & 1) == 0 ? x_scale * 0x1p16F : x_scale;
    sums.low = fmaf(sum_low, digits, sums.low);
    sums.high = fmaf(sum_high, digits, sums.high);
  }
};

// What a warp needs to multiply and to pass its rows on.
struct Consumer {
  const Args& a;
  std::uint64_t descriptor;
  int warp, group, group_warp, lane;
};

// Chunks of one pass over a phase.
struct Pass {
  Phase phase;
  int first, last;
  int tile0, column0;  // of the first chunk
  float scale;         // of o's and down's sums
  std::uint32_t tag;

  __device__ __forceinline__ int chunks_of(int tile) const {
    const int begin = tile * phase.chunks_per_tile;
    return min(last, begin + phase.chunks_per_tile) - max(first, begin);
  }
};

// 1 / rms of the stream, from the squares of its chunks; those that the model does not have are 0.
// It multiplies finished rows: nobody waits for it before the products begin. Every thread adds
// them up by itself, which is over sooner than shuffles.
__device__ __forceinline__ float inverse_rms(const Args& a) {
  static_assert(kMaxXChunks % 4 == 0);
  const auto* const four = reinterpret_cast<const float4*>(shared_state().square);
  float squares = 0;
#pragma unroll
  for (int i = 0; i < kMaxXChunks / 4; ++i) {
    const float4 s = four[i];
    squares += (s.x + s.y) + (s.z + s.w);
  }
  return rsqrtf(fmaf(squares, a.inverse_hidden, a.model.rms_norm_eps));
}

// Larger for larger logits, then for smaller ids.
__device__ __forceinline__ unsigned long long choice_key(float logit, int id) {
  const std::uint32_t bits = __float_as_uint(logit + 0.0F);  // -0 ties with 0
  const std::uint32_t ordered = (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
  return static_cast<unsigned long long>(ordered) << 32 | (0xFFFFFFFFU - static_cast<unsigned>(id));
}

__device__ __forceinline__ void finish_logit(const Args& a, int phase, int row, float logit,
                                             unsigned long long& best) {
  if (row >= a.model.vocab) return;
  if (a.step.logits != nullptr) a.step.logits[row] = logit;
  if (!(fabsf(logit) < INFINITY)) report_non_finite(a, phase);
  const bool allowed =
      a.step.allowed == nullptr || (a.step.allowed[row / 32] >> (row % 32) & 1U) != 0;
  if (allowed) best = max(best, choice_key(logit, row));
}

// A finished row of qkv, gate/up or the head to where it is read.
__device__ __forceinline__ void finish_row(const Consumer& c, const Pass& pass, int tile,
                                           int in_tile, float sum, float factor,
                                           unsigned long long& best) {
  const Args& a = c.a;
  const Phase& p = pass.phase;
  const int row = tile * kTileRows + in_tile;
  if (p.type == kHead) {
    finish_logit(a, p.number, row, sum * (a.model.lm_head.scale * a.code_factor * factor), best);
    return;
  }
  const float scale = shared_state().layers[p.layer].scale[scale_of(a, p.type, tile)];
  const int tiles = p.type == kQkv ? qkv_tiles(a) : 2 * a.gate_tiles;
  const int part = tile == p.first_tile ? p.first_part : 0;
  std::uint32_t* const out = p.type == kQkv ? a.space.qkv : a.space.gate_up;
  store_relaxed(out + std::int64_t{part} * tiles * kTileRows + row,
                tagged(sum * (scale * factor), pass.tag));
}

// A warp's 16 rows of a tile. O's and down's go to the stream, for whose sums any order will do.
// Of the others the last warpgroup to come adds all in their order and passes the rows on.
__device__ __forceinline__ void flush(const Consumer& c, const Pass& pass, int tile, RowSums& s,
                                      unsigned long long& best) {
  s.low += __shfl_xor_sync(~0U, s.low, 1);
  s.high += __shfl_xor_sync(~0U, s.high, 1);
  s.low += __shfl_xor_sync(~0U, s.low, 2);
  s.high += __shfl_xor_sync(~0U, s.high, 2);
  const int t = c.lane & 3;
  const float value = t == 0 ? s.low : s.high;
  const int row = c.group_warp * 16 + (c.lane >> 2) + 8 * t;
  s = {};
  if (!pass.phase.reads_stream()) {
    if (t < 2) {
      add_to_stream(c.a, pass.phase.number, tile * kTileRows + row, value * pass.scale);
    }
    return;
  }
  auto& sums = shared_state().sums[tile - pass.tile0];
  if (t < 2) sums[c.group][row] = value;
  __syncwarp();
  std::uint32_t present = 0;
  if (c.lane == 0) {
    const std::uint32_t own = 1U << c.group;
    present = own | shared_atomic_or(&shared_state().arrived[tile - pass.tile0][c.group_warp], own);
  }
  present = __shfl_sync(~0U, present, 0);
  if (__popc(present) != min(kGroups, pass.chunks_of(tile))) return;
  __syncwarp();
  const float factor = inverse_rms(c.a);
  if (c.lane >= 16) return;
  const int in_tile = c.group_warp * 16 + c.lane;
  float sum = 0;
#pragma unroll
  for (int g = 0; g < kGroups; ++g) {
    if ((present >> g & 1U) != 0) sum += sums[g][in_tile];
  }
  finish_row(c, pass, tile, in_tile, sum, factor, best);
}

// This warpgroup's share of a pass.
template <class Weights>
__device__ __forceinline__ void multiply(const Consumer& c, const Pass& pass, RingPlace& place,
                                         unsigned long long& best) {
  const int chunks_per_tile = pass.phase.chunks_per_tile;
  const bool whole_stream = pass.phase.reads_stream();
  const Weights weights(c.a);
  RowSums s;
  int i = pass.first + place.next;
  int tile = pass.tile0;
  int column = pass.column0 + place.next;
  for (; column >= chunks_per_tile; column -= chunks_per_tile) ++tile;
  for (; i < pass.last; i += kGroups) {
    const int staged = whole_stream ? column : i - pass.first;
    mbarrier_wait(shared_address(shared_state().full + place.slot), place.parity);
    weights.multiply(ring_slot(place.slot) + c.group_warp * 2304,
                     shared_address(shared_state().empty + place.slot),
                     c.descriptor + __shfl_sync(~0U, staged, 0) * (kXChunkBytes / 16),
                     shared_state().x_scale[staged], c.lane, s);
    place.advance();
    column += kGroups;
    if (column < chunks_per_tile && i + kGroups < pass.last) continue;
    flush(c, pass, tile, s, best);
    for (; column >= chunks_per_tile; column -= chunks_per_tile) ++tile;
  }
  place.next = i - pass.last;
}

// What the chunks of a pass read, a chunk a warp at a time. Values are loaded before the block has
// finished with the activations of the phase before, and staged after it. The stream is staged
// whole, by column; of o's and down's inputs the columns of the pass, in the order of its chunks.
template <int kHeadDim, class Staging>
__device__ __forceinline__ void stage_pass(const Consumer& c, const Pass& pass) {
  const Phase& p = pass.phase;
  const bool whole_stream = p.reads_stream();
  const int count = whole_stream ? c.a.hidden_chunks : pass.last - pass.first;
#pragma unroll 1
  for (int chunk = c.warp; chunk < count + c.warp; chunk += kConsumerWarps) {
    int column = whole_stream ? chunk : pass.column0 + chunk;
    while (column >= p.chunks_per_tile) column -= p.chunks_per_tile;
    float v[8];
    float squares = 0;
    if (chunk < count) {
      squares = load_inputs<kHeadDim>(c.a, p, column * kChunkCols + c.lane * 8, v);
    }
    if (chunk == c.warp) named_barrier<kConsumers>();
    if (chunk < count) stage_inputs<Staging>(c.a, p, chunk, c.lane, v, squares);
  }
}

// The chunks of a phase, in passes: of qkv, gate/up and the head as many tiles as sums find room in
// shared memory, of o and down as many columns as activations do.
template <int kHeadDim, class Weights>
__device__ __forceinline__ void multiply_phase(const Consumer& c, const Phase& p, RingPlace& place,
                                               unsigned long long& best) {
  Pass pass{p, p.first, 0, p.first_tile, p.first_column, 1.0F, tag_of(c.a, p.layer)};
  const bool whole_stream = p.reads_stream();
  if (!whole_stream) pass.scale = shared_state().layers[p.layer].scale[p.type == kO ? 3 : 6];
  while (pass.first < p.last) {
    const int room = whole_stream ? kPassTiles * p.chunks_per_tile - pass.column0 : c.a.x_chunks;
    pass.last = min(p.last, pass.first + room);
    if (!whole_stream || pass.first == p.first) {
      stage_pass<kHeadDim, typename Weights::Staging>(c, pass);
    } else {
      named_barrier<kConsumers>();  // the sums of the pass before are read
    }
    const int thread = c.warp * 32 + c.lane;
    if (thread < kPassTiles * 4) shared_state().arrived[thread / 4][thread % 4] = 0;
    fence_proxy_async();
    named_barrier<kConsumers>();
    if (thread == 0) shared_state().multiplying = 1;
    multiply<Weights>(c, pass, place, best);
    if (thread == 0) shared_state().multiplying = 0;
    pass.column0 += pass.last - pass.first;
    for (; pass.column0 >= p.chunks_per_tile; pass.column0 -= p.chunks_per_tile) ++pass.tile0;
    pass.first = pass.last;
  }
}

__device__ __forceinline__ unsigned long long warp_max(unsigned long long value) {
  for (int offset = 16; offset > 0; offset /= 2) {
    value = max(value, __shfl_xor_sync(~0U, value, offset));
  }
  return value;
}

// The last block to come puts the greedy choice where the next step reads it.
__device__ __forceinline__ void finish_choice(const Args& a, unsigned long long best, int thread) {
  best = warp_max(best);
  if (thread % 32 == 0) atomicMax(a.space.best, best);
  __threadfence();
  named_barrier<kConsumers>();
  if (thread != 0) return;
  if (atomicAdd(a.space.heads_done, 1U) + 1U != gridDim.x) return;
  __threadfence();
  const unsigned long long choice = atomicExch(a.space.best, 0ULL);
  const std::uint32_t token = 0xFFFFFFFFU - static_cast<std::uint32_t>(choice);
  a.step.status->token = token;
  *a.space.heads_done = 0;
  if (a.step.report == nullptr) return;
  volatile DecodeReport& report = *a.step.report;
  report.token = token;
  report.non_finite = a.step.status->non_finite;
  report.hung = a.step.status->hung;
  __threadfence_system();
  report.done = a.step.number + 1U;
}

// This block's slice of the embedding is the stream's first addition; the next step's stream
// becomes zero.
__device__ __forceinline__ void start_stream(const Args& a, int thread) {
  const int blocks = static_cast<int>(gridDim.x);
  const int first = a.model.hidden * static_cast<int>(blockIdx.x) / blocks;
  const int last = a.model.hidden * (static_cast<int>(blockIdx.x) + 1) / blocks;
  const std::int64_t row = *a.step.token;
  for (int i = first + thread; i < last; i += kConsumers) {
    add_to_stream(a, 0, i, __bfloat162float(a.model.embed_tokens[row * a.model.hidden + i]));
    a.space.next_stream[i] = 0;
  }
}

template <int kHeadDim, class Weights, class T>
__device__ __forceinline__ void consume(Consumer c) {
  const Args& a = c.a;
  RingPlace place{c.group, 0, c.group, a.ring};
  unsigned long long best = 0;
  start_stream(a, c.warp * 32 + c.lane);
  const int head = a.model.layers * kPhasesPerLayer;
  for (int index = 0; index <= head; ++index) {
    Phase p = phase_at(a, shared_state().ranges, index);
    // From shared memory: the compiler must know that all threads have the same, or it takes the
    // loop around wgmma for divergent and runs them one by one.
    p.first = __shfl_sync(~0U, p.first, 0);
    p.last = __shfl_sync(~0U, p.last, 0);
    p.first_tile = __shfl_sync(~0U, p.first_tile, 0);
    p.first_column = __shfl_sync(~0U, p.first_column, 0);
    // What depends on them is computed anew in each phase: kept from phase to phase, it would take
    // the registers that a phase needs.
    opaque(c.warp);
    opaque(c.lane);
    if (p.type == kO) attention<kHeadDim, T>(a, p, place, c.warp, c.lane);
    multiply_phase<kHeadDim, Weights>(c, p, place, best);
  }
  finish_choice(a, best, c.warp * 32 + c.lane);
}

__device__ __forceinline__ void fill_layer(const DecodeLayer& from, float code_factor,
                                           LayerTable& to) {
  to.norm[0] = from.input_layernorm;
  to.norm[1] = from.post_attention_layernorm;
  to.norm[2] = from.q_norm;
  to.norm[3] = from.k_norm;
  to.scale[0] = from.q.scale * code_factor;
  to.scale[1] = from.k.scale * code_factor;
  to.scale[2] = from.v.scale * code_factor;
  to.scale[3] = from.o.scale * code_factor;
  to.scale[4] = from.gate.scale * code_factor;
  to.scale[5] = from.up.scale * code_factor;
  to.scale[6] = from.down.scale * code_factor;
}

// What the producer needs to start.
template <class T>
__device__ __forceinline__ void fill_first(const Args& a, int thread) {
  SharedState& s = shared_state();
  if (thread <= kHead) s.ranges[thread] = range_of(a, thread);
  if (thread == 32) s.share = attention_share<T>(a);
  constexpr int kWords = sizeof(Args) / 4;
  static_assert(kWords <= kThreads && sizeof(Args) % 4 == 0);
  if (thread < kWords) {
    reinterpret_cast<std::uint32_t*>(&s.args)[thread] =
        reinterpret_cast<const std::uint32_t*>(&a)[thread];
  }
  if (thread >= 96 && thread < 96 + kMaxXChunks) s.square[thread - 96] = 0;
  if (thread != 64) return;
  s.multiplying = 0;
  for (int i = 0; i < a.ring; ++i) {
    mbarrier_init(shared_address(s.full + i), 1);
    mbarrier_init(shared_address(s.empty + i), 4);
  }
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

// What the consumers need, while the first weights are on their way.
__device__ __forceinline__ void fill_tables(const LaunchArgs& launch, int thread) {
  const Args& a = launch.args;
  SharedState& s = shared_state();
  const int blocks = static_cast<int>(gridDim.x);
  for (int i = thread; i < a.model.layers; i += kConsumers) {
    fill_layer(launch.layer[i], a.code_factor, s.layers[i]);
  }
  for (int i = thread; i < qkv_tiles(a); i += kConsumers) {
    s.qkv_parts[i] = static_cast<std::uint8_t>(parts_of(i, a.hidden_chunks, qkv_tiles(a), blocks));
  }
  for (int i = thread; i < 2 * a.gate_tiles; i += kConsumers) {
    s.gate_up_parts[i] =
        static_cast<std::uint8_t>(parts_of(i, a.hidden_chunks, 2 * a.gate_tiles, blocks));
  }
  for (int i = thread; i < a.o_tiles; i += kConsumers) {
    s.o_adds[i] = static_cast<std::uint8_t>(adds_of(i, a.o_chunks, a.o_tiles, blocks, a.x_chunks));
    s.down_adds[i] =
        static_cast<std::uint8_t>(adds_of(i, a.down_chunks, a.o_tiles, blocks, a.x_chunks));
  }
  for (int i = thread; i < 2 * a.x_chunks * kXChunkBytes / 16; i += kConsumers) {
    reinterpret_cast<uint4*>(staged_x(a))[i] = make_uint4(0, 0, 0, 0);
  }
  fill_rotation(a, thread);
}

template <int kHeadDim, class Weights, class T>
__global__ void __launch_bounds__(kThreads, 1)
    decode_kernel(const __grid_constant__ LaunchArgs launch) {
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = __shfl_sync(~0U, thread / 32, 0);
  fill_first<T>(launch.args, thread);
  __syncthreads();
  const Args& a = shared_state().args;
  if (warp >= kConsumerWarps) {
    fewer_registers<kProducerRegisters>();
    if (thread == kConsumers) Producer{launch, a}.template run<T>();
    return;
  }
  more_registers<kConsumerRegisters>();
  fill_tables(launch, thread);
  named_barrier<kConsumers>();
  // Right operand: core matrices along k are 128 bytes apart, the second 8 columns of N an area.
  const auto address = static_cast<std::uint64_t>(shared_address(staged_x(a)));
  const auto apart = static_cast<std::uint64_t>(a.x_chunks * kXChunkBytes);
  const std::uint64_t descriptor =
      apart >> 4 << 32 | static_cast<std::uint64_t>(128 >> 4) << 16 | address >> 4;
  consume<kHeadDim, Weights, T>(Consumer{a, descriptor, warp, warp / 4, warp % 4, thread % 32});
}

}  // namespace

constexpr int ceil_divide(int a, int b) { return (a + b - 1) / b; }

int tiles_of(int rows) { return ceil_divide(rows, static_cast<int>(kStreamRows)); }
int chunks_of(int cols) { return ceil_divide(cols, static_cast<int>(kStreamCols)); }

int most_parts(int tiles, int chunks_per_tile, int blocks) {
  int most = 0;
  for (int tile = 0; tile < tiles; ++tile) {
    most = std::max(most, parts_of(tile, chunks_per_tile, tiles, blocks));
  }
  return most;
}

Args shape_args(const DecodeModel& model) {
  Args a{};
  a.model = {model.layers,       model.hidden,   model.intermediate, model.heads,
             model.kv_heads,     model.head_dim, model.vocab,        model.rms_norm_eps,
             model.embed_tokens, model.norm,     model.lm_head,      model.rope_cos,
             model.rope_sin,     model.keys,     model.values,       model.key_scales,
             model.value_scales, model.context};
  a.q_tiles = tiles_of(model.heads * model.head_dim);
  a.kv_tiles = tiles_of(model.kv_heads * model.head_dim);
  a.o_tiles = tiles_of(model.hidden);
  a.gate_tiles = tiles_of(model.intermediate);
  a.head_tiles = tiles_of(model.vocab);
  a.hidden_chunks = chunks_of(model.hidden);
  a.o_chunks = chunks_of(model.heads * model.head_dim);
  a.down_chunks = chunks_of(model.intermediate);
  a.inverse_hidden = 1.0F / static_cast<float>(model.hidden);
  // NVFP4: an E2M1 code is an E4M3 number of 2^-6 its value.
  a.code_factor = model.nf4 ? model.nf4_table.factor : 64.0F;
  a.nf4 = model.nf4_table;
  a.minus_one = ~0U;
  a.group = model.heads / model.kv_heads;
  a.subgroups = ceil_divide(a.group, kHeadsPerItem);
  return a;
}

bool takes(const DecodeModel& m) {
  const bool positive = m.layers > 0 && m.hidden > 0 && m.intermediate > 0 && m.heads > 0 &&
                        m.kv_heads > 0 && m.vocab > 0 && m.context > 0;
  if (!positive || m.layers > kDecodeMaxLayers || m.hidden > kDecodeMaxHidden) return false;
  if (m.head_dim != 64 && m.head_dim != 128) return false;
  if ((m.key_scales == nullptr) != (m.value_scales == nullptr)) return false;
  if (m.heads % m.kv_heads != 0 || m.heads / m.kv_heads > 2 * kHeadsPerItem) return false;
  const Args a = shape_args(m);
  if (qkv_tiles(a) > kMaxQkvTiles || 2 * a.gate_tiles > kMaxGateUpTiles) return false;
  const std::int64_t block = m.nf4 ? kNf4Block : kNvfp4Block;
  return m.hidden % block == 0 && m.intermediate % block == 0;
}

// Activations staged at a time: the stream whole; of o's and down's columns a block's share, in
// several passes where it has more chunks than that and than warps: what is not staged is the
// ring's.
int staged_chunks(const Args& a, int blocks) {
  const int share = std::max(ceil_divide(a.o_tiles * a.o_chunks, blocks),
                             ceil_divide(a.o_tiles * a.down_chunks, blocks));
  const int passes = ceil_divide(share, std::max(a.hidden_chunks, kConsumerWarps));
  constexpr int kForAttention = 6;  // whose sums lie over them
  return std::max({a.hidden_chunks, ceil_divide(share, passes), kForAttention});
}

template <class Weights, class T>
void* kernel_of(int head_dim) {
  return head_dim == 128 ? reinterpret_cast<void*>(decode_kernel<128, Weights, T>)
                         : reinterpret_cast<void*>(decode_kernel<64, Weights, T>);
}
template <class Weights>
void* kernel_of(const DecodeModel& model) {
  return model.key_scales == nullptr ? kernel_of<Weights, __half>(model.head_dim)
                                     : kernel_of<Weights, E4M3>(model.head_dim);
}
void* kernel_of(const DecodeModel& model) {
  return model.nf4 ? kernel_of<Nf4Weights>(model) : kernel_of<Nvfp4Weights>(model);
}

// Every buffer of the workspace begins on 256 bytes.
class Carver {
 public:
  explicit Carver(void* base) : base_(static_cast<std::uint8_t*>(base)) {}
  template <class T>
  T* take(std::int64_t count) {
    T* const out = reinterpret_cast<T*>(base_ + used_);
    used_ += (count * static_cast<std::int64_t>(sizeof(T)) + 255) / 256 * 256;
    return out;
  }
  std::int64_t used() const { return used_; }

 private:
  std::uint8_t* base_;
  std::int64_t used_ = 0;
};

std::int64_t carve(const Args& a, const DecodePlan& plan, void* base, Workspace& space) {
  Carver carver(base);
  const std::int64_t items = std::int64_t{a.model.kv_heads} * a.subgroups;
  const std::int64_t heads = items * plan.splits * kHeadsPerItem;
  space.heads_done = carver.take<std::uint32_t>(1);
  space.best = carver.take<unsigned long long>(1);
  space.stream = carver.take<unsigned long long>(a.model.hidden);
  space.next_stream = carver.take<unsigned long long>(a.model.hidden);
  if (a.step.number % 2 != 0) std::swap(space.stream, space.next_stream);
  space.qkv = carver.take<std::uint32_t>(std::int64_t{plan.qkv_parts} * qkv_tiles(a) * kTileRows);
  space.gate_up =
      carver.take<std::uint32_t>(std::int64_t{plan.gate_up_parts} * 2 * a.gate_tiles * kTileRows);
  space.attended = carver.take<std::uint32_t>(heads * a.model.head_dim);
  space.attended_scale = carver.take<uint2>(heads);
  return carver.used();
}

}  // namespace decode

cudaError_t decode_plan(const DecodeModel& model, DecodePlan& plan) {
  using namespace decode;
  int device = 0, major = 0, minor = 0, blocks = 0, shared = 0;
  for (const auto& [value, attribute] :
       {std::pair{&major, cudaDevAttrComputeCapabilityMajor},
        std::pair{&minor, cudaDevAttrComputeCapabilityMinor},
        std::pair{&blocks, cudaDevAttrMultiProcessorCount},
        std::pair{&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin}}) {
    cudaError_t status = cudaGetDevice(&device);
    if (status == cudaSuccess) status = cudaDeviceGetAttribute(value, attribute, device);
    if (status != cudaSuccess) return status;
  }
  if (major != 9 || minor != 0) return cudaErrorNotSupported;
  if (!takes(model)) return cudaErrorInvalidValue;
  const Args a = shape_args(model);
  const int items = model.kv_heads * a.subgroups;
  const int x_chunks = staged_chunks(a, blocks);
  const int rest = shared - kRingOffset - 2 * x_chunks * kXChunkBytes;
  plan.ring_chunks = std::min(kMaxRing, rest / kChunkBytes / kGroups * kGroups);
  if (blocks > kDecodeMaxBlocks || items > blocks || x_chunks > kMaxXChunks ||
      plan.ring_chunks < 2 * kGroups) {
    return cudaErrorInvalidValue;
  }
  plan.blocks = blocks;
  plan.x_chunks = x_chunks;
  plan.shared_bytes = kRingOffset + plan.ring_chunks * kChunkBytes + 2 * x_chunks * kXChunkBytes;
  plan.qkv_parts = most_parts(qkv_tiles(a), a.hidden_chunks, blocks);
  plan.gate_up_parts = most_parts(2 * a.gate_tiles, a.hidden_chunks, blocks);
  plan.splits = blocks / items;
  Workspace space{};
  plan.workspace_bytes = carve(a, plan, nullptr, space);
  return cudaFuncSetAttribute(kernel_of(model), cudaFuncAttributeMaxDynamicSharedMemorySize,
                              plan.shared_bytes);
}

cudaError_t decode_step(const DecodeModel& model, const DecodePlan& plan, const DecodeStep& step,
                        cudaStream_t stream) {
  using namespace decode;
  if (plan.blocks <= 0 || step.position < 0 || step.position >= model.context ||
      step.position > INT32_MAX - kConsumers || step.token == nullptr || step.status == nullptr ||
      step.workspace == nullptr || step.spin_limit_cycles <= 0) {
    return cudaErrorInvalidValue;
  }
  LaunchArgs launch;
  std::copy(std::begin(model.layer), std::end(model.layer), std::begin(launch.layer));
  Args& a = launch.args;
  a = shape_args(model);
  a.step = step;
  a.ring = plan.ring_chunks;
  a.x_chunks = plan.x_chunks;
  a.splits = plan.splits;
  (void)carve(a, plan, step.workspace, a.space);
  void* arguments[] = {&launch};
  // Cooperative: either all blocks run at once, as waiting for each other needs, or the launch
  // fails.
  return cudaLaunchCooperativeKernel(kernel_of(model), dim3(static_cast<unsigned>(plan.blocks)),
                                     dim3(kThreads), arguments,
                                     static_cast<std::size_t>(plan.shared_bytes), stream);
}

}  // namespace qf::cuda
