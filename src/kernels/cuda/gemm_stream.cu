#include <algorithm>
#include <climits>

#include "qwen3fp4/kernels/cuda/gemm_stream.h"
#include "tensor_map.cuh"
#include "wgmma_half.cuh"

// A block: one warpgroup whose first thread copies, two that multiply. Each of these unpacks its
// rows of the weight in registers, as the left operand of wgmma; x is the right one, read by both.
// The weight is the operand with more rows in a tile, for its copies are the smaller ones.
namespace qf::cuda {
namespace {

constexpr int kConsumers = 2;  // warpgroups
constexpr int kConsumerThreads = 128 * kConsumers;
constexpr int kThreads = kConsumerThreads + 128;
constexpr int kConsumerWarps = 4 * kConsumers;
constexpr int kRegistersOfProducer = 40;
constexpr int kRegistersOfConsumers = 232;

constexpr int kTileRows = static_cast<int>(kStreamRows);
constexpr int kStageCols = kBoxCols;
constexpr int kChunkStages = static_cast<int>(kStreamCols) / kStageCols;
constexpr int kSteps = kStageCols / 16;
constexpr int kChunkBytes = static_cast<int>(kStreamChunkBytes);
constexpr int kWarpBytes = 2304;
constexpr int kScaleOffset = 4 * 512;
constexpr int kOutTokens = 64;  // on their way to y at a time
constexpr int kOutBytes = kOutTokens * kTileRows * 2;

// Weights are unpacked as 2^-7 their value, so that every code times scale fits fp16.
constexpr float kUnpackedScale = 0x1p7F;

// Of a block: kM row tiles a warpgroup, kN tokens.
template <int kM, int kN>
struct Tile {
  static constexpr int kWide = kN < 128 ? kN : 128;  // tokens of one wgmma
  static constexpr int kWgmmas = kN / kWide;
  static constexpr int kStages = kN == 256 ? 4 : (kN == 128 ? 6 : 8);
  static constexpr int kSlots = 3;
  static constexpr int kStageBytes = kN * 128;
  static constexpr int kSlotBytes = kConsumers * kM * kChunkBytes;
  static constexpr int kOutAt = kStages * kStageBytes;
  static constexpr int kSlotsAt = kOutAt + kConsumers * kOutBytes;
  static constexpr int kBarriersAt = kSlotsAt + kSlots * kSlotBytes;
  static constexpr int kBytes = kBarriersAt + 16 * (kStages + kSlots) + 16;
  // Swizzles count from multiples of 1024.
  static constexpr int kAllocated = kBytes + 1024;
  using Sums = float[kM][kWgmmas][kWide / 2];
};

template <class Out>
struct WorkWeight {
  const std::uint8_t* chunks;
  Out* y;
  std::int64_t rows;
  float factor;
  int row_tiles;
  int first;  // tile of rows of all weights
};
template <class Out>
struct Work {
  WorkWeight<Out> weights[kGemmMaxWeights];
  float* partial;
  std::uint32_t* arrived;
  std::int64_t tokens;
  int count, col_chunks, token_tiles, whole, splits, items;
};

struct Item {
  int weight;
  int row_tile;  // of the weight, the first of the block's
  int token_tile;
  int first_chunk, end_chunk;
  int cut, split;  // of the tiles in parts, or -1
};
template <int kRowTiles, class Out>
__device__ __forceinline__ Item item_of(const Work<Out>& w, int index) {
  Item item{};
  int tile = index;
  item.cut = -1;
  item.end_chunk = w.col_chunks;
  if (index >= w.whole) {
    item.cut = (index - w.whole) / w.splits;
    item.split = (index - w.whole) % w.splits;
    tile = w.whole + item.cut;
    item.first_chunk = w.col_chunks * item.split / w.splits;
    item.end_chunk = w.col_chunks * (item.split + 1) / w.splits;
  }
  item.token_tile = tile % w.token_tiles;
  const int rows = tile / w.token_tiles;
  while (item.weight + 1 < w.count && rows >= w.weights[item.weight + 1].first) ++item.weight;
  item.row_tile = (rows - w.weights[item.weight].first) * kRowTiles;
  return item;
}

template <class Shape>
struct Shared {
  std::uint32_t base;
  __device__ __forceinline__ std::uint32_t stage(int i) const {
    return base + i * Shape::kStageBytes;
  }
  __device__ __forceinline__ std::uint32_t slot(int i) const {
    return base + Shape::kSlotsAt + i * Shape::kSlotBytes;
  }
  __device__ __forceinline__ std::uint32_t barrier(int i) const {
    return base + Shape::kBarriersAt + 8 * i;
  }
  __device__ __forceinline__ std::uint32_t x_full(int i) const { return barrier(i); }
  __device__ __forceinline__ std::uint32_t x_empty(int i) const {
    return barrier(Shape::kStages + i);
  }
  __device__ __forceinline__ std::uint32_t w_full(int i) const {
    return barrier(2 * Shape::kStages + i);
  }
  __device__ __forceinline__ std::uint32_t w_empty(int i) const {
    return barrier(2 * Shape::kStages + Shape::kSlots + i);
  }
};

template <class Shape, int kM, int kN, class Out>
__device__ void produce(const CUtensorMap& x, const Work<Out>& work, const Shared<Shape>& shared) {
  constexpr int kRowTiles = kConsumers * kM;
  Turn stage, slot;
  for (int i = static_cast<int>(blockIdx.x); i < work.items; i += static_cast<int>(gridDim.x)) {
    const Item item = item_of<kRowTiles>(work, i);
    const WorkWeight<Out>& weight = work.weights[item.weight];
    for (int chunk = item.first_chunk; chunk < item.end_chunk; ++chunk) {
      mbarrier_wait(shared.w_empty(slot.place), slot.phase ^ 1U);
      mbarrier_expect(shared.w_full(slot.place), Shape::kSlotBytes);
      for (int r = 0; r < kRowTiles; ++r) {
        // Beyond the last rows these again: their sums are left out.
        const std::int64_t tile = min(item.row_tile + r, weight.row_tiles - 1);
        bulk_copy(shared.slot(slot.place) + r * kChunkBytes,
                  weight.chunks + (tile * work.col_chunks + chunk) * kStreamChunkBytes, kChunkBytes,
                  shared.w_full(slot.place));
      }
      slot.next<Shape::kSlots>();
      // Beyond the last column both operands are zeros.
      for (int s = chunk * kChunkStages; s < (chunk + 1) * kChunkStages; ++s) {
        mbarrier_wait(shared.x_empty(stage.place), stage.phase ^ 1U);
        mbarrier_expect(shared.x_full(stage.place), Shape::kStageBytes);
        tensor_copy(shared.stage(stage.place), x, s * kStageCols, item.token_tile * kN,
                    shared.x_full(stage.place));
        stage.next<Shape::kStages>();
      }
    }
  }
}

// How a 16-bit type holds E2M1 codes: their three bits of exponent and mantissa across the type's
// own border, which makes them numbers of a power of two their value.
template <class In>
struct CodeBits;
template <>
struct CodeBits<__half> {
  static constexpr int kLeft = 7, kRight = 1;  // from bits 4..2 of a byte, and of the next one
  static constexpr std::uint32_t kMask = 0x0E000E00U;
  // Two scales as 2^7 their value, so that with the codes' 2^-14 the product is 2^-7 of the weight.
  static __device__ __forceinline__ std::uint32_t scales(std::uint32_t pair) {
    std::uint32_t halves;
    asm("{.reg .b16 t; cvt.u16.u32 t,%1; cvt.rn.f16x2.e4m3x2 %0,t;}" : "=r"(halves) : "r"(pair));
    return product(halves, 0x58005800U);
  }
  static __device__ __forceinline__ std::uint32_t product(std::uint32_t a, std::uint32_t b) {
    std::uint32_t c;
    asm("mul.rn.f16x2 %0,%1,%2;" : "=r"(c) : "r"(a), "r"(b));
    return c;
  }
};
template <>
struct CodeBits<__nv_bfloat16> {
  static constexpr int kLeft = 4, kRight = 4;
  static constexpr std::uint32_t kMask = 0x01C001C0U;
  // As 2^119 their value: codes are 2^-126 of theirs.
  static __device__ __forceinline__ std::uint32_t scales(std::uint32_t bytes) {
    const float2 two = e4m3_pair(bytes);
    return pack16(__nv_bfloat16{}, two.x * 0x1p119F, two.y * 0x1p119F);
  }
  static __device__ __forceinline__ std::uint32_t product(std::uint32_t a, std::uint32_t b) {
    std::uint32_t c;
    asm("mul.rn.bf16x2 %0,%1,%2;" : "=r"(c) : "r"(a), "r"(b));
    return c;
  }
};

// What a lane reads of its warp's part of a chunk. wgmma wants columns 2t, 2t + 1 and those eight
// further from lane 4g + t; in the layout they lie with lanes 4g + t / 2 and two further.
struct LaneReads {
  std::uint32_t codes;   // in bytes from the warp's part
  std::uint32_t scales;  // of rows g and g + 8
  std::uint32_t select;  // for __byte_perm
};
__device__ __forceinline__ LaneReads lane_reads() {
  const std::uint32_t lane = threadIdx.x % 32;
  const std::uint32_t g = lane / 4;
  const std::uint32_t t = lane % 4;
  return {(4 * g + t / 2) * 16, kScaleOffset + 4 * g * 8, t % 2 == 0 ? 0x5140U : 0x7362U};
}

__device__ __forceinline__ uint4 load_shared(std::uint32_t address) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3},[%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address));
  return v;
}
__device__ __forceinline__ std::uint32_t load_shared_u16(std::uint32_t address) {
  std::uint32_t v;
  asm volatile("ld.shared.u16 %0,[%1];" : "=r"(v) : "r"(address));
  return v;
}

// 64 columns of a row tile, as the left operands of four wgmma.
template <class In>
__device__ __forceinline__ void unpack(std::uint32_t part, const LaneReads& reads, int unit,
                                       std::uint32_t (&fragments)[kSteps][4]) {
  using Bits = CodeBits<In>;
  constexpr std::uint32_t kSigns = 0x80008000U;
  const uint4 near = load_shared(part + unit * 512 + reads.codes);
  const uint4 far = load_shared(part + unit * 512 + reads.codes + 32);
  const std::uint32_t a[kSteps] = {near.x, near.y, near.z, near.w};
  const std::uint32_t b[kSteps] = {far.x, far.y, far.z, far.w};
#pragma unroll
  for (int j = 0; j < kSteps; ++j) {
    const std::uint32_t scales =
        Bits::scales(load_shared_u16(part + reads.scales + j * 8 + 2 * unit));
    std::uint32_t codes[2][2];  // by lane, by row
    unpack_stream_word(a[j], codes[0][0], codes[0][1]);
    unpack_stream_word(b[j], codes[1][0], codes[1][1]);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::uint32_t four = __byte_perm(codes[0][half], codes[1][half], reads.select);
      const std::uint32_t scale = __byte_perm(scales, 0, half == 0 ? 0x1010U : 0x3232U);
      const std::uint32_t even = (four << Bits::kLeft & Bits::kMask) | (four << 8 & kSigns);
      const std::uint32_t odd = (four >> Bits::kRight & Bits::kMask) | (four & kSigns);
      fragments[j][half] = Bits::product(even, scale);
      fragments[j][half + 2] = Bits::product(odd, scale);
    }
  }
}

// Sums of the item's columns. Leaves nothing in flight.
template <class In, class Shape, int kM>
__device__ __forceinline__ void multiply(const Item& item, const Shared<Shape>& shared, Turn& stage,
                                         Turn& slot, typename Shape::Sums& sums) {
  const int warpgroup = static_cast<int>(threadIdx.x / 128);
  const int warp = static_cast<int>(threadIdx.x / 32 % 4);
  const bool speaks = threadIdx.x % 32 == 0;
  const LaneReads reads = lane_reads();
  std::uint32_t fragments[2][kM][kSteps][4];
  int before = -1;  // the stage that wgmma may still read
  for (int chunk = item.first_chunk; chunk < item.end_chunk; ++chunk) {
    mbarrier_wait(shared.w_full(slot.place), slot.phase);
    const std::uint32_t part =
        shared.slot(slot.place) + warpgroup * kM * kChunkBytes + warp * kWarpBytes;
#pragma unroll
    for (int u = 0; u < kChunkStages; ++u) {
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        unpack<In>(part + m * kChunkBytes, reads, u, fragments[u % 2][m]);
#pragma unroll
        for (int j = 0; j < kSteps; ++j) {
#pragma unroll
          for (int i = 0; i < 4; ++i) wgmma_operand(fragments[u % 2][m][j][i]);
        }
      }
      mbarrier_wait(shared.x_full(stage.place), stage.phase);
      const std::uint64_t x = swizzled_operand(shared.stage(stage.place));
      wgmma_fence();
#pragma unroll
      for (int j = 0; j < kSteps; ++j) {
#pragma unroll
        for (int m = 0; m < kM; ++m) {
#pragma unroll
          for (int n = 0; n < Shape::kWgmmas; ++n) {
            wgmma(In{}, sums[m][n], fragments[u % 2][m][j], x + 2 * j + 1024 * n);
          }
        }
      }
      wgmma_commit();
      wgmma_wait<1>();
      if (before >= 0 && speaks) mbarrier_arrive(shared.x_empty(before));
      before = stage.place;
      stage.next<Shape::kStages>();
    }
    if (speaks) mbarrier_arrive(shared.w_empty(slot.place));
    slot.next<Shape::kSlots>();
  }
  wgmma_wait<0>();
  if (before >= 0 && speaks) mbarrier_arrive(shared.x_empty(before));
}

// Whether this block is the last of its tile's parts to get here; the sums of all are then in
// `sums`, added in the order of the parts.
template <class Shape, int kM, class Out>
__device__ __forceinline__ bool add_parts(const Work<Out>& work, const Item& item,
                                          typename Shape::Sums& sums) {
  constexpr int kEach = kM * Shape::kWgmmas * Shape::kWide / 2;
  constexpr int kBatch = 16;  // loads on their way at a time
  __shared__ std::uint32_t arrived_before;
  float(&flat)[kEach] = reinterpret_cast<float(&)[kEach]>(sums);
  float* const first =
      work.partial + std::int64_t{item.cut} * work.splits * kEach * kConsumerThreads + threadIdx.x;
  float* const mine = first + item.split * kEach * kConsumerThreads;
#pragma unroll
  for (int i = 0; i < kEach; ++i) __stcg(mine + i * kConsumerThreads, flat[i]);
  __threadfence();
  named_barrier<kConsumerThreads>();
  if (threadIdx.x == 0) arrived_before = atomicAdd(work.arrived + item.cut, 1U);
  named_barrier<kConsumerThreads>();
  if (arrived_before != static_cast<std::uint32_t>(work.splits) - 1U) return false;
  __threadfence();
  if (threadIdx.x == 0) work.arrived[item.cut] = 0;
#pragma unroll
  for (int from = 0; from < kEach; from += kBatch) {
    float total[kBatch];
#pragma unroll
    for (int i = 0; i < kBatch; ++i) total[i] = 0;
    const float* part = first + from * kConsumerThreads;
    for (int split = 0; split < work.splits; ++split, part += kEach * kConsumerThreads) {
#pragma unroll
      for (int i = 0; i < kBatch; ++i) total[i] += __ldcg(part + i * kConsumerThreads);
    }
#pragma unroll
    for (int i = 0; i < kBatch; ++i) flat[from + i] = total[i];
  }
  return true;
}

// One row tile's sums of kWide tokens from `token` on. A lane has rows g and g + 8 of its warp's 16
// and tokens 8i + 2t, 8i + 2t + 1.
template <class In, int kSums>
__device__ __forceinline__ void store(const WorkWeight<float>& weight, std::int64_t tokens,
                                      std::uint32_t /*staging*/, std::int64_t row,
                                      std::int64_t token, const float (&sums)[kSums]) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  row += static_cast<int>(threadIdx.x / 32 % 4) * 16 + lane / 4;
  token += 2 * (lane % 4);
#pragma unroll
  for (int i = 0; i < kSums; ++i) {
    const std::int64_t r = row + 8 * (i / 2 % 2);
    const std::int64_t t = token + 8 * (i / 4) + i % 2;
    if (r < weight.rows && t < tokens) weight.y[t * weight.rows + r] = sums[i] * weight.factor;
  }
}
template <class In, int kSums>
__device__ __forceinline__ void store(const WorkWeight<In>& weight, std::int64_t tokens,
                                      std::uint32_t staging, std::int64_t row, std::int64_t token,
                                      const float (&sums)[kSums]) {
  constexpr int kTokens = 2 * kSums;
  const int warpgroup = static_cast<int>(threadIdx.x / 128);
  const int thread = static_cast<int>(threadIdx.x % 128);
  const int warp = thread / 32;
  const int lane = thread % 32;
  // Eight rows of a token are 16 bytes, at place (rows / 8) ^ (token % 8) of the token's 128.
  const auto place = [&](int t, int eight) { return staging + t * 128 + ((eight ^ t % 8) * 16); };
#pragma unroll
  for (int first = 0; first < kTokens; first += kOutTokens) {
    named_barrier<128>(2 + warpgroup);
#pragma unroll
    for (int t = 0; t < kOutTokens; t += 16) {
      std::uint32_t packed[4];
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const int i = (first + t) / 2 + 2 * k;
        packed[k] = pack16(In{}, sums[i] * weight.factor, sums[i + 1] * weight.factor);
      }
      const int of_matrix = t + lane / 16 * 8 + lane % 8;
      store_transposed(place(of_matrix, 2 * warp + lane / 8 % 2), packed[0], packed[1], packed[2],
                       packed[3]);
    }
    named_barrier<128>(2 + warpgroup);
#pragma unroll
    for (int i = thread; i < kOutTokens * 8; i += 128) {
      const std::int64_t t = token + first + i / 8;
      const std::int64_t r = row + 8 * (i % 8);
      if (t >= tokens || r >= weight.rows) continue;
      const uint4 eight = load_shared(place(i / 8, i % 8));
      In* const out = weight.y + t * weight.rows + r;
      if (weight.rows % 8 == 0) {
        *reinterpret_cast<uint4*>(out) = eight;
      } else {
        const In* const values = reinterpret_cast<const In*>(&eight);
        for (int k = 0; k < 8 && r + k < weight.rows; ++k) out[k] = values[k];
      }
    }
  }
}

template <class In, class Out, int kM, int kN>
__global__ void __launch_bounds__(kThreads, 1)
    gemm_kernel(const __grid_constant__ CUtensorMap x, Work<Out> work) {
  using Shape = Tile<kM, kN>;
  extern __shared__ std::uint8_t memory[];
  const Shared<Shape> shared{(shared_address(memory) + 1023U) & ~1023U};
  if (threadIdx.x == 0) {
    for (int i = 0; i < Shape::kStages; ++i) {
      mbarrier_init(shared.x_full(i), 1);
      mbarrier_init(shared.x_empty(i), kConsumerWarps);
    }
    for (int i = 0; i < Shape::kSlots; ++i) {
      mbarrier_init(shared.w_full(i), 1);
      mbarrier_init(shared.w_empty(i), kConsumerWarps);
    }
    fence_proxy_async();
  }
  __syncthreads();
  const int warpgroup = static_cast<int>(threadIdx.x / 128);
  if (warpgroup == kConsumers) {
    fewer_registers<kRegistersOfProducer>();
    if (threadIdx.x == kConsumerThreads) produce<Shape, kM, kN>(x, work, shared);
    return;
  }
  more_registers<kRegistersOfConsumers>();
  Turn stage, slot;
  for (int i = static_cast<int>(blockIdx.x); i < work.items; i += static_cast<int>(gridDim.x)) {
    const Item item = item_of<kConsumers * kM>(work, i);
    typename Shape::Sums sums = {};
    multiply<In, Shape, kM>(item, shared, stage, slot, sums);
    if (item.cut >= 0 && !add_parts<Shape, kM>(work, item, sums)) continue;
    const WorkWeight<Out>& weight = work.weights[item.weight];
#pragma unroll
    for (int m = 0; m < kM; ++m) {
      const int row_tile = item.row_tile + warpgroup * kM + m;
      if (row_tile >= weight.row_tiles) break;
#pragma unroll
      for (int n = 0; n < Shape::kWgmmas; ++n) {
        store<In>(weight, work.tokens, shared.base + Shape::kOutAt + warpgroup * kOutBytes,
                  std::int64_t{row_tile} * kTileRows,
                  std::int64_t{item.token_tile} * kN + n * Shape::kWide, sums[m][n]);
      }
    }
  }
}

// ---- The host's side ----

template <class In, class Out, int kM, int kN>
cudaError_t launch(const CUtensorMap& x, const Work<Out>& work, cudaStream_t stream) {
  const auto kernel = gemm_kernel<In, Out, kM, kN>;
  constexpr int kBytes = Tile<kM, kN>::kAllocated;
  cudaError_t status =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (status != cudaSuccess) return status;
  int device = 0;
  int multiprocessors = 0;
  status = cudaGetDevice(&device);
  if (status != cudaSuccess) return status;
  status = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  if (status != cudaSuccess) return status;
  kernel<<<static_cast<unsigned>(std::min(work.items, multiprocessors)), kThreads, kBytes,
           stream>>>(x, work);
  return cudaGetLastError();
}

// Fitted to what an H100 at full load takes, in cycles of 1.755 GHz: for 16 columns of a tile, and
// to begin and end it.
struct TileSize {
  int rows, tokens;
  double of_columns, of_tile;
};
constexpr TileSize kTileSizes[] = {
    {128, 64, 160, 600}, {128, 128, 204, 1500}, {128, 256, 276, 7500}, {256, 128, 384, 2500}};

std::int64_t parts_of(std::int64_t count, std::int64_t size) { return (count + size - 1) / size; }

double cycles_of(const TileSize& size, std::int64_t chunks) {
  return static_cast<double>(chunks * kStreamCols) / 16 * size.of_columns + size.of_tile;
}
// What a part takes longer, to write its sums and to add those of all.
double cycles_of_adding(const TileSize& size, int splits) {
  return 7000 + size.rows * size.tokens * (0.35 + 0.05 * splits);
}

// Tiles of a tile size's rows, of all weights together.
std::int64_t row_tiles_of(const GemmWeights& weights, int rows) {
  std::int64_t tiles = 0;
  for (int i = 0; i < weights.count; ++i) tiles += parts_of(weights.views[i].rows, rows);
  return tiles;
}

bool shaped(const GemmWeights& weights) {
  if (weights.views == nullptr || weights.count < 1 || weights.count > kGemmMaxWeights)
    return false;
  for (int i = 0; i < weights.count; ++i) {
    const StreamView& w = weights.views[i];
    if (w.rows <= 0 || w.rows >= INT_MAX || w.cols <= 0 || w.cols >= INT_MAX ||
        w.cols % kNvfp4Block != 0 || w.cols != weights.views[0].cols) {
      return false;
    }
  }
  return true;
}

}  // namespace

GemmPlan plan_gemm_stream(const GemmWeights& weights, std::int64_t tokens, int multiprocessors) {
  GemmPlan best{};
  if (!shaped(weights) || tokens <= 0 || multiprocessors <= 0) return best;
  const std::int64_t chunks = stream_col_chunks(weights.views[0].cols);
  double least = 0;
  for (const TileSize& size : kTileSizes) {
    const std::int64_t tiles = row_tiles_of(weights, size.rows) * parts_of(tokens, size.tokens);
    const std::int64_t rounds = tiles / multiprocessors;
    const std::int64_t whole = rounds * multiprocessors;
    const double of_whole = static_cast<double>(rounds) * cycles_of(size, chunks);
    const auto offer = [&](std::int64_t uncut, int splits, double cycles) {
      if (least != 0 && cycles >= least) return;
      least = cycles;
      best = {size.rows, size.tokens, tiles, uncut, splits};
    };
    offer(tiles, 1, of_whole + (tiles > whole ? cycles_of(size, chunks) : 0));
    for (int splits = 2; splits <= std::min<std::int64_t>(chunks, 8) && tiles > whole; ++splits) {
      const std::int64_t turns = parts_of((tiles - whole) * splits, multiprocessors);
      if (turns > 2) break;
      offer(whole, splits,
            of_whole + static_cast<double>(turns) * (cycles_of(size, parts_of(chunks, splits)) +
                                                     cycles_of_adding(size, splits)));
    }
  }
  return best;
}

template <class In, class Out>
cudaError_t gemm_stream(const GemmWeights& weights, const GemmOperands<In, Out>& operands,
                        const GemmPlan& plan, const GemmWorkspace& workspace, cudaStream_t stream) {
  const auto usable = [](const void* p) {
    return p != nullptr && reinterpret_cast<std::uintptr_t>(p) % 16 == 0;
  };
  if (!shaped(weights) || operands.tokens <= 0 || operands.tokens >= INT_MAX ||
      !usable(operands.x) || plan.rows <= 0 || plan.tokens <= 0) {
    return cudaErrorInvalidValue;
  }
  const std::int64_t cols = weights.views[0].cols;
  const std::int64_t chunks = stream_col_chunks(cols);
  const std::int64_t token_tiles = parts_of(operands.tokens, plan.tokens);
  const std::int64_t tiles = row_tiles_of(weights, plan.rows) * token_tiles;
  const std::int64_t items = plan.whole + (tiles - plan.whole) * plan.splits;
  const bool cut = plan.whole < tiles;
  if (plan.tiles != tiles || plan.whole < 0 || plan.whole > tiles || plan.splits < 1 ||
      plan.splits > chunks || items > INT_MAX ||
      (cut && (workspace.partial == nullptr || workspace.arrived == nullptr))) {
    return cudaErrorInvalidValue;
  }
  Work<Out> work{};
  work.partial = workspace.partial;
  work.arrived = workspace.arrived;
  work.tokens = operands.tokens;
  work.count = weights.count;
  work.col_chunks = static_cast<int>(chunks);
  work.token_tiles = static_cast<int>(token_tiles);
  work.whole = static_cast<int>(plan.whole);
  work.splits = plan.splits;
  work.items = static_cast<int>(items);
  int first = 0;
  for (int i = 0; i < weights.count; ++i) {
    const StreamView& w = weights.views[i];
    if (!usable(w.chunks) || !usable(operands.y[i])) return cudaErrorInvalidValue;
    work.weights[i] = {w.chunks,
                       operands.y[i],
                       w.rows,
                       w.global_scale * kUnpackedScale,
                       static_cast<int>(stream_row_tiles(w.rows)),
                       first};
    first += static_cast<int>(parts_of(w.rows, plan.rows));
  }
  CUtensorMap map{};
  const cudaError_t status = map_of(operands.x, {operands.tokens, cols, cols}, plan.tokens, map);
  if (status != cudaSuccess) return status;
  if (plan.rows == 256 && plan.tokens == 128) return launch<In, Out, 2, 128>(map, work, stream);
  if (plan.rows == 128 && plan.tokens == 256) return launch<In, Out, 1, 256>(map, work, stream);
  if (plan.rows == 128 && plan.tokens == 128) return launch<In, Out, 1, 128>(map, work, stream);
  if (plan.rows == 128 && plan.tokens == 64) return launch<In, Out, 1, 64>(map, work, stream);
  return cudaErrorInvalidValue;
}

#define QF_GEMM(In, Out)                                                             \
  template cudaError_t gemm_stream(const GemmWeights&, const GemmOperands<In, Out>&, \
                                   const GemmPlan&, const GemmWorkspace&, cudaStream_t)
QF_GEMM(__half, __half);
QF_GEMM(__half, float);
QF_GEMM(__nv_bfloat16, __nv_bfloat16);
QF_GEMM(__nv_bfloat16, float);
#undef QF_GEMM

}  // namespace qf::cuda
