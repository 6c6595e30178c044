#include <climits>

#include "e2m1_word.cuh"
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

// What a format is to the product: a scale for each word of codes, and their values.
struct Nvfp4Words {
  Nvfp4View w;
  __device__ float scale(std::int64_t row, std::int64_t col) const {
    const std::int64_t block = row * (w.cols / kNvfp4Block) + col / kNvfp4Block;
    return w.scales_e4m3 != nullptr ? e4m3_to_float(w.scales_e4m3[block]) : w.scales_f32[block];
  }
  __device__ void unpack(unsigned word, float (&values)[kWordCols]) const {
    unpack_e2m1(word, values);
  }
  __device__ float finish(float sum) const { return sum * kE2m1WordScale * w.global_scale; }
};

struct Nf4Words {
  Nf4View w;
  __device__ float scale(std::int64_t row, std::int64_t col) const {
    return w.absmax[(row * w.cols + col) / w.block];
  }
  __device__ void unpack(unsigned word, float (&values)[kWordCols]) const {
#pragma unroll
    for (unsigned i = 0; i < kWordCols; ++i) {
      // The high nibble of a byte is the first of its two.
      values[i] = w.code_book[word >> (4 * (i ^ 1U)) & 0xF];
    }
  }
  __device__ float finish(float sum) const { return sum; }
};

template <int Tokens, class Words>
__global__ void linear_kernel(Words weight, const float* __restrict__ x, float* y) {
  const auto& w = weight.w;
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
      scales[i] = weight.scale(row, col);
    }
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
      const std::int64_t col = start + i * kWarpCols;
      if (col >= w.cols) continue;
      float values[kWordCols];
      weight.unpack(words[i], values);
#pragma unroll
      for (int t = 0; t < Tokens; ++t) {
        sums[t] = fmaf(dot8(values, x + t * w.cols + col), scales[i], sums[t]);
      }
    }
  }
#pragma unroll
  for (int t = 0; t < Tokens; ++t) {
    const float sum = warp_sum(sums[t]);
    if (threadIdx.x == 0) y[t * w.rows + row] = weight.finish(sum);
  }
}

bool aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

bool valid(std::int64_t rows, std::int64_t cols, const void* codes, const LinearOperands& o) {
  return rows > 0 && cols > 0 && cols % kWordCols == 0 && o.tokens > 0 &&
         o.tokens <= kLinearMaxTokens && rows / kRowsPerBlock < INT_MAX && aligned(codes) &&
         aligned(o.x);
}

// Runs the tokens in pieces of 8, 4, 2 and 1, which kernels are made for.
template <class Words>
cudaError_t linear(const Words& weight, const LinearOperands& operands, cudaStream_t stream) {
  const std::int64_t rows = weight.w.rows;
  const dim3 grid(static_cast<unsigned>((rows + kRowsPerBlock - 1) / kRowsPerBlock));
  const dim3 threads(kWarp, kRowsPerBlock);
  for (std::int64_t done = 0; done < operands.tokens;) {
    std::int64_t piece = kLinearMaxTokens;
    while (piece > operands.tokens - done) piece /= 2;
    const float* const x = operands.x + done * weight.w.cols;
    float* const y = operands.y + done * rows;
    switch (piece) {
      case 8:
        linear_kernel<8><<<grid, threads, 0, stream>>>(weight, x, y);
        break;
      case 4:
        linear_kernel<4><<<grid, threads, 0, stream>>>(weight, x, y);
        break;
      case 2:
        linear_kernel<2><<<grid, threads, 0, stream>>>(weight, x, y);
        break;
      default:
        linear_kernel<1><<<grid, threads, 0, stream>>>(weight, x, y);
        break;
    }
    done += piece;
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t linear_nvfp4(const Nvfp4View& w, const LinearOperands& operands, cudaStream_t stream) {
  const bool blocks = w.cols % kNvfp4Block == 0;
  const bool one_kind_of_scale = (w.scales_e4m3 != nullptr) != (w.scales_f32 != nullptr);
  if (!valid(w.rows, w.cols, w.codes, operands) || !blocks || !one_kind_of_scale) {
    return cudaErrorInvalidValue;
  }
  return linear(Nvfp4Words{w}, operands, stream);
}

cudaError_t linear_nf4(const Nf4View& w, const LinearOperands& operands, cudaStream_t stream) {
  // The columns of a word share one block.
  const bool blocks = w.block > 0 && w.block % kWordCols == 0;
  if (!valid(w.rows, w.cols, w.codes, operands) || !blocks) return cudaErrorInvalidValue;
  return linear(Nf4Words{w}, operands, stream);
}

}  // namespace qf::cuda
