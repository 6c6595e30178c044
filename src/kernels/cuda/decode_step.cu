#include <algorithm>
#include <iterator>
#include <utility>

#include "decode_args.cuh"
#include "decode_attention.cuh"
#include "decode_producer.cuh"
#include "decode_stage.cuh"
#include "decode_weights.cuh"
#include "hopper.cuh"
#include "qwen3fp4/kernels/cuda/decode_step.h"

namespace qf::cuda {
namespace decode {
namespace {

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
