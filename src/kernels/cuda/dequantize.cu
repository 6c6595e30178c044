#include <climits>

#include "narrow.cuh"
#include "qwen3fp4/kernels/cuda/dequantize.h"
#include "qwen3fp4/kernels/fp4.h"

namespace qf::cuda {
namespace {

constexpr int kThreads = 256;

// One thread a block of 16: 8 bytes of codes in.
template <class Out>
__global__ void dequantize_nvfp4_kernel(Nvfp4View w, std::int64_t blocks, Out* out) {
  const std::int64_t block = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (block >= blocks) return;
  const float scale =
      w.scales_e4m3 != nullptr ? e4m3_to_float(w.scales_e4m3[block]) : w.scales_f32[block];
  const uint2 words = reinterpret_cast<const uint2*>(w.codes)[block];
  const auto value = [&](unsigned word, unsigned index) {
    return e2m1_to_float(word >> (4 * index) & 0xF) * scale * w.global_scale;
  };
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned word = i < 2 ? words.x : words.y;
    const unsigned first = 4 * (i % 2);
    store4(out + kNvfp4Block * block + 4 * i,
           make_float4(value(word, first), value(word, first + 1), value(word, first + 2),
                       value(word, first + 3)));
  }
}

// One thread a byte: the high nibble is the first of its two elements.
template <class Out>
__global__ void dequantize_nf4_kernel(Nf4View w, std::int64_t bytes, Out* out) {
  const std::int64_t byte = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (byte >= bytes) return;
  const unsigned codes = w.codes[byte];
  // Blocks are even, so both elements of a byte share one.
  const float absmax = w.absmax[2 * byte / w.block];
  store(out + 2 * byte, w.code_book[codes >> 4] * absmax);
  store(out + 2 * byte + 1, w.code_book[codes & 0xF] * absmax);
}

// Thread blocks for `items`, or 0 when they do not fit into a grid.
unsigned grid_for(std::int64_t items) {
  const std::int64_t grid = (items + kThreads - 1) / kThreads;
  return grid > INT_MAX ? 0 : static_cast<unsigned>(grid);
}

bool aligned(const void* pointer, std::uintptr_t bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
}

}  // namespace

template <class Out>
cudaError_t dequantize_nvfp4(const Nvfp4View& w, Out* out, cudaStream_t stream) {
  const bool shaped = w.rows > 0 && w.cols > 0 && w.cols % kNvfp4Block == 0;
  const bool one_kind_of_scale = (w.scales_e4m3 != nullptr) != (w.scales_f32 != nullptr);
  if (!shaped || !one_kind_of_scale || !aligned(w.codes, 8) || !aligned(out, 16)) {
    return cudaErrorInvalidValue;
  }
  const std::int64_t blocks = w.rows * (w.cols / kNvfp4Block);
  const unsigned grid = grid_for(blocks);
  if (grid == 0) return cudaErrorInvalidValue;
  dequantize_nvfp4_kernel<<<grid, kThreads, 0, stream>>>(w, blocks, out);
  return cudaGetLastError();
}

template <class Out>
cudaError_t dequantize_nf4(const Nf4View& w, Out* out, cudaStream_t stream) {
  const std::int64_t elements = w.rows * w.cols;
  const bool shaped =
      w.rows > 0 && w.cols > 0 && elements % 2 == 0 && w.block > 0 && w.block % 2 == 0;
  if (!shaped || !aligned(out, 8)) return cudaErrorInvalidValue;
  const unsigned grid = grid_for(elements / 2);
  if (grid == 0) return cudaErrorInvalidValue;
  dequantize_nf4_kernel<<<grid, kThreads, 0, stream>>>(w, elements / 2, out);
  return cudaGetLastError();
}

#define QF_INSTANTIATE(Out)                                                    \
  template cudaError_t dequantize_nvfp4(const Nvfp4View&, Out*, cudaStream_t); \
  template cudaError_t dequantize_nf4(const Nf4View&, Out*, cudaStream_t)
QF_INSTANTIATE(float);
QF_INSTANTIATE(__half);
QF_INSTANTIATE(__nv_bfloat16);
#undef QF_INSTANTIATE

}  // namespace qf::cuda
