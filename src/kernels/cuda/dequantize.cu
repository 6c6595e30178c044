#include <climits>

#include "e2m1_word.cuh"
#include "narrow.cuh"
#include "qwen3fp4/kernels/cuda/dequantize.h"
#include "qwen3fp4/kernels/fp4.h"

namespace qf::cuda {
namespace {

constexpr int kThreads = 256;
// Elements of a thread at a time, whose codes are one word and whose 16-bit values 16 bytes: lanes
// beside each other then write whole sectors.
constexpr int kEight = 8;
// Of these a thread has so many, kThreads apart, on their way at a time.
constexpr int kPieces = 4;

template <class Out>
struct Jobs {
  DequantizeJob<Out> job[kDequantizeMostJobs];
  unsigned end[kDequantizeMostJobs];  // thread blocks of this job and those before
};

// One thread: kPieces times eight elements, half a block each.
template <class Out>
__global__ void __launch_bounds__(kThreads) dequantize_nvfp4_kernel(Jobs<Out> jobs) {
  int number = 0;
  while (blockIdx.x >= jobs.end[number]) ++number;
  const Nvfp4View& w = jobs.job[number].weight;
  Out* const out = jobs.job[number].out;
  const std::int64_t pieces = w.rows * (w.cols / kEight);
  const unsigned block = blockIdx.x - (number > 0 ? jobs.end[number - 1] : 0U);
  const std::int64_t first = std::int64_t{block} * (kThreads * kPieces) + threadIdx.x;
  std::uint32_t codes[kPieces];
  float scale[kPieces];
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const std::int64_t piece = first + i * kThreads;
    if (piece >= pieces) continue;
    codes[i] = reinterpret_cast<const std::uint32_t*>(w.codes)[piece];
    scale[i] = w.scales_e4m3 != nullptr ? e4m3_to_float(w.scales_e4m3[piece / 2])
                                        : w.scales_f32[piece / 2];
  }
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const std::int64_t piece = first + i * kThreads;
    if (piece >= pieces) continue;
    float values[kEight];
#pragma unroll
    for (unsigned k = 0; k < kEight; ++k) {
      values[k] = e2m1_of_bits(codes[i] >> (4 * k)) * scale[i] * w.global_scale;
    }
    store8(out + kEight * piece, values);
  }
}

// The high nibble of a byte is the first of its two elements. As above, for blocks of whole pieces.
template <class Out>
__global__ void __launch_bounds__(kThreads)
    dequantize_nf4_kernel(Nf4View w, std::int64_t pieces, Out* out) {
  __shared__ float book[16];
  if (threadIdx.x < 16) book[threadIdx.x] = w.code_book[threadIdx.x];
  __syncthreads();
  const std::int64_t first = std::int64_t{blockIdx.x} * (kThreads * kPieces) + threadIdx.x;
  const std::int64_t pieces_of_block = w.block / kEight;
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const std::int64_t piece = first + i * kThreads;
    if (piece >= pieces) continue;
    const std::uint32_t codes = reinterpret_cast<const std::uint32_t*>(w.codes)[piece];
    const float absmax = w.absmax[piece / pieces_of_block];
    float values[kEight];
#pragma unroll
    for (unsigned k = 0; k < kEight; ++k) {
      values[k] = book[codes >> (4 * (k ^ 1U)) & 0xFU] * absmax;
    }
    store8(out + kEight * piece, values);
  }
}

// One thread a byte, for any even block.
template <class Out>
__global__ void dequantize_odd_nf4_kernel(Nf4View w, std::int64_t bytes, Out* out) {
  const std::int64_t byte = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (byte >= bytes) return;
  const unsigned codes = w.codes[byte];
  // Blocks are even, so both elements of a byte share one.
  const float absmax = w.absmax[2 * byte / w.block];
  store(out + 2 * byte, w.code_book[codes >> 4] * absmax);
  store(out + 2 * byte + 1, w.code_book[codes & 0xF] * absmax);
}

// Thread blocks for `items` of which one takes `each`, or 0 when they do not fit into a grid.
unsigned grid_for(std::int64_t items, std::int64_t each) {
  const std::int64_t grid = (items + each - 1) / each;
  return grid > INT_MAX ? 0 : static_cast<unsigned>(grid);
}

bool aligned(const void* pointer, std::uintptr_t bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
}

}  // namespace

template <class Out>
cudaError_t dequantize_nvfp4(const DequantizeJob<Out>* jobs, int count, cudaStream_t stream) {
  if (count <= 0 || count > kDequantizeMostJobs) return cudaErrorInvalidValue;
  Jobs<Out> all{};
  std::int64_t grid = 0;
  for (int i = 0; i < count; ++i) {
    const Nvfp4View& w = jobs[i].weight;
    const bool shaped = w.rows > 0 && w.cols > 0 && w.cols % kNvfp4Block == 0;
    const bool one_kind_of_scale = (w.scales_e4m3 != nullptr) != (w.scales_f32 != nullptr);
    if (!shaped || !one_kind_of_scale || !aligned(w.codes, 8) || !aligned(jobs[i].out, 16)) {
      return cudaErrorInvalidValue;
    }
    const unsigned blocks = grid_for(w.rows * (w.cols / kEight), kThreads * kPieces);
    grid += blocks;
    if (blocks == 0 || grid > INT_MAX) return cudaErrorInvalidValue;
    all.job[i] = jobs[i];
    all.end[i] = static_cast<unsigned>(grid);
  }
  dequantize_nvfp4_kernel<<<static_cast<unsigned>(grid), kThreads, 0, stream>>>(all);
  return cudaGetLastError();
}

template <class Out>
cudaError_t dequantize_nvfp4(const Nvfp4View& w, Out* out, cudaStream_t stream) {
  const DequantizeJob<Out> job{w, out};
  return dequantize_nvfp4(&job, 1, stream);
}

template <class Out>
cudaError_t dequantize_nf4(const Nf4View& w, Out* out, cudaStream_t stream) {
  const std::int64_t elements = w.rows * w.cols;
  const bool shaped =
      w.rows > 0 && w.cols > 0 && elements % 2 == 0 && w.block > 0 && w.block % 2 == 0;
  if (!shaped || !aligned(out, 8)) return cudaErrorInvalidValue;
  const bool by_pieces =
      w.block % kEight == 0 && elements % kEight == 0 && aligned(w.codes, 4) && aligned(out, 16);
  const unsigned grid = by_pieces ? grid_for(elements, kEight * kThreads * kPieces)
                                  : grid_for(elements, 2 * kThreads);
  if (grid == 0) return cudaErrorInvalidValue;
  if (by_pieces) {
    dequantize_nf4_kernel<<<grid, kThreads, 0, stream>>>(w, elements / kEight, out);
  } else {
    dequantize_odd_nf4_kernel<<<grid, kThreads, 0, stream>>>(w, elements / 2, out);
  }
  return cudaGetLastError();
}

#define QF_INSTANTIATE(Out)                                                            \
  template cudaError_t dequantize_nvfp4(const Nvfp4View&, Out*, cudaStream_t);         \
  template cudaError_t dequantize_nvfp4(const DequantizeJob<Out>*, int, cudaStream_t); \
  template cudaError_t dequantize_nf4(const Nf4View&, Out*, cudaStream_t)
QF_INSTANTIATE(float);
QF_INSTANTIATE(__half);
QF_INSTANTIATE(__nv_bfloat16);
#undef QF_INSTANTIATE

}  // namespace qf::cuda
