#pragma once

#include <cstdint>

#include "qwen3fp4/kernels/cuda/decode_step.h"
#include "qwen3fp4/kernels/fp4.h"

// What the parts of the decode kernel share: its arguments, and which block does what.
namespace qf::cuda::decode {

inline constexpr int kGroups = 3;  // warpgroups that multiply
inline constexpr int kConsumerWarps = 4 * kGroups;
inline constexpr int kConsumers = 32 * kConsumerWarps;
inline constexpr int kThreads = kConsumers + 32;  // and the producer's warp
inline constexpr int kMaxRing = 24;
inline constexpr int kMaxXChunks = 24;
inline constexpr int kPassTiles = 4;     // row tiles whose sums a block holds at a time
inline constexpr int kHeadsPerItem = 4;  // query heads of one attention item
inline constexpr int kMinSplit = 64;     // cached tokens worth a block of their own
inline constexpr int kChunkBytes = static_cast<int>(kStreamChunkBytes);
inline constexpr int kXChunkBytes = 2048;  // 16 core matrices of 16 x 8 bytes, for each half of N

enum PhaseType { kQkv = 0, kAttention = 1, kO = 2, kGateUp = 3, kDown = 4, kHead = 5 };
inline constexpr int kPhasesPerLayer = 5;

struct Workspace {
  std::int64_t* residual;     // [hidden] steps of 2^-32
  float* qkv;                 // [qkv_parts, rows of q, k and v, each padded to tiles]
  float* gate_up;             // [gate_up_parts, rows of gate and up, likewise]
  float* attended;            // [items, splits, kHeadsPerItem, head_dim] sums weighted by exp
  float2* attended_scale;     // [items, splits, kHeadsPerItem] largest score (log2), sum of exp
  std::uint32_t* barrier;     // arrivals since the workspace was zeroed
  std::uint32_t* heads_done;  // blocks that have finished the head
  unsigned long long* best;   // greedy choice so far
};

struct Args {
  DecodeModel model;
  DecodeStep step;
  Workspace space;
  std::int32_t ring, x_chunks, splits;
  // Row tiles and chunks a row tile of each kind of matrix.
  std::int32_t q_tiles, kv_tiles, o_tiles, gate_tiles, head_tiles;
  std::int32_t hidden_chunks, o_chunks, down_chunks;
  std::int32_t subgroups;  // items of one key/value head
};

struct Phase {
  int type, layer;
  int chunks_per_tile;
  int first, last;  // this block's chunks, numbered through the phase's tiles
};

__device__ __forceinline__ int qkv_tiles(const Args& a) { return a.q_tiles + 2 * a.kv_tiles; }

__device__ __forceinline__ Phase phase_at(const Args& a, int index) {
  Phase p;
  p.layer = index / kPhasesPerLayer;
  p.type = p.layer < a.model.layers ? index - p.layer * kPhasesPerLayer : static_cast<int>(kHead);
  const int block = static_cast<int>(blockIdx.x);
  const int blocks = static_cast<int>(gridDim.x);
  int tiles = 0;
  p.chunks_per_tile = a.hidden_chunks;
  switch (p.type) {
    case kQkv:
      tiles = qkv_tiles(a);
      break;
    case kO:
      tiles = a.o_tiles;
      p.chunks_per_tile = a.o_chunks;
      break;
    case kGateUp:
      tiles = 2 * a.gate_tiles;
      break;
    case kDown:
      tiles = a.o_tiles;
      p.chunks_per_tile = a.down_chunks;
      break;
    case kHead:
      // Whole tiles: there are enough of them, and a block's logits need no second look.
      p.first = a.head_tiles * block / blocks * p.chunks_per_tile;
      p.last = a.head_tiles * (block + 1) / blocks * p.chunks_per_tile;
      return p;
  }
  p.first = tiles * p.chunks_per_tile * block / blocks;
  p.last = tiles * p.chunks_per_tile * (block + 1) / blocks;
  return p;
}

// The block that has chunk `chunk` of `chunks`, by the division in phase_at().
QF_HD constexpr int block_of(int chunk, int chunks, int blocks) {
  return ((chunk + 1) * blocks - 1) / chunks;
}
// How many blocks share a tile; the first of them writes part 0.
QF_HD constexpr int parts_of(int tile, int chunks_per_tile, int tiles, int blocks) {
  const int chunks = tiles * chunks_per_tile;
  return block_of((tile + 1) * chunks_per_tile - 1, chunks, blocks) -
         block_of(tile * chunks_per_tile, chunks, blocks) + 1;
}

// The matrix that a tile of a phase belongs to, and the tile's number in it.
__device__ __forceinline__ const DecodeMatrix& matrix_of(const Args& a, const Phase& p, int& tile) {
  const DecodeLayer& layer = a.model.layer[p.layer < a.model.layers ? p.layer : 0];
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

__device__ __forceinline__ float warp_sum(float value) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(~0U, value, offset);
  return value;
}

// NaN and infinity (and what no longer fits the arithmetic) stop the run by name, not by "!!!!".
__device__ __forceinline__ void report_non_finite(const Args& a, int phase) {
  atomicCAS(&a.step.status->non_finite, 0U, static_cast<unsigned>(phase) + 1U);
}

// How the cached tokens of one key/value head are divided.
struct Split {
  int tokens;  // of one split
  int count;
};
__device__ __forceinline__ Split split_of(const Args& a) {
  const int tokens = static_cast<int>(a.step.position) + 1;
  Split s;
  s.tokens = max(kMinSplit, (tokens + a.splits - 1) / a.splits);
  s.count = (tokens + s.tokens - 1) / s.tokens;
  return s;
}

}  // namespace qf::cuda::decode
