#include <climits>

#include "e4m3_pair.cuh"
#include "qwen3fp4/kernels/cuda/linear.h"
#include "stream_word.cuh"

namespace qf::cuda {
namespace {

constexpr int kRowGroups = 4;    // warps side by side in a chunk, 16 rows each
constexpr int kColumnParts = 4;  // warps that share a row group's chunks
constexpr int kThreads = 32 * kRowGroups * kColumnParts;
constexpr int kWarpBytes = 2304;
constexpr int kScaleOffset = 4 * 512;

__device__ float dot4(const float4& w, const float4& x) {
  return fmaf(w.w, x.w, fmaf(w.z, x.z, fmaf(w.y, x.y, w.x * x.x)));
}

// A chunk of a format, as a lane reads it: rows g and g + 8 of its warp's 16, four columns at a
// time: of each unit four such parts.
struct Nvfp4Chunks {
  float factor;  // the codes lie there as E4M3 numbers of 2^-6 their value
  uint2 own;
  std::uint32_t scales[2];

  __device__ explicit Nvfp4Chunks(const StreamView& w) : factor(64.0F * w.global_scale) {}
  __device__ void load_scales(const std::uint8_t* bytes, int lane) {
    own = *reinterpret_cast<const uint2*>(bytes + kScaleOffset + lane * 8);
  }
  // For block j of all units: its scales lie with lane 4g + j.
  __device__ void take_block(int j, int lane) {
    const int holder = (lane & ~3) + j;
    scales[0] = __shfl_sync(0xFFFFFFFFU, own.x, holder);
    scales[1] = __shfl_sync(0xFFFFFFFFU, own.y, holder);
  }
  __device__ float2 scale(int unit) const {
    return e4m3_pair(scales[unit / 2] >> (16 * (unit % 2)) & 0xFFFFU);
  }
  // Of a unit, for part j.
  __device__ static int column(int j, int lane) { return 16 * j + 4 * (lane & 3); }
  __device__ void unpack(const std::uint32_t (&words)[4], int j, float4 (&rows)[2]) const {
    std::uint32_t codes[2];
    split_stream_word(words[j], codes[0], codes[1]);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float2 low = e4m3_pair(codes[half] & 0xFFFFU);
      const float2 high = e4m3_pair(codes[half] >> 16);
      rows[half] = make_float4(low.x, low.y, high.x, high.y);
    }
  }
};

struct Nf4Chunks {
  static constexpr float factor = 1.0F;
  const float* code_book;
  float4 own[2];

  __device__ explicit Nf4Chunks(const StreamNf4View& w) {
    __shared__ float copy[16];
    if (threadIdx.x < 16) copy[threadIdx.x] = w.code_book[threadIdx.x];
    __syncthreads();
    code_book = copy;
  }
  __device__ void load_scales(const std::uint8_t* bytes, int lane) {
    const auto* const rows = reinterpret_cast<const float4*>(bytes + kScaleOffset) + lane / 4;
    own[0] = rows[0];
    own[1] = rows[8];
  }
  __device__ void take_block(int /*j*/, int /*lane*/) {}
  __device__ float2 scale(int unit) const {
    const auto of = [place = nf4_scale_place(unit)](const float4& v) {
      return place == 0 ? v.x : (place == 1 ? v.y : (place == 2 ? v.z : v.w));
    };
    return make_float2(of(own[0]), of(own[1]));
  }
  __device__ static int column(int j, int lane) {
    return 32 * (j / 2) + 8 * (lane & 3) + 4 * (j % 2);
  }
  __device__ void unpack(const std::uint32_t (&words)[4], int j, float4 (&rows)[2]) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::uint32_t codes = words[j / 2 * 2 + half] >> (16 * (j % 2));
      rows[half] = make_float4(code_book[codes & 0xFU], code_book[codes >> 4 & 0xFU],
                               code_book[codes >> 8 & 0xFU], code_book[codes >> 12 & 0xFU]);
    }
  }
};

// One chunk's share of a warp: rows g and g + 8 of its 16, for every token.
template <int Tokens, class Chunks>
__device__ void add_chunk(Chunks& chunk, const std::uint8_t* bytes, const float* x,
                          std::int64_t cols, std::int64_t first_col, float (&sums)[Tokens][2]) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  uint4 units[4];
#pragma unroll
  for (int u = 0; u < 4; ++u) {
    units[u] = *reinterpret_cast<const uint4*>(bytes + u * 512 + lane * 16);
  }
  chunk.load_scales(bytes, lane);
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    chunk.take_block(j, lane);
#pragma unroll
    for (int u = 0; u < 4; ++u) {
      const std::int64_t col = first_col + 64 * u + Chunks::column(j, lane);
      if (col >= cols) continue;
      const std::uint32_t words[4] = {units[u].x, units[u].y, units[u].z, units[u].w};
      float4 rows[2];
      chunk.unpack(words, j, rows);
      const float2 scale = chunk.scale(u);
#pragma unroll
      for (int t = 0; t < Tokens; ++t) {
        const float4 four = *reinterpret_cast<const float4*>(x + t * cols + col);
        sums[t][0] = fmaf(dot4(rows[0], four), scale.x, sums[t][0]);
        sums[t][1] = fmaf(dot4(rows[1], four), scale.y, sums[t][1]);
      }
    }
  }
}

// A block owns a row tile. Sums are added in a fixed order: chunks, lanes, parts.
template <int Tokens, class Chunks, class View>
__global__ void __launch_bounds__(kThreads)
    linear_stream_kernel(View w, std::int64_t chunks, const float* x, float* y) {
  __shared__ float parts[kColumnParts][Tokens][kStreamRows];
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int group = warp % kRowGroups;
  const int part = warp / kRowGroups;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const std::uint8_t* const tile = w.chunks + std::int64_t{blockIdx.x} * chunks * kStreamChunkBytes;
  Chunks format(w);
  float sums[Tokens][2] = {};
  for (std::int64_t chunk = part; chunk < chunks; chunk += kColumnParts) {
    add_chunk<Tokens>(format, tile + chunk * kStreamChunkBytes + group * kWarpBytes, x, w.cols,
                      chunk * kStreamCols, sums);
  }
#pragma unroll
  for (int t = 0; t < Tokens; ++t) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = sums[t][half];
      sum += __shfl_xor_sync(0xFFFFFFFFU, sum, 1);
      sum += __shfl_xor_sync(0xFFFFFFFFU, sum, 2);
      if (lane % 4 == 0) parts[part][t][group * 16 + 8 * half + lane / 4] = sum;
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < Tokens * kStreamRows; i += kThreads) {
    const int t = i / static_cast<int>(kStreamRows);
    const int r = i % static_cast<int>(kStreamRows);
    const std::int64_t row = std::int64_t{blockIdx.x} * kStreamRows + r;
    if (row >= w.rows) continue;
    float sum = 0;
    for (int p = 0; p < kColumnParts; ++p) sum += parts[p][t][r];
    y[t * w.rows + row] = sum * format.factor;
  }
}

bool aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

template <class Chunks, class View>
cudaError_t run(const View& w, std::int64_t block, const LinearOperands& operands,
                cudaStream_t stream) {
  if (w.rows <= 0 || w.cols <= 0 || w.cols % block != 0 || operands.tokens <= 0 ||
      operands.tokens > kLinearMaxTokens || !aligned(w.chunks) || !aligned(operands.x) ||
      stream_row_tiles(w.rows) > INT_MAX) {
    return cudaErrorInvalidValue;
  }
  const auto grid = static_cast<unsigned>(stream_row_tiles(w.rows));
  const std::int64_t chunks = stream_col_chunks(w.cols);
  for (std::int64_t done = 0; done < operands.tokens;) {
    std::int64_t piece = kLinearMaxTokens;
    while (piece > operands.tokens - done) piece /= 2;
    const float* const x = operands.x + done * w.cols;
    float* const y = operands.y + done * w.rows;
    switch (piece) {
      case 8:
        linear_stream_kernel<8, Chunks><<<grid, kThreads, 0, stream>>>(w, chunks, x, y);
        break;
      case 4:
        linear_stream_kernel<4, Chunks><<<grid, kThreads, 0, stream>>>(w, chunks, x, y);
        break;
      case 2:
        linear_stream_kernel<2, Chunks><<<grid, kThreads, 0, stream>>>(w, chunks, x, y);
        break;
      default:
        linear_stream_kernel<1, Chunks><<<grid, kThreads, 0, stream>>>(w, chunks, x, y);
        break;
    }
    done += piece;
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t linear_stream(const StreamView& w, const LinearOperands& operands,
                          cudaStream_t stream) {
  return run<Nvfp4Chunks>(w, kNvfp4Block, operands, stream);
}

cudaError_t linear_stream(const StreamNf4View& w, const LinearOperands& operands,
                          cudaStream_t stream) {
  if (w.code_book == nullptr) return cudaErrorInvalidValue;
  return run<Nf4Chunks>(w, kNf4Block, operands, stream);
}

}  // namespace qf::cuda
