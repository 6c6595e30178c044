#include <climits>

#include "e2m1_word.cuh"
#include "qwen3fp4/kernels/cuda/token_step.h"
#include "qwen3fp4/kernels/fp4.h"

namespace qf::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = 32 * kWarps;
constexpr int kBlock = 16;              // columns that a lane takes at a time
constexpr int kTileCols = 32 * kBlock;  // and a warp
constexpr int kCodeBook = 16;
constexpr std::int64_t kMaxCols = 45056;  // of x in shared memory

// x in shared memory, tile by tile: the four columns 4i .. 4i+3 of lane l's block at [i][l], so
// that a warp reads side by side.
__device__ void load_x(const float* x, std::int64_t cols, int tiles, float4* shared) {
  const auto* const quads = reinterpret_cast<const float4*>(x);
  for (int at = static_cast<int>(threadIdx.x); at < tiles * (kTileCols / 4); at += kThreads) {
    const int tile = at / (kTileCols / 4);
    const int in_tile = at % (kTileCols / 4);
    const float4 zero = make_float4(0, 0, 0, 0);
    shared[tile * (kTileCols / 4) + in_tile % 4 * 32 + in_tile / 4] =
        4 * std::int64_t{at} < cols ? quads[at] : zero;
  }
  __syncthreads();
}

__device__ float warp_sum(float value) {
  for (int offset = 16; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xFFFFFFFFU, value, offset);
  }
  return value;
}

__device__ float dot16(const float (&low)[8], const float (&high)[8], const float4 (&x)[4]) {
  float sum = low[0] * x[0].x;
  sum = fmaf(low[1], x[0].y, sum);
  sum = fmaf(low[2], x[0].z, sum);
  sum = fmaf(low[3], x[0].w, sum);
  sum = fmaf(low[4], x[1].x, sum);
  sum = fmaf(low[5], x[1].y, sum);
  sum = fmaf(low[6], x[1].z, sum);
  sum = fmaf(low[7], x[1].w, sum);
  sum = fmaf(high[0], x[2].x, sum);
  sum = fmaf(high[1], x[2].y, sum);
  sum = fmaf(high[2], x[2].z, sum);
  sum = fmaf(high[3], x[2].w, sum);
  sum = fmaf(high[4], x[3].x, sum);
  sum = fmaf(high[5], x[3].y, sum);
  sum = fmaf(high[6], x[3].z, sum);
  return fmaf(high[7], x[3].w, sum);
}

// What a format is to the product: the scale of a lane's block, and its codes' values.
struct Nvfp4Format {
  using View = Nvfp4View;
  static __device__ const Nvfp4View& view(const TokenMatrix& m) { return m.nvfp4; }
  static __device__ float scale(const Nvfp4View& w, std::int64_t row, std::int64_t block) {
    const std::int64_t at = row * (w.cols / kBlock) + block;
    return w.scales_e4m3 != nullptr ? e4m3_to_float(w.scales_e4m3[at]) : w.scales_f32[at];
  }
  static __device__ void unpack(unsigned word, const float* /*book*/, float (&values)[8]) {
    unpack_e2m1(word, values);
  }
  static __device__ float finish(const Nvfp4View& w, float sum) {
    return sum * kE2m1WordScale * w.global_scale;
  }
  static __device__ const float* book(const Nvfp4View& /*w*/) { return nullptr; }
};

struct Nf4Format {
  using View = Nf4View;
  static __device__ const Nf4View& view(const TokenMatrix& m) { return m.nf4; }
  static __device__ float scale(const Nf4View& w, std::int64_t row, std::int64_t block) {
    return w.absmax[(row * w.cols + block * kBlock) / w.block];
  }
  static __device__ void unpack(unsigned word, const float* book, float (&values)[8]) {
#pragma unroll
    for (unsigned i = 0; i < 8; ++i) {
      // The high nibble of a byte is the first of its two.
      values[i] = book[word >> (4 * (i ^ 1U)) & 0xF];
    }
  }
  static __device__ float finish(const Nf4View& /*w*/, float sum) { return sum; }
  static __device__ const float* book(const Nf4View& w) { return w.code_book; }
};

// sums[r] += row rows[r] of ws[r] times x. Loads of kAhead tiles of all rows are on their way at
// once.
template <class Format, int kRows, int kAhead>
__device__ void add_rows(const typename Format::View (&ws)[kRows],
                         const std::int64_t (&rows)[kRows], const float4* x, const float* book,
                         float (&sums)[kRows]) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  const std::int64_t blocks = ws[0].cols / kBlock;
  for (std::int64_t first = lane; first < blocks; first += 32 * kAhead) {
    uint2 codes[kAhead][kRows];
    float scales[kAhead][kRows];
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const std::int64_t block = first + 32 * a;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        codes[a][r] = make_uint2(0, 0);
        scales[a][r] = 0;
        if (block >= blocks) continue;
        codes[a][r] = reinterpret_cast<const uint2*>(ws[r].codes)[rows[r] * blocks + block];
        scales[a][r] = Format::scale(ws[r], rows[r], block);
      }
    }
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      const std::int64_t block = first + 32 * a;
      if (block >= blocks) continue;
      const float4* const tile = x + block / 32 * (kTileCols / 4) + lane;
      const float4 quads[4] = {tile[0], tile[32], tile[64], tile[96]};
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        float low[8];
        float high[8];
        Format::unpack(codes[a][r].x, book, low);
        Format::unpack(codes[a][r].y, book, high);
        sums[r] = fmaf(dot16(low, high, quads), scales[a][r], sums[r]);
      }
    }
  }
}

template <class Format>
__device__ const float* load_book(const typename Format::View& w, float* shared) {
  const float* const book = Format::book(w);
  if (book != nullptr && threadIdx.x < kCodeBook) shared[threadIdx.x] = book[threadIdx.x];
  return shared;
}

struct Grid {
  unsigned first[3];  // block of each matrix
  int tiles;
};

// kRows rows of one matrix a warp.
template <class Format, int kRows>
__global__ void __launch_bounds__(kThreads) linear_kernel(TokenLinear linear, Grid grid) {
  extern __shared__ float4 x[];
  __shared__ float book_values[kCodeBook];
  int m = 0;
  while (m + 1 < linear.count && blockIdx.x >= grid.first[m + 1]) ++m;
  const typename Format::View w = Format::view(linear.matrix[m]);
  const std::int64_t first =
      (std::int64_t{blockIdx.x - grid.first[m]} * kWarps + threadIdx.x / 32) * kRows;
  typename Format::View ws[kRows];
  std::int64_t rows[kRows];
  float sums[kRows] = {};
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    ws[r] = w;
    rows[r] = min(first + r, w.rows - 1);
  }
  const float* const book = load_book<Format>(w, book_values);
  load_x(linear.x, w.cols, grid.tiles, x);
  if (first >= w.rows) return;
  add_rows<Format, kRows, 8 / kRows>(ws, rows, x, book, sums);
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const float sum = warp_sum(sums[r]);
    if (threadIdx.x % 32 == 0 && first + r < w.rows) {
      linear.y[m][first + r] = Format::finish(w, sum);
    }
  }
}

// A row of gate and the same row of up a warp.
template <class Format>
__global__ void __launch_bounds__(kThreads) swiglu_kernel(TokenLinear linear, int tiles) {
  extern __shared__ float4 x[];
  __shared__ float book_values[kCodeBook];
  const typename Format::View ws[2] = {Format::view(linear.matrix[0]),
                                       Format::view(linear.matrix[1])};
  const std::int64_t row = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  const float* const book = load_book<Format>(ws[0], book_values);
  load_x(linear.x, ws[0].cols, tiles, x);
  if (row >= ws[0].rows) return;
  float sums[2] = {};
  add_rows<Format, 2, 4>(ws, {row, row}, x, book, sums);
  const float gate = Format::finish(ws[0], warp_sum(sums[0]));
  const float up = Format::finish(ws[1], warp_sum(sums[1]));
  if (threadIdx.x % 32 == 0) linear.y[0][row] = gate / (1.0F + expf(-gate)) * up;
}

bool misaligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 != 0; }

bool is_nf4(const TokenMatrix& m) { return m.nvfp4.codes == nullptr; }
std::int64_t rows_of(const TokenMatrix& m) { return is_nf4(m) ? m.nf4.rows : m.nvfp4.rows; }
std::int64_t cols_of(const TokenMatrix& m) { return is_nf4(m) ? m.nf4.cols : m.nvfp4.cols; }

bool valid(const TokenMatrix& m) {
  if (rows_of(m) <= 0 || cols_of(m) <= 0 || cols_of(m) % kBlock != 0 || cols_of(m) > kMaxCols) {
    return false;
  }
  if (is_nf4(m)) {
    return m.nf4.codes != nullptr && m.nf4.absmax != nullptr && m.nf4.code_book != nullptr &&
           m.nf4.block > 0 && m.nf4.block % kBlock == 0 && !misaligned(m.nf4.codes);
  }
  return (m.nvfp4.scales_e4m3 != nullptr) != (m.nvfp4.scales_f32 != nullptr) &&
         !misaligned(m.nvfp4.codes);
}

bool valid(const TokenLinear& linear) {
  if (linear.count < 1 || linear.count > 3 || misaligned(linear.x)) return false;
  for (int m = 0; m < linear.count; ++m) {
    if (!valid(linear.matrix[m]) || is_nf4(linear.matrix[m]) != is_nf4(linear.matrix[0]) ||
        cols_of(linear.matrix[m]) != cols_of(linear.matrix[0])) {
      return false;
    }
  }
  return true;
}

int tiles_of(const TokenLinear& linear) {
  return static_cast<int>((cols_of(linear.matrix[0]) + kTileCols - 1) / kTileCols);
}

// More shared memory than 48 KB has to be asked for.
template <class Kernel>
cudaError_t allow(Kernel kernel, std::size_t bytes) {
  if (bytes <= 48 * 1024 - kCodeBook * sizeof(float)) return cudaSuccess;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              static_cast<int>(bytes));
}

template <class Format, int kRows>
cudaError_t launch_linear(const TokenLinear& linear, cudaStream_t stream) {
  Grid grid{};
  grid.tiles = tiles_of(linear);
  std::int64_t blocks = 0;
  for (int m = 0; m < linear.count; ++m) {
    grid.first[m] = static_cast<unsigned>(blocks);
    blocks += (rows_of(linear.matrix[m]) + kWarps * kRows - 1) / (kWarps * kRows);
    if (blocks > INT_MAX) return cudaErrorInvalidValue;
  }
  const std::size_t bytes = static_cast<std::size_t>(grid.tiles) * kTileCols * sizeof(float);
  const cudaError_t status = allow(linear_kernel<Format, kRows>, bytes);
  if (status != cudaSuccess) return status;
  linear_kernel<Format, kRows>
      <<<static_cast<unsigned>(blocks), kThreads, bytes, stream>>>(linear, grid);
  return cudaGetLastError();
}

// Enough blocks for every SM; more rows a warp share their reads of x.
template <class Format>
cudaError_t launch_linear(const TokenLinear& linear, cudaStream_t stream) {
  std::int64_t rows = 0;
  for (int m = 0; m < linear.count; ++m) rows += rows_of(linear.matrix[m]);
  if (rows >= 16384) return launch_linear<Format, 4>(linear, stream);
  if (rows >= 6144) return launch_linear<Format, 2>(linear, stream);
  return launch_linear<Format, 1>(linear, stream);
}

template <class Format>
cudaError_t launch_swiglu(const TokenLinear& linear, cudaStream_t stream) {
  const std::int64_t blocks = (rows_of(linear.matrix[0]) + kWarps - 1) / kWarps;
  if (blocks > INT_MAX) return cudaErrorInvalidValue;
  const int tiles = tiles_of(linear);
  const std::size_t bytes = static_cast<std::size_t>(tiles) * kTileCols * sizeof(float);
  const cudaError_t status = allow(swiglu_kernel<Format>, bytes);
  if (status != cudaSuccess) return status;
  swiglu_kernel<Format><<<static_cast<unsigned>(blocks), kThreads, bytes, stream>>>(linear, tiles);
  return cudaGetLastError();
}

}  // namespace

cudaError_t linear_token(const TokenLinear& linear, cudaStream_t stream) {
  if (!valid(linear)) return cudaErrorInvalidValue;
  return is_nf4(linear.matrix[0]) ? launch_linear<Nf4Format>(linear, stream)
                                  : launch_linear<Nvfp4Format>(linear, stream);
}

cudaError_t linear_swiglu_token(const TokenLinear& linear, cudaStream_t stream) {
  if (!valid(linear) || linear.count != 2 ||
      rows_of(linear.matrix[0]) != rows_of(linear.matrix[1])) {
    return cudaErrorInvalidValue;
  }
  return is_nf4(linear.matrix[0]) ? launch_swiglu<Nf4Format>(linear, stream)
                                  : launch_swiglu<Nvfp4Format>(linear, stream);
}

}  // namespace qf::cuda
