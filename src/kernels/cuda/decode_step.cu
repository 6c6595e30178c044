#include <algorithm>
#include <utility>

#include "decode_args.cuh"
#include "decode_attention.cuh"
#include "decode_stage.cuh"
#include "hopper.cuh"
#include "qwen3fp4/kernels/cuda/decode_step.h"

namespace qf::cuda {
namespace decode {
namespace {

struct Ring {
  std::uint8_t* bytes;
  std::uint64_t* full;
  std::uint64_t* empty;
};

// Fetches this block's chunks of all phases in order, a few at a time: more bytes on their way
// do not come sooner, they delay the activations that the consumers read between phases.
__device__ __forceinline__ void produce(const Args& a, const Ring& ring,
                                        const volatile int* stopped) {
  constexpr int kInFlight = 3;
  int slot = 0, arrived_slot = 0;
  std::uint32_t parity = 1, arrived_parity = 0;
  int issued = 0, arrived = 0;
  const auto wait_arrived = [&] {
    mbarrier_wait(shared_address(ring.full + arrived_slot), arrived_parity);
    ++arrived;
    if (++arrived_slot == a.ring) {
      arrived_slot = 0;
      arrived_parity ^= 1U;
    }
  };
  const int phases = a.model.layers * kPhasesPerLayer;
  for (int index = 0; index <= phases; ++index) {
    const Phase p = phase_at(a, index);
    if (p.type == kAttention) continue;
    const std::uint8_t* source = nullptr;
    for (int chunk = p.first; chunk < p.last; ++chunk, source += kChunkBytes) {
      if (chunk == p.first || chunk % p.chunks_per_tile == 0) {
        int tile = chunk / p.chunks_per_tile;
        const std::uint8_t* const base = matrix_of(a, p, tile).chunks;
        const std::int64_t number =
            std::int64_t{tile} * p.chunks_per_tile + chunk % p.chunks_per_tile;
        source = base + number * kChunkBytes;
      }
      while (!mbarrier_try_wait(shared_address(ring.empty + slot), parity)) {
        if (*stopped == 0) continue;
        while (arrived < issued) wait_arrived();  // no copy may outlive the block
        return;
      }
      if (issued - arrived >= kInFlight) wait_arrived();
      const std::uint32_t full = shared_address(ring.full + slot);
      mbarrier_expect(full, kChunkBytes);
      bulk_copy(shared_address(ring.bytes + slot * kChunkBytes), source, kChunkBytes, full);
      ++issued;
      if (++slot == a.ring) {
        slot = 0;
        parity ^= 1U;
      }
    }
  }
}

// A lane's sums of rows g and g + 8 over its block of every four.
struct RowSums {
  float low = 0, high = 0;
};

// A warp's 16 rows of one chunk. `bytes`: its part of the chunk; `x`: descriptor of the staged
// chunk; the slot is given back as soon as its bytes are in registers.
__device__ __forceinline__ void multiply_chunk(const std::uint8_t* bytes, std::uint32_t empty,
                                               std::uint64_t x, float2 x_scale, int lane,
                                               RowSums& sums) {
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
    wgmma_fence();
    wgmma_m64n16k32<false>(c[u], low[4 * u], high[4 * u], low[4 * u + 1], high[4 * u + 1],
                           x + 32 * u);
    wgmma_m64n16k32<true>(c[u], low[4 * u + 2], high[4 * u + 2], low[4 * u + 3], high[4 * u + 3],
                          x + 32 * u + 16);
    wgmma_commit();
  }
  float sum_low = 0, sum_high = 0;
  // Columns 2t, 2t + 1 and 8 + 2t: the three terms of this lane's block.
  const auto add_unit = [&](int u, std::uint32_t scale_pair) {
    const float2 scale = e4m3x2_to_floats(scale_pair);
    const float row_low = fmaf(c[u][4], 0x1p-10F, fmaf(c[u][1], 0x1p-5F, c[u][0]));
    const float row_high = fmaf(c[u][6], 0x1p-10F, fmaf(c[u][3], 0x1p-5F, c[u][2]));
    sum_low = fmaf(row_low, scale.x, sum_low);
    sum_high = fmaf(row_high, scale.y, sum_high);
  };
  const auto add_half = [&](float scale) {
    sums.low = fmaf(sum_low, scale, sums.low);
    sums.high = fmaf(sum_high, scale, sums.high);
    sum_low = sum_high = 0;
  };
  wgmma_wait<3>();
  add_unit(0, scales.x & 0xFFFFU);
  wgmma_wait<2>();
  add_unit(1, scales.x >> 16);
  add_half(x_scale.x);
  wgmma_wait<1>();
  add_unit(2, scales.y & 0xFFFFU);
  wgmma_wait<0>();
  add_unit(3, scales.y >> 16);
  add_half(x_scale.y);
}

// Where a warpgroup stands in the ring; kept from phase to phase.
struct RingPlace {
  int slot;
  std::uint32_t parity;
  int next;  // chunks of the block until this warpgroup's next
};

struct Consumer {
  const Args& a;
  Ring ring;
  StagedX x;
  float* sums;  // [kPassTiles, kGroups, 64]
  std::uint64_t descriptor;
  int group, group_warp, lane;

  __device__ __forceinline__ void flush(RowSums& s, int tile_in_pass) const {
    s.low += __shfl_xor_sync(~0U, s.low, 1);
    s.high += __shfl_xor_sync(~0U, s.high, 1);
    s.low += __shfl_xor_sync(~0U, s.low, 2);
    s.high += __shfl_xor_sync(~0U, s.high, 2);
    const int t = lane & 3;
    float* const out = sums + (tile_in_pass * kGroups + group) * static_cast<int>(kStreamRows) +
                       group_warp * 16 + (lane >> 2);
    if (t == 0) out[0] = s.low;
    if (t == 1) out[8] = s.high;
    s = {};
  }

  // This warpgroup's share of the chunks first .. last - 1. `whole_x`: x is staged by column chunk,
  // else in the order of these chunks.
  __device__ __forceinline__ void multiply(const Phase& p, int first, int last, bool whole_x,
                                           RingPlace& place) const {
    const int tile0 = first / p.chunks_per_tile;
    RowSums s;
    int i = first + place.next;
    int tile = i / p.chunks_per_tile;
    int column = i - tile * p.chunks_per_tile;
    bool dirty = false;
    for (; i < last; i += kGroups) {
      dirty = true;
      const int staged = whole_x ? column : i - first;
      mbarrier_wait(shared_address(ring.full + place.slot), place.parity);
      multiply_chunk(ring.bytes + place.slot * kChunkBytes + group_warp * 2304,
                     shared_address(ring.empty + place.slot),
                     descriptor + __shfl_sync(~0U, staged, 0) * (kXChunkBytes / 16),
                     *reinterpret_cast<const float2*>(x.scale + 2 * staged), lane, s);
      place.slot += kGroups;
      if (place.slot >= a.ring) {
        place.slot -= a.ring;
        place.parity ^= 1U;
      }
      column += kGroups;
      if (column < p.chunks_per_tile) continue;
      flush(s, tile - tile0);
      dirty = false;
      for (; column >= p.chunks_per_tile; column -= p.chunks_per_tile) ++tile;
    }
    place.next = i - last;
    if (dirty) flush(s, tile - tile0);
  }
};

__device__ __forceinline__ float row_sum(const float* sums, int tile_in_pass, int row) {
  const float* const s = sums + tile_in_pass * kGroups * static_cast<int>(kStreamRows) + row;
  return s[0] + s[kStreamRows] + s[2 * kStreamRows];
}

// Adds to the stream as fixed point, which any order of blocks gives the same bits.
__device__ __forceinline__ void add_to_stream(const Args& a, int phase, int row, float value) {
  if (row >= a.model.hidden) return;
  if (!(fabsf(value) < 0x1p30F)) {
    report_non_finite(a, phase);
    return;
  }
  const long long steps = __float2ll_rn(value * 0x1p32F);
  atomicAdd(reinterpret_cast<unsigned long long*>(a.space.residual + row),
            static_cast<unsigned long long>(steps));
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

// Sums of a pass to where the next phase reads them.
__device__ __forceinline__ void finish_rows(const Args& a, int phase, const Phase& p, int tile0,
                                            int tiles, const float* sums, float norm,
                                            unsigned long long& best, int thread) {
  const int blocks = static_cast<int>(gridDim.x);
  for (int i = thread; i < tiles * static_cast<int>(kStreamRows); i += kConsumers) {
    const int tile = tile0 + i / static_cast<int>(kStreamRows);
    const int in_tile = i % static_cast<int>(kStreamRows);
    const int row = tile * static_cast<int>(kStreamRows) + in_tile;
    int tile_in_matrix = tile;
    // The weights' codes are E4M3 numbers of 2^-6 their value.
    const float scale = matrix_of(a, p, tile_in_matrix).scale * 64.0F;
    const float value = row_sum(sums, tile - tile0, in_tile) * (scale * norm);
    if (p.type == kQkv || p.type == kGateUp) {
      const int all_tiles = p.type == kQkv ? qkv_tiles(a) : 2 * a.gate_tiles;
      const int part = static_cast<int>(blockIdx.x) -
                       block_of(tile * p.chunks_per_tile, all_tiles * p.chunks_per_tile, blocks);
      float* const out = p.type == kQkv ? a.space.qkv : a.space.gate_up;
      out[std::int64_t{part} * all_tiles * kStreamRows + row] = value;
    } else if (p.type == kHead) {
      finish_logit(a, phase, row, value, best);
    } else {
      add_to_stream(a, phase, row, value);
    }
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
  a.step.status->token = 0xFFFFFFFFU - static_cast<std::uint32_t>(choice);
  *a.space.heads_done = 0;
}

// True when the barrier was passed; false after the time limit.
__device__ __forceinline__ bool wait_for_grid(const Args& a, int phase, std::uint32_t target) {
  const long long start = clock64();
  while (static_cast<std::int32_t>(load_acquire(a.space.barrier) - target) < 0) {
    if (clock64() - start > a.step.spin_limit_cycles) {
      atomicCAS(&a.step.status->hung, 0U, static_cast<unsigned>(phase) + 1U);
      return false;
    }
  }
  return true;
}

__device__ __forceinline__ void copy_stream(const Args& a, int layer, int thread) {
  for (int i = thread; i < a.model.hidden; i += kConsumers) {
    a.step.hidden[std::int64_t{layer} * a.model.hidden + i] = __ldcg(a.space.residual + i);
  }
}

__device__ __forceinline__ void start_stream(const Args& a, int thread) {
  const int blocks = static_cast<int>(gridDim.x);
  const int first = a.model.hidden * static_cast<int>(blockIdx.x) / blocks;
  const int last = a.model.hidden * (static_cast<int>(blockIdx.x) + 1) / blocks;
  const std::int64_t row = *a.step.token;
  for (int i = first + thread; i < last; i += kConsumers) {
    const float value = __bfloat162float(a.model.embed_tokens[row * a.model.hidden + i]);
    a.space.residual[i] = __float2ll_rn(value * 0x1p32F);
  }
}

struct SharedParts {
  std::uint8_t* qkv;  // parts of each tile
  std::uint8_t* gate_up;
};

template <int kHeadDim>
__device__ __forceinline__ void consume(const Args& a, const Consumer& c, const SharedParts& parts,
                                        const AttentionShared& attention, int* stopped) {
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = __shfl_sync(~0U, thread / 32, 0);
  RingPlace place{c.group, 0, c.group};
  std::uint32_t target = a.step.barriers_passed;
  unsigned long long best = 0;
  const int head = a.model.layers * kPhasesPerLayer;
  for (int index = 0; index <= head; ++index) {
    const Phase p = phase_at(a, index);
    const bool wide = p.type == kQkv || p.type == kGateUp || p.type == kHead;
    NormWeights norm;
    if (wide) norm = load_norm(a, p, warp, c.lane);
    if (index > 0) {
      if (thread == 0 && !wait_for_grid(a, index, target)) *stopped = 1;
      named_barrier<kConsumers>();
      if (*static_cast<volatile int*>(stopped) != 0) return;
    } else {
      start_stream(a, thread);
    }
    if (p.type == kAttention) attention_phase<kHeadDim>(a, p, parts.qkv, attention, thread);
    if (wide) stage_stream(a, index, norm, c.x, warp, c.lane);
    if (a.step.hidden != nullptr && blockIdx.x == 0 && index > 0 &&
        (p.type == kQkv || p.type == kHead)) {
      copy_stream(a, p.layer - 1, thread);
    }
    for (int first = p.first; p.type != kAttention && first < p.last;) {
      const int tile0 = first / p.chunks_per_tile;
      int last = min(p.last, (tile0 + kPassTiles) * p.chunks_per_tile);
      if (!wide) last = min(last, first + a.x_chunks);
      if (!wide) stage_columns(a, index, p, first, last, parts.gate_up, c.x, warp, c.lane);
      for (int i = thread; i < kPassTiles * kGroups * kStreamRows; i += kConsumers) c.sums[i] = 0;
      fence_proxy_async();
      named_barrier<kConsumers>();
      c.multiply(p, first, last, wide, place);
      float inverse = 1;
      if (wide) {
        float squares = 0;
        for (int i = 0; i < a.hidden_chunks; ++i) squares += c.x.square[i];
        inverse = 1.0F / sqrtf(squares / static_cast<float>(a.model.hidden) + a.model.rms_norm_eps);
      }
      named_barrier<kConsumers>();
      finish_rows(a, index, p, tile0, (last - 1) / p.chunks_per_tile - tile0 + 1, c.sums, inverse,
                  best, thread);
      first = last;
      if (first < p.last) named_barrier<kConsumers>();  // the sums are read
    }
    if (index == head) break;
    target += gridDim.x;
    named_barrier<kConsumers>();
    if (thread == 0) add_release(a.space.barrier, 1U);
    if (p.type == kAttention) clear_sums<kHeadDim>(attention, thread);
  }
  finish_choice(a, best, thread);
}

// Bytes of shared memory behind the ring and the activations.
constexpr int kSumsBytes = kPassTiles * kGroups * static_cast<int>(kStreamRows) * 4;
constexpr int kQueryBytes = kHeadsPerItem * 128 * 4;
constexpr int kScaleBytes = kConsumerWarps * kHeadsPerItem * 8;
constexpr int kFixedBytes = kSumsBytes + kQueryBytes + kScaleBytes;

template <int kHeadDim>
__global__ void __launch_bounds__(kThreads, 1) decode_kernel(const __grid_constant__ Args a) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) std::uint8_t shared[];
  __shared__ __align__(8) std::uint64_t full[kMaxRing], empty[kMaxRing];
  __shared__ __align__(8) float x_scale[2 * kMaxXChunks];
  __shared__ float square[kMaxXChunks];
  __shared__ int stopped;
  const int thread = static_cast<int>(threadIdx.x);
  const int warp = __shfl_sync(~0U, thread / 32, 0);
  std::uint8_t* const staged = shared + a.ring * kChunkBytes;
  const int x_area = a.x_chunks * kXChunkBytes;
  std::uint8_t* const fixed = staged + 2 * x_area;
  std::uint8_t* const tables = fixed + kFixedBytes;
  const Ring ring{shared, full, empty};
  const SharedParts parts{tables, tables + qkv_tiles(a)};
  if (thread == 0) {
    stopped = 0;
    for (int i = 0; i < a.ring; ++i) {
      mbarrier_init(shared_address(full + i), 1);
      mbarrier_init(shared_address(empty + i), 4);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  for (int i = thread; i < 2 * x_area / 16; i += kThreads) {
    reinterpret_cast<uint4*>(staged)[i] = make_uint4(0, 0, 0, 0);
  }
  const int blocks = static_cast<int>(gridDim.x);
  for (int i = thread; i < qkv_tiles(a); i += kThreads) {
    parts.qkv[i] = static_cast<std::uint8_t>(parts_of(i, a.hidden_chunks, qkv_tiles(a), blocks));
  }
  for (int i = thread; i < 2 * a.gate_tiles; i += kThreads) {
    parts.gate_up[i] =
        static_cast<std::uint8_t>(parts_of(i, a.hidden_chunks, 2 * a.gate_tiles, blocks));
  }
  __syncthreads();
  if (warp == kConsumerWarps) {
    if (thread % 32 == 0) produce(a, ring, &stopped);
    return;
  }
  // Right operand: 8 columns of N apart x_area bytes, core matrices along k 128 bytes.
  const std::uint64_t descriptor = static_cast<std::uint64_t>(x_area >> 4) << 32 |
                                   static_cast<std::uint64_t>(128 >> 4) << 16 |
                                   static_cast<std::uint64_t>(shared_address(staged) >> 4);
  const Consumer consumer{a,
                          ring,
                          {staged, x_scale, square, x_area},
                          reinterpret_cast<float*>(fixed),
                          descriptor,
                          warp / 4,
                          warp % 4,
                          thread % 32};
  const AttentionShared attention{reinterpret_cast<float*>(fixed + kSumsBytes),
                                  reinterpret_cast<float2*>(fixed + kSumsBytes + kQueryBytes),
                                  reinterpret_cast<float*>(staged)};
  consume<kHeadDim>(a, consumer, parts, attention, &stopped);
#else
  __trap();
#endif
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
  a.model = model;
  a.q_tiles = tiles_of(model.heads * model.head_dim);
  a.kv_tiles = tiles_of(model.kv_heads * model.head_dim);
  a.o_tiles = tiles_of(model.hidden);
  a.gate_tiles = tiles_of(model.intermediate);
  a.head_tiles = tiles_of(model.vocab);
  a.hidden_chunks = chunks_of(model.hidden);
  a.o_chunks = chunks_of(model.heads * model.head_dim);
  a.down_chunks = chunks_of(model.intermediate);
  a.subgroups = ceil_divide(model.heads / model.kv_heads, kHeadsPerItem);
  return a;
}

bool takes(const DecodeModel& m) {
  const bool positive = m.layers > 0 && m.hidden > 0 && m.intermediate > 0 && m.heads > 0 &&
                        m.kv_heads > 0 && m.vocab > 0 && m.context > 0;
  if (!positive || m.layers > kDecodeMaxLayers || m.hidden > kDecodeMaxHidden) return false;
  if (m.head_dim != 64 && m.head_dim != 128) return false;
  if (m.heads % m.kv_heads != 0 || m.heads / m.kv_heads > 2 * kHeadsPerItem) return false;
  return m.hidden % 16 == 0 && m.intermediate % 16 == 0;
}

// Activations staged at a time: the stream whole; of o's and down's columns a block's share, in
// several passes where it is too large.
int staged_chunks(const Args& a, int blocks) {
  const int share = std::max(ceil_divide(a.o_tiles * a.o_chunks, blocks),
                             ceil_divide(a.o_tiles * a.down_chunks, blocks));
  const int passes = ceil_divide(share, kMaxXChunks);
  constexpr int kForAttention = 6;  // whose sums lie over them
  return std::max({a.hidden_chunks, ceil_divide(share, passes), kForAttention});
}

void* kernel_of(int head_dim) {
  return head_dim == 128 ? reinterpret_cast<void*>(decode_kernel<128>)
                         : reinterpret_cast<void*>(decode_kernel<64>);
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
  space.barrier = carver.take<std::uint32_t>(1);
  space.heads_done = carver.take<std::uint32_t>(1);
  space.best = carver.take<unsigned long long>(1);
  space.residual = carver.take<std::int64_t>(a.model.hidden);
  space.qkv = carver.take<float>(plan.qkv_parts * (a.q_tiles + 2 * a.kv_tiles) * kStreamRows);
  space.gate_up = carver.take<float>(plan.gate_up_parts * 2 * a.gate_tiles * kStreamRows);
  space.attended = carver.take<float>(heads * a.model.head_dim);
  space.attended_scale = carver.take<float2>(heads);
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
  const int tables = a.q_tiles + 2 * a.kv_tiles + 2 * a.gate_tiles;
  constexpr int kStatic = 1024;  // mbarriers, scales
  const int rest = shared - kStatic - kFixedBytes - tables - 2 * x_chunks * kXChunkBytes;
  plan.ring_chunks = std::min(kMaxRing, rest / kChunkBytes / kGroups * kGroups);
  if (blocks > kDecodeMaxBlocks || items > blocks || x_chunks > kMaxXChunks ||
      plan.ring_chunks < 2 * kGroups) {
    return cudaErrorInvalidValue;
  }
  plan.blocks = blocks;
  plan.x_chunks = x_chunks;
  plan.shared_bytes =
      plan.ring_chunks * kChunkBytes + 2 * x_chunks * kXChunkBytes + kFixedBytes + tables;
  plan.qkv_parts = most_parts(a.q_tiles + 2 * a.kv_tiles, a.hidden_chunks, blocks);
  plan.gate_up_parts = most_parts(2 * a.gate_tiles, a.hidden_chunks, blocks);
  plan.splits = blocks / items;
  Workspace space{};
  plan.workspace_bytes = carve(a, plan, nullptr, space);
  return cudaFuncSetAttribute(kernel_of(model.head_dim),
                              cudaFuncAttributeMaxDynamicSharedMemorySize, plan.shared_bytes);
}

cudaError_t decode_step(const DecodeModel& model, const DecodePlan& plan, const DecodeStep& step,
                        cudaStream_t stream) {
  using namespace decode;
  if (plan.blocks <= 0 || step.position < 0 || step.position >= model.context ||
      step.position > INT32_MAX - kConsumers || step.token == nullptr || step.status == nullptr ||
      step.workspace == nullptr || step.spin_limit_cycles <= 0) {
    return cudaErrorInvalidValue;
  }
  Args a = shape_args(model);
  a.step = step;
  a.ring = plan.ring_chunks;
  a.x_chunks = plan.x_chunks;
  a.splits = plan.splits;
  (void)carve(a, plan, step.workspace, a.space);
  void* arguments[] = {&a};
  // Cooperative: either all blocks run at once, as the barriers need, or the launch fails.
  return cudaLaunchCooperativeKernel(
      kernel_of(model.head_dim), dim3(static_cast<unsigned>(plan.blocks)), dim3(kThreads),
      arguments, static_cast<std::size_t>(plan.shared_bytes), stream);
}

}  // namespace qf::cuda
