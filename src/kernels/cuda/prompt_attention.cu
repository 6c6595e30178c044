#include <climits>
#include <cmath>

#include "qwen3fp4/kernels/cuda/attention.h"
#include "tensor_map.cuh"
#include "wgmma_half.cuh"

// A block: 128 queries of one head. One warpgroup copies, two multiply, 64 queries each, tile of
// positions by tile from the last one they see. While one's scores become weights, the other's
// products run.
namespace qf::cuda {
namespace {

constexpr int kConsumers = 2;  // warpgroups
constexpr int kConsumerThreads = 128 * kConsumers;
constexpr int kThreads = kConsumerThreads + 128;
constexpr int kConsumerWarps = 4 * kConsumers;
constexpr int kRegistersOfProducer = 40;
constexpr int kRegistersOfConsumers = 232;

constexpr int kRows = 64;  // queries of a warpgroup
constexpr int kQueries = kConsumers * kRows;
constexpr int kPositions = 128;  // of a tile
constexpr int kStages = 2;
constexpr int kHalfBytes = kPositions * 128;  // 64 columns of a tile, and of all queries
static_assert(kQueries == kPositions, "one size of boxes");
constexpr int kScores = kPositions / 2;  // of a thread

struct Work {
  std::int64_t tokens, positions, heads;
  int group;  // query heads of a key/value head
  float* logsumexp;
  std::int64_t logsumexp_stride;
  float scale;  // log2(e) / sqrt(head_dim): weights are powers of 2
  int query_tiles;
};

// Shared memory: q, then stages of k and of v, then barriers.
template <int kHeadDim>
struct Shared {
  static constexpr int kHalves = kHeadDim / kBoxCols;
  static constexpr int kTileBytes = kHalves * kHalfBytes;
  static constexpr int kBarriersAt = kTileBytes * (1 + 2 * kStages);
  static constexpr int kAllocated = kBarriersAt + 8 * (1 + 4 * kStages) + 1024;
  std::uint32_t base;
  __device__ __forceinline__ std::uint32_t q() const { return base; }
  __device__ __forceinline__ std::uint32_t k(int i) const { return base + (1 + i) * kTileBytes; }
  __device__ __forceinline__ std::uint32_t v(int i) const {
    return base + (1 + kStages + i) * kTileBytes;
  }
  __device__ __forceinline__ std::uint32_t barrier(int i) const {
    return base + kBarriersAt + 8 * i;
  }
  __device__ __forceinline__ std::uint32_t q_full() const { return barrier(0); }
  __device__ __forceinline__ std::uint32_t k_full(int i) const { return barrier(1 + i); }
  __device__ __forceinline__ std::uint32_t k_empty(int i) const { return barrier(1 + kStages + i); }
  __device__ __forceinline__ std::uint32_t v_full(int i) const {
    return barrier(1 + 2 * kStages + i);
  }
  __device__ __forceinline__ std::uint32_t v_empty(int i) const {
    return barrier(1 + 3 * kStages + i);
  }
};

// The longest rows first.
struct Place {
  int head, first_query, tiles;
};
__device__ __forceinline__ Place place_of(const Work& w) {
  Place p{};
  const int tile = w.query_tiles - 1 - static_cast<int>(blockIdx.x / w.heads);
  p.head = static_cast<int>(blockIdx.x % w.heads);
  p.first_query = tile * kQueries;
  const std::int64_t seen =
      min(w.positions, w.positions - w.tokens + p.first_query + std::int64_t{kQueries});
  p.tiles = static_cast<int>((seen + kPositions - 1) / kPositions);
  return p;
}

template <int kHeadDim>
__device__ void copy_tile(const CUtensorMap& map, std::uint32_t to, int row, int head,
                          std::uint32_t barrier) {
  mbarrier_expect(barrier, Shared<kHeadDim>::kTileBytes);
  for (int half = 0; half < Shared<kHeadDim>::kHalves; ++half) {
    tensor_copy(to + half * kHalfBytes, map, half * kBoxCols, row, head, barrier);
  }
}

template <int kHeadDim>
__device__ void produce(const CUtensorMap& q, const CUtensorMap& k, const CUtensorMap& v,
                        const Work& work, const Shared<kHeadDim>& shared) {
  const Place place = place_of(work);
  copy_tile<kHeadDim>(q, shared.q(), place.first_query, place.head, shared.q_full());
  const int head = place.head / work.group;
  Turn turn;
  for (int tile = place.tiles - 1; tile >= 0; --tile) {
    mbarrier_wait(shared.k_empty(turn.place), turn.phase ^ 1U);
    copy_tile<kHeadDim>(k, shared.k(turn.place), tile * kPositions, head,
                        shared.k_full(turn.place));
    mbarrier_wait(shared.v_empty(turn.place), turn.phase ^ 1U);
    copy_tile<kHeadDim>(v, shared.v(turn.place), tile * kPositions, head,
                        shared.v_full(turn.place));
    turn.next<kStages>();
  }
}

// Of a thread's two rows, g and g + 8 of its warp's 16.
struct Rows {
  float largest[2] = {-INFINITY, -INFINITY};
  float total[2] = {};  // of the thread's own columns
};

__device__ __forceinline__ float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0,%1;" : "=f"(y) : "f"(x));
  return y;
}

// Scores to -infinity where the position comes after the query's. `before`: the first row's
// position minus the tile's first.
__device__ __forceinline__ void mask(float (&scores)[kScores], int before) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int row = before + static_cast<int>(threadIdx.x / 32 % 4) * 16 + lane / 4;
  const int first = 2 * (lane % 4);
#pragma unroll
  for (int i = 0; i < kScores; ++i) {
    const int position = 8 * (i / 4) + first + i % 2;
    if (position > row + 8 * (i / 2 % 2)) scores[i] = -INFINITY;
  }
}

// Scores to weights, for what is the largest so far; returns what older sums shrink by.
__device__ __forceinline__ void weigh(float (&scores)[kScores], float scale, Rows& rows,
                                      float (&shrink)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = rows.largest[half];
#pragma unroll
    for (int i = 2 * half; i < kScores; i += 4) {
      largest = fmaxf(largest, fmaxf(scores[i], scores[i + 1]));
    }
    largest = fmaxf(largest, __shfl_xor_sync(~0U, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(~0U, largest, 2));
    // A row that has seen nothing yet.
    const float offset = largest == -INFINITY ? 0.0F : largest * scale;
    shrink[half] = power_of_two(fmaf(rows.largest[half], scale, -offset));
    rows.largest[half] = largest;
    float total = 0;
#pragma unroll
    for (int i = 2 * half; i < kScores; i += 4) {
      scores[i] = power_of_two(fmaf(scores[i], scale, -offset));
      scores[i + 1] = power_of_two(fmaf(scores[i + 1], scale, -offset));
      total += scores[i] + scores[i + 1];
    }
    rows.total[half] = fmaf(rows.total[half], shrink[half], total);
  }
}

template <class T, int kHeadDim>
__device__ void consume(const Work& work, const Shared<kHeadDim>& shared, T* out) {
  constexpr int kOut = kHeadDim / 2;  // of a thread
  const Place place = place_of(work);
  const int warpgroup = static_cast<int>(threadIdx.x / 128);
  const bool speaks = threadIdx.x % 32 == 0;
  const int first_row = place.first_query + warpgroup * kRows;
  const std::int64_t first_position = work.positions - work.tokens + first_row;
  const std::uint64_t q = swizzled_operand(shared.q() + warpgroup * kRows * 128);
  float sums[kOut] = {};
  float scores[kScores];
  Rows rows;
  Turn k_turn, v_turn;
  const auto score = [&] {
    mbarrier_wait(shared.k_full(k_turn.place), k_turn.phase);
    const std::uint64_t k = swizzled_operand(shared.k(k_turn.place));
    wgmma_fence();
    wgmma_first(T{}, scores, q, k);
#pragma unroll
    for (int step = 1; step < kHeadDim / 16; ++step) {
      const int at = step / 4 * (kHalfBytes >> 4) + 2 * (step % 4);
      wgmma(T{}, scores, q + at, k + at);
    }
    wgmma_commit();
  };
  const auto release_k = [&] {
    if (speaks) mbarrier_arrive(shared.k_empty(k_turn.place));
    k_turn.next<kStages>();
  };
  // The tile's scores become weights; starts to add up the values.
  const auto add = [&](int tile) {
    const std::int64_t before = first_position - std::int64_t{tile} * kPositions;
    if (before < kPositions - 1) mask(scores, static_cast<int>(before));
    float shrink[2];
    weigh(scores, work.scale, rows, shrink);
#pragma unroll
    for (int i = 0; i < kOut; ++i) sums[i] *= shrink[i / 2 % 2];
    // The layout of scores is that of wgmma's left operand.
    std::uint32_t weights[kPositions / 16][4];
#pragma unroll
    for (int step = 0; step < kPositions / 16; ++step) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        weights[step][i] = pack16(T{}, scores[8 * step + 2 * i], scores[8 * step + 2 * i + 1]);
        wgmma_operand(weights[step][i]);
      }
    }
    mbarrier_wait(shared.v_full(v_turn.place), v_turn.phase);
    const std::uint64_t v = swizzled_operand_along_n(shared.v(v_turn.place), kHalfBytes);
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kPositions / 16; ++step) {
      wgmma<true>(T{}, sums, weights[step], v + 128 * step);
    }
    wgmma_commit();
  };
  mbarrier_wait(shared.q_full(), 0);
  score();
  wgmma_wait<0>();
  release_k();
  for (int tile = place.tiles - 1; tile > 0; --tile) {
    add(tile);
    score();
    wgmma_wait<1>();
    if (speaks) mbarrier_arrive(shared.v_empty(v_turn.place));
    v_turn.next<kStages>();
    wgmma_wait<0>();
    release_k();
  }
  add(0);
  wgmma_wait<0>();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float total = rows.total[half];
    total += __shfl_xor_sync(~0U, total, 1);
    total += __shfl_xor_sync(~0U, total, 2);
    rows.total[half] = total;
  }
  const int lane = static_cast<int>(threadIdx.x % 32);
  const std::int64_t row = first_row + static_cast<int>(threadIdx.x / 32 % 4) * 16 + lane / 4;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t t = row + 8 * half;
    if (t >= work.tokens) continue;
    const float inverse = 1.0F / rows.total[half];
    if (work.logsumexp != nullptr && lane % 4 == 0) {
      constexpr float kLog2 = 0.693147181F;
      const float exponent = rows.largest[half] * work.scale;
      work.logsumexp[place.head * work.logsumexp_stride + t] =
          fmaf(exponent, kLog2, logf(rows.total[half]));
    }
    T* const to = out + (t * work.heads + place.head) * kHeadDim + 2 * (lane % 4);
#pragma unroll
    for (int i = 2 * half; i < kOut; i += 4) {
      *reinterpret_cast<std::uint32_t*>(to + 2 * (i - 2 * half)) =
          pack16(T{}, sums[i] * inverse, sums[i + 1] * inverse);
    }
  }
}

template <class T, int kHeadDim>
__global__ void __launch_bounds__(kThreads, 1)
    attention_kernel(const __grid_constant__ CUtensorMap q, const __grid_constant__ CUtensorMap k,
                     const __grid_constant__ CUtensorMap v, Work work, T* out) {
  extern __shared__ std::uint8_t memory[];
  // Swizzles count from multiples of 1024.
  const Shared<kHeadDim> shared{(shared_address(memory) + 1023U) & ~1023U};
  if (threadIdx.x == 0) {
    mbarrier_init(shared.q_full(), 1);
    for (int i = 0; i < kStages; ++i) {
      mbarrier_init(shared.k_full(i), 1);
      mbarrier_init(shared.v_full(i), 1);
      mbarrier_init(shared.k_empty(i), kConsumerWarps);
      mbarrier_init(shared.v_empty(i), kConsumerWarps);
    }
    fence_proxy_async();
  }
  __syncthreads();
  if (threadIdx.x >= kConsumerThreads) {
    fewer_registers<kRegistersOfProducer>();
    if (threadIdx.x == kConsumerThreads) produce(q, k, v, work, shared);
    return;
  }
  more_registers<kRegistersOfConsumers>();
  consume(work, shared, out);
}

template <class T, int kHeadDim>
cudaError_t launch(const AttentionOperands<T>& operands, const AttentionShape& shape,
                   cudaStream_t stream) {
  const std::int64_t query_tiles = (shape.tokens + kQueries - 1) / kQueries;
  const std::int64_t grid = query_tiles * shape.heads;
  if (grid > INT_MAX) return cudaErrorInvalidValue;
  CUtensorMap maps[3];
  const Matrices queries{shape.tokens, kHeadDim, shape.heads * kHeadDim, shape.heads, kHeadDim};
  const Matrices cached{shape.positions, kHeadDim, shape.position_stride, shape.kv_heads,
                        shape.head_stride};
  cudaError_t status = map_of(operands.q, queries, kQueries, maps[0]);
  if (status == cudaSuccess) status = map_of(operands.k, cached, kPositions, maps[1]);
  if (status == cudaSuccess) status = map_of(operands.v, cached, kPositions, maps[2]);
  if (status != cudaSuccess) return status;
  const double scale = 1.4426950408889634 / std::sqrt(static_cast<double>(kHeadDim));
  const Work work{shape.tokens,
                  shape.positions,
                  shape.heads,
                  static_cast<int>(shape.heads / shape.kv_heads),
                  operands.logsumexp,
                  operands.logsumexp_stride,
                  static_cast<float>(scale),
                  static_cast<int>(query_tiles)};
  const auto kernel = attention_kernel<T, kHeadDim>;
  constexpr int kBytes = Shared<kHeadDim>::kAllocated;
  status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (status != cudaSuccess) return status;
  kernel<<<static_cast<unsigned>(grid), kThreads, kBytes, stream>>>(maps[0], maps[1], maps[2], work,
                                                                    operands.out);
  return cudaGetLastError();
}

}  // namespace

template <class T>
cudaError_t prompt_attention(const AttentionOperands<T>& operands, const AttentionShape& shape,
                             cudaStream_t stream) {
  const auto usable = [](const void* p) {
    return p != nullptr && reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
  };
  const bool shaped = shape.tokens > 0 && shape.tokens <= shape.positions &&
                      shape.positions < INT_MAX && shape.kv_heads > 0 && shape.heads > 0 &&
                      shape.heads % shape.kv_heads == 0 && shape.heads * shape.head_dim < INT_MAX &&
                      shape.position_stride > 0 && shape.position_stride % 8 == 0 &&
                      shape.head_stride > 0 && shape.head_stride % 8 == 0;
  if (!shaped || !usable(operands.q) || !usable(operands.k) || !usable(operands.v) ||
      !usable(operands.out)) {
    return cudaErrorInvalidValue;
  }
  if (shape.head_dim == 128) return launch<T, 128>(operands, shape, stream);
  if (shape.head_dim == 64) return launch<T, 64>(operands, shape, stream);
  return cudaErrorInvalidValue;
}

template cudaError_t prompt_attention(const AttentionOperands<__half>&, const AttentionShape&,
                                      cudaStream_t);
template cudaError_t prompt_attention(const AttentionOperands<__nv_bfloat16>&,
                                      const AttentionShape&, cudaStream_t);

}  // namespace qf::cuda
