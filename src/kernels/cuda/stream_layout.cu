#include <climits>

#include "e4m3_pair.cuh"
#include "narrow.cuh"
#include "qwen3fp4/kernels/cuda/stream_layout.h"
#include "qwen3fp4/kernels/fp4.h"
#include "stream_word.cuh"

namespace qf::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarpBytes = 2304;       // of a chunk
constexpr int kScaleOffset = 4 * 512;  // in a warp's bytes

// Place of one lane's 16 bytes of codes: 16 columns of a unit in each of two rows.
struct LanePlace {
  std::int64_t chunk;
  int warp, unit, lane;
  std::int64_t row, col;  // of the lane's row g and the unit's first column
};

__device__ LanePlace place_of(std::int64_t index, std::int64_t col_chunks) {
  LanePlace p;
  p.lane = static_cast<int>(index & 31);
  p.unit = static_cast<int>(index >> 5 & 3);
  p.warp = static_cast<int>(index >> 7 & 3);
  p.chunk = index >> 9;
  p.row = p.chunk / col_chunks * kStreamRows + p.warp * 16 + (p.lane >> 2);
  p.col = p.chunk % col_chunks * kStreamCols + p.unit * 64;
  return p;
}

// The E4M3 numbers of columns col .. col + 3 (zeros outside the matrix).
__device__ std::uint32_t placed_codes(const Nvfp4View& w, std::int64_t row, std::int64_t col) {
  if (row >= w.rows || col >= w.cols) return 0;
  const std::uint8_t* const bytes = w.codes + (row * w.cols + col) / 2;
  return e4m3_of_codes(static_cast<std::uint32_t>(bytes[0]) | static_cast<std::uint32_t>(bytes[1])
                                                                  << 8);
}

__device__ std::uint8_t scale_at(const Nvfp4View& w, std::int64_t row, std::int64_t block) {
  const std::int64_t blocks = w.cols / kNvfp4Block;
  return row < w.rows && block < blocks ? w.scales_e4m3[row * blocks + block] : std::uint8_t{0};
}

__global__ void pack_kernel(Nvfp4View w, std::int64_t col_chunks, std::int64_t lanes,
                            std::uint8_t* chunks) {
  const std::int64_t index = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= lanes) return;
  const LanePlace p = place_of(index, col_chunks);
  std::uint32_t words[4];
  for (int j = 0; j < 4; ++j) {
    const std::int64_t col = p.col + 16 * j + 4 * (p.lane & 3);
    words[j] = stream_word(placed_codes(w, p.row, col), placed_codes(w, p.row + 8, col));
  }
  std::uint8_t* const out = chunks + p.chunk * kStreamChunkBytes + p.warp * kWarpBytes;
  *reinterpret_cast<uint4*>(out + p.unit * 512 + p.lane * 16) =
      make_uint4(words[0], words[1], words[2], words[3]);
  // This lane's block of the unit's four.
  const std::int64_t block =
      p.chunk % col_chunks * (kStreamCols / kNvfp4Block) + 4 * p.unit + (p.lane & 3);
  out[kScaleOffset + p.lane * 8 + 2 * p.unit] = scale_at(w, p.row, block);
  out[kScaleOffset + p.lane * 8 + 2 * p.unit + 1] = scale_at(w, p.row + 8, block);
}

// Four columns of one row. The codes are E4M3 numbers of 2^-6 their value: an exact factor.
template <class Out>
__device__ void write4(std::uint32_t codes, float scale, float global_scale, Out* out) {
  const float2 low = e4m3_pair(codes & 0xFFFFU);
  const float2 high = e4m3_pair(codes >> 16);
  store4(out,
         make_float4(low.x * 64.0F * scale * global_scale, low.y * 64.0F * scale * global_scale,
                     high.x * 64.0F * scale * global_scale, high.y * 64.0F * scale * global_scale));
}

template <class Out>
__global__ void dequantize_kernel(StreamView w, StreamRows rows, std::int64_t first_chunk,
                                  unsigned col_chunks, Out* out) {
  // Two blocks a chunk; in 32 bits, where division is quick.
  const unsigned chunk = blockIdx.x / 2;
  const int index = static_cast<int>(blockIdx.x % 2) * kThreads + static_cast<int>(threadIdx.x);
  const int lane = index & 31;
  const int unit = index >> 5 & 3;
  const int warp = index >> 7;
  const std::int64_t first_row = first_chunk / col_chunks * kStreamRows - rows.first +
                                 chunk / col_chunks * kStreamRows + warp * 16 + (lane >> 2);
  const std::int64_t first_col = chunk % col_chunks * kStreamCols + unit * 64 + 4 * (lane & 3);
  const std::uint8_t* const in =
      w.chunks + (first_chunk + chunk) * kStreamChunkBytes + warp * kWarpBytes;
  const uint4 quad = *reinterpret_cast<const uint4*>(in + unit * 512 + lane * 16);
  const std::uint32_t words[4] = {quad.x, quad.y, quad.z, quad.w};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    const std::int64_t col = first_col + 16 * j;
    if (col >= w.cols) continue;
    std::uint32_t codes[2];
    split_stream_word(words[j], codes[0], codes[1]);
    // Block 4u + j of the chunk: its scale lies with lane 4g + j.
    const float2 scales = e4m3_pair(*reinterpret_cast<const std::uint16_t*>(
        in + kScaleOffset + ((lane & ~3) + j) * 8 + 2 * unit));
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::int64_t row = first_row + 8 * half;
      if (row < 0 || row >= rows.count) continue;
      write4(codes[half], half == 0 ? scales.x : scales.y, w.global_scale,
             out + row * w.cols + col);
    }
  }
}

// The levels of columns col .. col + 7, the first in the lowest nibble.
__device__ std::uint32_t nf4_levels(const Nf4View& w, std::int64_t row, std::int64_t col) {
  const std::uint8_t* const bytes = w.codes + (row * w.cols + col) / 2;
  std::uint32_t swapped = 0;
  for (int i = 0; i < 4; ++i) swapped |= static_cast<std::uint32_t>(bytes[i]) << (8 * i);
  return (swapped & 0x0F0F0F0FU) << 4 | (swapped >> 4 & 0x0F0F0F0FU);
}

__global__ void pack_nf4_kernel(Nf4View w, std::uint64_t code_of, std::int64_t col_chunks,
                                std::int64_t lanes, std::uint8_t* chunks) {
  const std::int64_t index = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (index >= lanes) return;
  const LanePlace p = place_of(index, col_chunks);
  std::uint32_t words[4];
  for (int i = 0; i < 4; ++i) {
    const std::int64_t row = p.row + 8 * (i % 2);
    const std::int64_t col = p.col + 32 * (i / 2) + 8 * (p.lane & 3);
    words[i] = row < w.rows && col < w.cols ? nf4_word(nf4_levels(w, row, col), code_of) : 0;
  }
  std::uint8_t* const out = chunks + p.chunk * kStreamChunkBytes + p.warp * kWarpBytes;
  *reinterpret_cast<uint4*>(out + p.unit * 512 + p.lane * 16) =
      make_uint4(words[0], words[1], words[2], words[3]);
  // Two lanes of four have a row's absmax of this unit to write.
  const int half = p.lane & 3;
  if (half > 1) return;
  const std::int64_t row = p.row + 8 * half;
  const std::int64_t block = p.chunk % col_chunks * (kStreamCols / kNf4Block) + p.unit;
  const std::int64_t blocks = w.cols / kNf4Block;
  reinterpret_cast<float*>(out +
                           kScaleOffset)[(p.lane / 4 + 8 * half) * 4 + nf4_scale_place(p.unit)] =
      row < w.rows && block < blocks ? w.absmax[row * blocks + block] : 0.0F;
}

template <class Out>
__global__ void dequantize_nf4_kernel(StreamNf4View w, StreamRows rows, std::int64_t first_chunk,
                                      unsigned col_chunks, Out* out) {
  __shared__ float code_book[16];
  if (threadIdx.x < 16) code_book[threadIdx.x] = w.code_book[threadIdx.x];
  __syncthreads();
  // Two blocks a chunk; in 32 bits, where division is quick.
  const unsigned chunk = blockIdx.x / 2;
  const int index = static_cast<int>(blockIdx.x % 2) * kThreads + static_cast<int>(threadIdx.x);
  const int lane = index & 31;
  const int unit = index >> 5 & 3;
  const int warp = index >> 7;
  const std::int64_t first_row = first_chunk / col_chunks * kStreamRows - rows.first +
                                 chunk / col_chunks * kStreamRows + warp * 16 + (lane >> 2);
  const std::int64_t first_col = chunk % col_chunks * kStreamCols + unit * 64 + 8 * (lane & 3);
  const std::uint8_t* const in =
      w.chunks + (first_chunk + chunk) * kStreamChunkBytes + warp * kWarpBytes;
  const uint4 quad = *reinterpret_cast<const uint4*>(in + unit * 512 + lane * 16);
  const std::uint32_t words[4] = {quad.x, quad.y, quad.z, quad.w};
  const float* const absmax =
      reinterpret_cast<const float*>(in + kScaleOffset) + nf4_scale_place(unit);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int half = i % 2;
    const std::int64_t col = first_col + 32 * (i / 2);
    const std::int64_t row = first_row + 8 * half;
    if (col >= w.cols || row < 0 || row >= rows.count) continue;
    const float scale = absmax[((lane >> 2) + 8 * half) * 4];
#pragma unroll
    for (int four = 0; four < 2; ++four) {
      const std::uint32_t codes = words[i] >> (16 * four);
      store4(
          out + row * w.cols + col + 4 * four,
          make_float4(code_book[codes & 0xFU] * scale, code_book[codes >> 4 & 0xFU] * scale,
                      code_book[codes >> 8 & 0xFU] * scale, code_book[codes >> 12 & 0xFU] * scale));
    }
  }
}

bool misaligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 != 0; }

unsigned grid_for(std::int64_t blocks) {
  return blocks > INT_MAX ? 0 : static_cast<unsigned>(blocks);
}

// Of pack_kernel: lanes of all chunks.
struct PackShape {
  std::int64_t col_chunks, lanes;
  unsigned grid;
};
PackShape pack_shape(std::int64_t rows, std::int64_t cols) {
  const std::int64_t col_chunks = stream_col_chunks(cols);
  const std::int64_t lanes = stream_row_tiles(rows) * col_chunks * 512;
  return {col_chunks, lanes, grid_for((lanes + kThreads - 1) / kThreads)};
}

// Of the chunks that hold some rows: two blocks each.
struct RowChunks {
  std::int64_t first;
  unsigned col_chunks, grid;
};
RowChunks chunks_of(const StreamRows& rows, std::int64_t cols) {
  const std::int64_t col_chunks = stream_col_chunks(cols);
  const std::int64_t first_tile = rows.first / kStreamRows;
  const std::int64_t tiles = stream_row_tiles(rows.first + rows.count) - first_tile;
  static_assert(2 * kThreads == 512, "lanes of a chunk");
  return {first_tile * col_chunks, static_cast<unsigned>(col_chunks),
          grid_for(2 * tiles * col_chunks)};
}

template <class View, class Out>
bool takes_rows(const View& w, std::int64_t block, const StreamRows& rows, const Out* out) {
  return w.rows > 0 && w.cols > 0 && w.cols % block == 0 && rows.first >= 0 && rows.count > 0 &&
         rows.count <= w.rows - rows.first && w.chunks != nullptr && !misaligned(w.chunks) &&
         !misaligned(out);
}

}  // namespace

cudaError_t pack_stream(const Nvfp4View& w, std::uint8_t* chunks, cudaStream_t stream) {
  if (w.rows <= 0 || w.cols <= 0 || w.cols % kNvfp4Block != 0 || w.scales_e4m3 == nullptr ||
      misaligned(chunks)) {
    return cudaErrorInvalidValue;
  }
  const PackShape shape = pack_shape(w.rows, w.cols);
  if (shape.grid == 0) return cudaErrorInvalidValue;
  pack_kernel<<<shape.grid, kThreads, 0, stream>>>(w, shape.col_chunks, shape.lanes, chunks);
  return cudaGetLastError();
}

cudaError_t pack_stream(const Nf4View& w, const Nf4Table& table, std::uint8_t* chunks,
                        cudaStream_t stream) {
  if (w.rows <= 0 || w.cols <= 0 || w.block != kNf4Block || w.cols % kNf4Block != 0 ||
      misaligned(chunks)) {
    return cudaErrorInvalidValue;
  }
  const PackShape shape = pack_shape(w.rows, w.cols);
  if (shape.grid == 0) return cudaErrorInvalidValue;
  pack_nf4_kernel<<<shape.grid, kThreads, 0, stream>>>(w, table.code_of, shape.col_chunks,
                                                       shape.lanes, chunks);
  return cudaGetLastError();
}

template <class Out>
cudaError_t dequantize_stream(const StreamView& w, const StreamRows& rows, Out* out,
                              cudaStream_t stream) {
  if (!takes_rows(w, kNvfp4Block, rows, out)) return cudaErrorInvalidValue;
  const RowChunks chunks = chunks_of(rows, w.cols);
  if (chunks.grid == 0) return cudaErrorInvalidValue;
  dequantize_kernel<<<chunks.grid, kThreads, 0, stream>>>(w, rows, chunks.first, chunks.col_chunks,
                                                          out);
  return cudaGetLastError();
}

template <class Out>
cudaError_t dequantize_stream(const StreamNf4View& w, const StreamRows& rows, Out* out,
                              cudaStream_t stream) {
  if (!takes_rows(w, kNf4Block, rows, out) || w.code_book == nullptr) return cudaErrorInvalidValue;
  const RowChunks chunks = chunks_of(rows, w.cols);
  if (chunks.grid == 0) return cudaErrorInvalidValue;
  dequantize_nf4_kernel<<<chunks.grid, kThreads, 0, stream>>>(w, rows, chunks.first,
                                                              chunks.col_chunks, out);
  return cudaGetLastError();
}

#define QF_INSTANTIATE(Out)                                                             \
  template cudaError_t dequantize_stream(const StreamView&, const StreamRows&, Out*,    \
                                         cudaStream_t);                                 \
  template cudaError_t dequantize_stream(const StreamNf4View&, const StreamRows&, Out*, \
                                         cudaStream_t)
QF_INSTANTIATE(float);
QF_INSTANTIATE(__half);
QF_INSTANTIATE(__nv_bfloat16);
#undef QF_INSTANTIATE

}  // namespace qf::cuda
