#pragma once

#include <cstdint>

#include "qwen3fp4/kernels/cuda/decode_step.h"
#include "qwen3fp4/kernels/fp4.h"
#include "qwen3fp4/kernels/kv_row.h"
#include "qwen3fp4/kernels/nf4_table.h"

// What the parts of the decode kernel share: its arguments, and which block does what. T is the
// type of cached keys and values: __half or E4M3.
namespace qf::cuda::decode {

inline constexpr int kGroups = 3;  // warpgroups that multiply
inline constexpr int kConsumerWarps = 4 * kGroups;
inline constexpr int kConsumers = 32 * kConsumerWarps;
inline constexpr int kThreads = kConsumers + 128;  // and the producer's warpgroup
// Registers of a thread: 128 on average, dealt to those who multiply.
inline constexpr int kProducerRegisters = 32;
inline constexpr int kConsumerRegisters = 160;
inline constexpr int kMaxRing = 24;
inline constexpr int kMaxXChunks = 24;
inline constexpr int kPassTiles = 8;     // row tiles whose sums a block holds at a time
inline constexpr int kHeadsPerItem = 4;  // query heads of one attention item
inline constexpr int kMaxHeadDim = 128;
inline constexpr int kMaxQkvTiles = 192;
inline constexpr int kMaxGateUpTiles = 832;
inline constexpr int kMaxOTiles = kDecodeMaxHidden / 64;
// Cached tokens worth a block of their own: fewer than three slots in fp16, so that the newest
// token has a warpgroup to itself.
inline constexpr int kMinSplit = 32;
inline constexpr int kTileRows = static_cast<int>(kStreamRows);
inline constexpr int kChunkCols = static_cast<int>(kStreamCols);
inline constexpr int kChunkBytes = static_cast<int>(kStreamChunkBytes);
inline constexpr int kXChunkBytes = 2048;  // 16 core matrices of 16 x 8 bytes, in each area

// Products; attention comes between qkv and o and is the first part of o's phase.
enum PhaseType { kQkv = 0, kO = 1, kGateUp = 2, kDown = 3, kHead = 4 };
inline constexpr int kPhasesPerLayer = 4;

// What blocks hand each other. There is no barrier over the grid: every word says itself whether it
// is complete (decode_words.cuh), and a block reads it again until it is.
struct Workspace {
  unsigned long long* stream;       // [hidden] of this step: fixed point and a count
  unsigned long long* next_stream;  // zeroed for the next step
  std::uint32_t* qkv;               // [qkv_parts, rows of q, k and v, each padded to tiles] tagged
  std::uint32_t* gate_up;           // [gate_up_parts, rows of gate and up, likewise] tagged
  std::uint32_t* attended;          // [items, splits, kHeadsPerItem, head_dim] tagged: sums by exp
  uint2* attended_scale;  // [items, splits, kHeadsPerItem] tagged: largest score (log2), sum of exp
  std::uint32_t* heads_done;  // blocks that have finished the head
  unsigned long long* best;   // greedy choice so far
};

// DecodeModel without its layers.
struct ModelArgs {
  std::int32_t layers, hidden, intermediate, heads, kv_heads, head_dim, vocab;
  float rms_norm_eps;
  const __nv_bfloat16* embed_tokens;
  const float* norm;
  DecodeMatrix lm_head;
  const float* rope_cos;
  const float* rope_sin;
  void* keys;
  void* values;
  float* key_scales;
  float* value_scales;
  std::int64_t context;
};

// What every phase needs: each block copies it to shared memory, for the constant cache is too
// small to keep it from phase to phase.
struct Args {
  ModelArgs model;
  DecodeStep step;
  Workspace space;
  std::int32_t ring, x_chunks, splits;
  // Row tiles and chunks a row tile of each kind of matrix.
  std::int32_t q_tiles, kv_tiles, o_tiles, gate_tiles, head_tiles;
  std::int32_t hidden_chunks, o_chunks, down_chunks;
  float inverse_hidden;  // 1 / hidden
  float code_factor;     // of what stands for the weights' codes: 64, or NF4's table's
  Nf4Table nf4;
  std::uint32_t minus_one;  // from the host, so that no compiler knows it
  std::int32_t group;       // query heads of one key/value head
  std::int32_t subgroups;   // items of one key/value head
};

struct LaunchArgs {
  Args args;
  DecodeLayer layer[kDecodeMaxLayers];
};

// A block's chunks of each type of phase.
struct ChunkRange {
  int first, last;
  int first_tile, first_column;  // of chunk `first`
  int first_part;  // which of the parts of the first tile is this block's; of its others the first
};

struct Phase {
  int type, layer;
  int number;  // as DecodeStatus counts
  int chunks_per_tile;
  int first, last;  // this block's chunks, numbered through the phase's tiles
  int first_tile, first_column, first_part;
  __device__ __forceinline__ bool reads_stream() const {
    return type == kQkv || type == kGateUp || type == kHead;
  }
};

QF_HD constexpr int qkv_tiles(const Args& a) { return a.q_tiles + 2 * a.kv_tiles; }

__device__ __forceinline__ int chunks_per_tile(const Args& a, int type) {
  return type == kO ? a.o_chunks : (type == kDown ? a.down_chunks : a.hidden_chunks);
}

__device__ __forceinline__ Phase phase_at(const Args& a, const ChunkRange* ranges, int index) {
  Phase p;
  p.layer = index / kPhasesPerLayer;
  p.type = p.layer < a.model.layers ? index - p.layer * kPhasesPerLayer : static_cast<int>(kHead);
  p.number = 5 * p.layer + (p.type >= kO && p.type <= kDown ? p.type + 1 : 0);
  p.chunks_per_tile = chunks_per_tile(a, p.type);
  p.first = ranges[p.type].first;
  p.last = ranges[p.type].last;
  p.first_tile = ranges[p.type].first_tile;
  p.first_column = ranges[p.type].first_column;
  p.first_part = ranges[p.type].first_part;
  return p;
}

// The block that has chunk `chunk` of `chunks`, by the division in range_of().
QF_HD constexpr int block_of(int chunk, int chunks, int blocks) {
  return ((chunk + 1) * blocks - 1) / chunks;
}
// How many blocks share a tile, and which of the parts is that of `block`, whose first chunk is
// `first`. Where chunks are fewer than blocks, each has its own block, and blocks between have
// none.
QF_HD constexpr int parts_of(int tile, int chunks_per_tile, int tiles, int blocks) {
  const int chunks = tiles * chunks_per_tile;
  if (chunks < blocks) return chunks_per_tile;
  return block_of((tile + 1) * chunks_per_tile - 1, chunks, blocks) -
         block_of(tile * chunks_per_tile, chunks, blocks) + 1;
}
QF_HD constexpr int part_of(int tile, int chunks_per_tile, int tiles, int blocks, int block,
                            int first) {
  const int chunks = tiles * chunks_per_tile;
  if (chunks < blocks) return first - tile * chunks_per_tile;
  return block - block_of(tile * chunks_per_tile, chunks, blocks);
}

__device__ __forceinline__ ChunkRange range_of(const Args& a, int type) {
  const int block = static_cast<int>(blockIdx.x);
  const int blocks = static_cast<int>(gridDim.x);
  const int per_tile = chunks_per_tile(a, type);
  if (type == kHead) {
    // Whole tiles: there are enough of them, and a block's logits need no second look.
    const int tile = a.head_tiles * block / blocks;
    return {tile * per_tile, a.head_tiles * (block + 1) / blocks * per_tile, tile, 0, 0};
  }
  const int tiles = type == kQkv ? qkv_tiles(a) : (type == kGateUp ? 2 * a.gate_tiles : a.o_tiles);
  const int first = tiles * per_tile * block / blocks;
  const int tile = first / per_tile;
  return {first, tiles * per_tile * (block + 1) / blocks, tile, first - tile * per_tile,
          part_of(tile, per_tile, tiles, blocks, block, first)};
}

QF_HD constexpr int lesser(int a, int b) { return a < b ? a : b; }
QF_HD constexpr int greater(int a, int b) { return a > b ? a : b; }

// How many warpgroups add to a tile of o or down: of every block its passes over the tile, each
// with as many warpgroups as it has chunks there, at most all.
QF_HD constexpr int adds_of(int tile, int chunks_per_tile, int tiles, int blocks, int x_chunks) {
  const int chunks = tiles * chunks_per_tile;
  const int begin = tile * chunks_per_tile;
  const int end = begin + chunks_per_tile;
  int adds = 0;
  for (int block = block_of(begin, chunks, blocks); block <= block_of(end - 1, chunks, blocks);
       ++block) {
    const int last = chunks * (block + 1) / blocks;
    for (int first = chunks * block / blocks; first < last; first += x_chunks) {
      const int shared = lesser(lesser(first + x_chunks, last), end) - greater(first, begin);
      adds += lesser(greater(shared, 0), kGroups);
    }
  }
  return adds;
}

// The matrix that a tile of a phase belongs to, and the tile's number in it.
__device__ __forceinline__ const DecodeMatrix& matrix_of(const LaunchArgs& launch, const Phase& p,
                                                         int& tile) {
  const Args& a = launch.args;
  const DecodeLayer& layer = launch.layer[p.layer < a.model.layers ? p.layer : 0];
  switch (p.type) {
    case kQkv:
      if (tile < a.q_tiles) return layer.q;
      tile -= a.q_tiles;
      if (tile < a.kv_tiles) return layer.k;
      tile -= a.kv_tiles;
      return layer.v;
    case kO:
      return layer.o;
    case kGateUp:
      if (tile < a.gate_tiles) return layer.gate;
      tile -= a.gate_tiles;
      return layer.up;
    case kDown:
      return layer.down;
    default:
      return a.model.lm_head;
  }
}

// Place in LayerTable::scale of a tile of qkv or gate/up.
__device__ __forceinline__ int scale_of(const Args& a, int type, int tile) {
  if (type == kGateUp) return tile < a.gate_tiles ? 4 : 5;
  return tile < a.q_tiles ? 0 : (tile < a.q_tiles + a.kv_tiles ? 1 : 2);
}

// In shared memory: what would come out of the kernel's arguments late (every layer's are a miss of
// the constant cache) or after divisions.
struct LayerTable {
  const float* norm[4];  // input, post-attention, q, k
  float scale[8];        // q, k, v, o, gate, up, down, times code_factor
};
// Cached tokens whose keys and values share a slot of the ring, with 4 KiB for each of the two.
inline constexpr int kSlotPart = 4096;
template <class T>
QF_HD constexpr int slot_tokens(int head_dim) {
  return kSlotPart / static_cast<int>(sizeof(T)) / head_dim;
}
// In fp8 the keys' scales come behind both, then the values'.
inline constexpr int kSlotScaleBytes = slot_tokens<E4M3>(64) * static_cast<int>(sizeof(float));
static_assert(2 * (kSlotPart + kSlotScaleBytes) <= kChunkBytes, "all of a slot's tokens fit");
// Bytes of that many scales, as bulk copies take them: the rows' padding holds what is too many.
QF_HD constexpr int copied_scale_bytes(int tokens) { return (tokens + 3) / 4 * 16; }

// How the tokens of one key/value head are divided, the step's own among them.
struct Split {
  int tokens;  // of one split, a multiple of slot_tokens()
  int count;
};
template <class T>
__device__ __forceinline__ Split split_of(const Args& a) {
  const int tokens = static_cast<int>(a.step.position) + 1;
  const int slot = slot_tokens<T>(a.model.head_dim);
  Split s;
  s.tokens = (max(kMinSplit, (tokens + a.splits - 1) / a.splits) + slot - 1) / slot * slot;
  s.count = (tokens + s.tokens - 1) / s.tokens;
  return s;
}

// A block's part in attention. A split without tokens is written all the same: every word is
// written once a layer, which is what its tag counts.
struct AttentionShare {
  int splits;   // of each head, this step
  bool exists;  // this block has a split
  bool active;  // which has tokens
  bool has_newest;
  int item, kv_head, subgroup, number;
  int first, cached, slots;  // tokens in the cache, and how many slots they come in
};
template <class T>
__device__ __forceinline__ AttentionShare attention_share(const Args& a) {
  AttentionShare s;
  const int items = a.model.kv_heads * a.subgroups;
  s.number = static_cast<int>(blockIdx.x) / items;
  s.item = static_cast<int>(blockIdx.x) - s.number * items;
  s.kv_head = s.item / a.subgroups;
  s.subgroup = s.item - s.kv_head * a.subgroups;
  const Split split = split_of<T>(a);
  s.splits = split.count;
  s.exists = s.number < a.splits;
  s.active = s.number < split.count;
  s.has_newest = s.number == split.count - 1;
  s.first = s.number * split.tokens;
  const int tokens = static_cast<int>(a.step.position) - s.first;
  s.cached = s.active ? min(split.tokens, tokens) : 0;
  const int slot = slot_tokens<T>(a.model.head_dim);
  s.slots = (s.cached + slot - 1) / slot;
  return s;
}

__device__ __forceinline__ std::int64_t cache_place(const Args& a, int layer, int kv_head,
                                                    std::int64_t token) {
  const std::int64_t head = std::int64_t{layer} * a.model.kv_heads + kv_head;
  return (head * a.model.context + token) * a.model.head_dim;
}
__device__ __forceinline__ std::int64_t scale_place(const Args& a, int layer, int kv_head,
                                                    std::int64_t token) {
  const std::int64_t head = std::int64_t{layer} * a.model.kv_heads + kv_head;
  return head * kv_scale_stride(a.model.context) + token;
}

// A block's shared memory: this, then the ring, then the staged activations. At an address that the
// compiler knows, for pointers to all of it would cost a third of the registers.
struct SharedState {
  std::uint64_t full[kMaxRing], empty[kMaxRing];     // mbarriers of the ring's slots
  float sums[kPassTiles][kGroups][kTileRows];        // of a pass, by warpgroup
  float query[kHeadsPerItem][kMaxHeadDim];           // scaled by log2(e) / sqrt(head_dim)
  float2 rotation[kMaxHeadDim / 2];                  // cosine and sine at the step's position
  float2 head_scale[kConsumerWarps][kHeadsPerItem];  // of attention: maximum, sum of exp
  // Key and value of the step's token, as the cache has them; in fp8 the scale comes behind
  // kMaxHeadDim codes.
  alignas(8) std::uint8_t newest[2][2 * kMaxHeadDim];
  float x_scale[kMaxXChunks];             // of each staged chunk
  alignas(16) float square[kMaxXChunks];  // sums of squares of the stream; others 0
  LayerTable layers[kDecodeMaxLayers];
  Args args;
  AttentionShare share;
  ChunkRange ranges[kHead + 1];
  std::uint32_t arrived[kPassTiles][4];  // bit per warpgroup that has left its sums
  std::uint32_t multiplying;             // the block reads the ring now
  // By tile: blocks that share it, or additions of a layer's o and down to it.
  std::uint8_t qkv_parts[kMaxQkvTiles], gate_up_parts[kMaxGateUpTiles];
  std::uint8_t o_adds[kMaxOTiles], down_adds[kMaxOTiles];
};
inline constexpr int kRingOffset = (static_cast<int>(sizeof(SharedState)) + 127) / 128 * 128;

extern __shared__ __align__(1024) std::uint8_t shared_bytes[];
__device__ __forceinline__ SharedState& shared_state() {
  return *reinterpret_cast<SharedState*>(shared_bytes);
}
__device__ __forceinline__ std::uint8_t* ring_slot(int slot) {
  return shared_bytes + kRingOffset + slot * kChunkBytes;
}
// Two areas [x_chunks, 2048].
__device__ __forceinline__ std::uint8_t* staged_x(const Args& a) {
  return shared_bytes + kRingOffset + a.ring * kChunkBytes;
}

// Where a warpgroup stands in the ring; kept from phase to phase.
struct RingPlace {
  int slot;
  std::uint32_t parity;
  int next;  // slots of the block until this warpgroup's next
  int ring;  // slots of the ring

  __device__ __forceinline__ void advance() {
    slot += kGroups;
    if (slot >= ring) {
      slot -= ring;
      parity ^= 1U;
    }
  }
};

// 2^x within 2^-22 of itself, below 2^-126 zero.
__device__ __forceinline__ float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0,%1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ float warp_sum(float value) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(~0U, value, offset);
  return value;
}

}  // namespace qf::cuda::decode
