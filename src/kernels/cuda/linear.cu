#include <cuda_fp16.h>

#include <climits>

#include "qwen3fp4/kernels/cuda/linear.h"
#include "qwen3fp4/kernels/fp4.h"

namespace qf::cuda {
namespace {

constexpr int kWarp = 32;
constexpr int kRowsPerBlock = 8;
// Columns of a 32-bit word of codes. Lanes take words side by side, so that codes, scales and x are
// read in whole lines; kWords of them at once keep enough bytes on their way.
constexpr std::int64_t kWordCols = 8;
constexpr int kWords = 4;
constexpr std::int64_t kWarpCols = kWarp * kWordCols;

__device__ float warp_sum(float value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(0xFFFFFFFFU, value, offset);
  }
  return value;
}

// E2M1 codes 0..7 of a word as fp16 numbers of 2^-14 their value: exponent and mantissa keep their
// places beside each other, so that placing the bits is all it takes, subnormals included.
__device__ void unpack_e2m1(unsigned word, float (&values)[8]) {
#pragma unroll
  for (unsigned pair = 0; pair < 4; ++pair) {
    // Codes `pair` and `pair + 4` into the two halves of a register.
    const unsigned codes = word >> (4 * pair) & 0x000F000FU;
    const unsigned bits = (codes & 0x00070007U) << 9 | (codes & 0x00080008U) << 12;
    const float2 two = __half22float2(*reinterpret_cast<const __half2*>(&bits));
    values[pair] = two.x;
    values[pair + 4] = two.y;
  }
}

// sum of 8 products in one fixed order
__device__ float dot8(const float (&w)[8], const float* x) {
  const float4 low = reinterpret_cast<const float4*>(x)[0];
  const float4 high = reinterpret_cast<const float4*>(x)[1];
  float sum = w[0] * low.x;
  sum = fmaf(w[1], low.y, sum);
  sum = fmaf(w[2], low.z, sum);
  sum = fmaf(w[3], low.w, sum);
  sum = fmaf(w[4], high.x, sum);
  sum = fmaf(w[5], high.y, sum);
  sum = fmaf(w[6], high.z, sum);
  return fmaf(w[7], high.w, sum);
}

__device__ float nvfp4_scale(const Nvfp4View& w, std::int64_t block) {
  return w.scales_e4m3 != nullptr ? e4m3_to_float(w.scales_e4m3[block]) : w.scales_f32[block];
}

template <int Tokens>
__global__ void linear_nvfp4_kernel(Nvfp4View w, const float* __restrict__ x, float* y) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.y;
  if (row >= w.rows) return;
  const unsigned* const codes = reinterpret_cast<const unsigned*>(w.codes + row * (w.cols / 2));
  const std::int64_t first_block = row * (w.cols / kNvfp4Block);
  float sums[Tokens] = {};
  for (std::int64_t start = threadIdx.x * kWordCols; start < w.cols; start += kWords * kWarpCols) {
    unsigned words[kWords] = {};
    float scales[kWords] = {};
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      const std::int64_t col = start + i * kWarpCols;
      if (col >= w.cols) continue;
      words[i] = codes[col / kWordCols];
      scales[i] = nvfp4_scale(w, first_block + col / kNvfp4Block);
    }
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      const std::int64_t col = start + i * kWarpCols;
      if (col >= w.cols) continue;
      float values[kWordCols];
      unpack_e2m1(words[i], values);
#pragma unroll
      for (int t = 0; t < Tokens; ++t) {
        sums[t] = fmaf(dot8(values, x + t * w.cols + col), scales[i], sums[t]);
      }
    }
  }
#pragma unroll
  for (int t = 0; t < Tokens; ++t) {
    const float sum = warp_sum(sums[t]);
    // 2^14 undoes the place of the codes' bits.
    if (threadIdx.x == 0) y[t * w.rows + row] = sum * 0x1p14F * w.global_scale;
  }
}

template <int Tokens>
__global__ void linear_nf4_kernel(Nf4View w, const float* __restrict__ x, float* y) {
  __shared__ float code_book[16];
  if (threadIdx.y == 0 && threadIdx.x < 16) code_book[threadIdx.x] = w.code_book[threadIdx.x];
  __syncthreads();
  const std::int64_t row = std::int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.y;
  if (row >= w.rows) return;
  const unsigned* const codes = reinterpret_cast<const unsigned*>(w.codes + row * (w.cols / 2));
  float sums[Tokens] = {};
  for (std::int64_t start = threadIdx.x * kWordCols; start < w.cols; start += kWords * kWarpCols) {
    unsigned words[kWords] = {};
    float scales[kWords] = {};
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      const std::int64_t col = start + i * kWarpCols;
      if (col >= w.cols) continue;
      words[i] = codes[col / kWordCols];
      scales[i] = w.absmax[(row * w.cols + col) / w.block];
    }
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      const std::int64_t col = start + i * kWarpCols;
      if (col >= w.cols) continue;
      float values[kWordCols];
#pragma unroll
      for (unsigned k = 0; k < kWordCols; ++k) {
        // The high nibble of a byte is the first of its two.
        values[k] = code_book[words[i] >> (4 * (k ^ 1U)) & 0xF];
      }
#pragma unroll
      for (int t = 0; t < Tokens; ++t) {
        sums[t] = fmaf(dot8(values, x + t * w.cols + col), scales[i], sums[t]);
      }
    }
  }
#pragma unroll
  for (int t = 0; t < Tokens; ++t) {
    const float sum = warp_sum(sums[t]);
    if (threadIdx.x == 0) y[t * w.rows + row] = sum;
  }
}

bool aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

bool valid(std::int64_t rows, std::int64_t cols, const void* codes, const LinearOperands& o) {
  return rows > 0 && cols > 0 && cols % kWordCols == 0 && o.tokens > 0 &&
         o.tokens <= kLinearMaxTokens && rows / kRowsPerBlock < INT_MAX && aligned(codes) &&
         aligned(o.x);
}

// Runs the tokens in pieces of 8, 4, 2 and 1 that kernels are made for.
template <class Launch>
cudaError_t in_pieces(std::int64_t tokens, std::int64_t rows, std::int64_t cols,
                      const LinearOperands& o, const Launch& launch) {
  const dim3 grid(static_cast<unsigned>((rows + kRowsPerBlock - 1) / kRowsPerBlock));
  const dim3 threads(kWarp, kRowsPerBlock);
  for (std::int64_t done = 0; done < tokens;) {
    std::int64_t piece = kLinearMaxTokens;
    while (piece > tokens - done) piece /= 2;
    launch(grid, threads, piece, o.x + done * cols, o.y + done * rows);
    done += piece;
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t linear_nvfp4(const Nvfp4View& w, const LinearOperands& operands, cudaStream_t stream) {
  const bool blocks = w.cols % kNvfp4Block == 0;
  const bool one_kind_of_scale = (w.scales_e4m3 != nullptr) != (w.scales_f32 != nullptr);
  if (!valid(w.rows, w.cols, w.codes, operands) || !blocks || !one_kind_of_scale)
    return cudaErrorInvalidValue;
  return in_pieces(operands.tokens, w.rows, w.cols, operands,
                   [&](dim3 grid, dim3 threads, std::int64_t piece, const float* x, float* y) {
                     switch (piece) {
                       case 8:
                         return linear_nvfp4_kernel<8><<<grid, threads, 0, stream>>>(w, x, y);
                       case 4:
                         return linear_nvfp4_kernel<4><<<grid, threads, 0, stream>>>(w, x, y);
                       case 2:
                         return linear_nvfp4_kernel<2><<<grid, threads, 0, stream>>>(w, x, y);
                       default:
                         return linear_nvfp4_kernel<1><<<grid, threads, 0, stream>>>(w, x, y);
                     }
                   });
}

cudaError_t linear_nf4(const Nf4View& w, const LinearOperands& operands, cudaStream_t stream) {
  // The columns of a word share one block.
  const bool blocks = w.block > 0 && w.block % kWordCols == 0;
  if (!valid(w.rows, w.cols, w.codes, operands) || !blocks) return cudaErrorInvalidValue;
  return in_pieces(operands.tokens, w.rows, w.cols, operands,
                   [&](dim3 grid, dim3 threads, std::int64_t piece, const float* x, float* y) {
                     switch (piece) {
                       case 8:
                         return linear_nf4_kernel<8><<<grid, threads, 0, stream>>>(w, x, y);
                       case 4:
                         return linear_nf4_kernel<4><<<grid, threads, 0, stream>>>(w, x, y);
                       case 2:
                         return linear_nf4_kernel<2><<<grid, threads, 0, stream>>>(w, x, y);
                       default:
                         return linear_nf4_kernel<1><<<grid, threads, 0, stream>>>(w, x, y);
                     }
                   });
}

}  // namespace qf::cuda
