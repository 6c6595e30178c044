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

__device__ float dot4(const float2& low, const float2& high, const float4& x) {
  return fmaf(high.y, x.w, fmaf(high.x, x.z, fmaf(low.y, x.y, low.x * x.x)));
}

// One chunk's share of a warp: rows g and g + 8 of its 16, for every token.
template <int Tokens>
__device__ void add_chunk(const std::uint8_t* bytes, const float* x, std::int64_t cols,
                          std::int64_t first_col, float (&sums)[Tokens][2]) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  uint4 units[4];
#pragma unroll
  for (int u = 0; u < 4; ++u) {
    units[u] = *reinterpret_cast<const uint4*>(bytes + u * 512 + lane * 16);
  }
  const uint2 own_scales = *reinterpret_cast<const uint2*>(bytes + kScaleOffset + lane * 8);
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    // Block 4u + j: its scales lie with lane 4g + j.
    const int holder = (lane & ~3) + j;
    const std::uint32_t scales[2] = {__shfl_sync(0xFFFFFFFFU, own_scales.x, holder),
                                     __shfl_sync(0xFFFFFFFFU, own_scales.y, holder)};
#pragma unroll
    for (int u = 0; u < 4; ++u) {
      const std::int64_t block_col = first_col + 64 * u + 16 * j;
      if (block_col >= cols) continue;
      const std::uint32_t words[4] = {units[u].x, units[u].y, units[u].z, units[u].w};
      std::uint32_t codes[2];
      split_stream_word(words[j], codes[0], codes[1]);
      const float2 scale = e4m3_pair(scales[u / 2] >> (16 * (u % 2)) & 0xFFFFU);
      const float2 low[2] = {e4m3_pair(codes[0] & 0xFFFFU), e4m3_pair(codes[1] & 0xFFFFU)};
      const float2 high[2] = {e4m3_pair(codes[0] >> 16), e4m3_pair(codes[1] >> 16)};
#pragma unroll
      for (int t = 0; t < Tokens; ++t) {
        const float4 four =
            *reinterpret_cast<const float4*>(x + t * cols + block_col + 4 * (lane & 3));
        sums[t][0] = fmaf(dot4(low[0], high[0], four), scale.x, sums[t][0]);
        sums[t][1] = fmaf(dot4(low[1], high[1], four), scale.y, sums[t][1]);
      }
    }
  }
}

// A block owns a row tile. Sums are added in a fixed order: chunks, lanes, parts.
template <int Tokens>
__global__ void __launch_bounds__(kThreads)
    linear_stream_kernel(StreamView w, std::int64_t chunks, const float* x, float* y) {
  __shared__ float parts[kColumnParts][Tokens][kStreamRows];
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int group = warp % kRowGroups;
  const int part = warp / kRowGroups;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const std::uint8_t* const tile = w.chunks + std::int64_t{blockIdx.x} * chunks * kStreamChunkBytes;
  float sums[Tokens][2] = {};
  for (std::int64_t chunk = part; chunk < chunks; chunk += kColumnParts) {
    add_chunk<Tokens>(tile + chunk * kStreamChunkBytes + group * kWarpBytes, x, w.cols,
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
    // The codes lie there as E4M3 numbers of 2^-6 their value.
    y[t * w.rows + row] = sum * 64.0F * w.global_scale;
  }
}

bool aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

}  // namespace

cudaError_t linear_stream(const StreamView& w, const LinearOperands& operands,
                          cudaStream_t stream) {
  if (w.rows <= 0 || w.cols <= 0 || w.cols % kNvfp4Block != 0 || operands.tokens <= 0 ||
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
        linear_stream_kernel<8><<<grid, kThreads, 0, stream>>>(w, chunks, x, y);
        break;
      case 4:
        linear_stream_kernel<4><<<grid, kThreads, 0, stream>>>(w, chunks, x, y);
        break;
      case 2:
        linear_stream_kernel<2><<<grid, kThreads, 0, stream>>>(w, chunks, x, y);
        break;
      default:
        linear_stream_kernel<1><<<grid, kThreads, 0, stream>>>(w, chunks, x, y);
        break;
    }
    done += piece;
  }
  return cudaGetLastError();
}

}  // namespace qf::cuda
