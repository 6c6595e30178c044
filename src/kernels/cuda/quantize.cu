#include <climits>

#include "qwen3fp4/kernels/cuda/quantize.h"
#include "qwen3fp4/kernels/nvfp4_block.h"

namespace qf::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;

__device__ float to_float(float value) { return value; }
// The upper half of an f32.
__device__ float to_float(std::uint16_t bits) {
  return float_from_bits(static_cast<std::uint32_t>(bits) << 16);
}

// bf16 as its bits, so that the arithmetic above is all there is to it.
const float* raw(const float* values) { return values; }
const std::uint16_t* raw(const __nv_bfloat16* values) {
  return reinterpret_cast<const std::uint16_t*>(values);
}

// 16 values from an address aligned to 16 bytes.
template <class T>
__device__ void load_block(const T* from, float (&x)[kNvfp4Block]) {
  constexpr int kLoads = kNvfp4Block * sizeof(T) / sizeof(uint4);
  constexpr int kPerLoad = kNvfp4Block / kLoads;
#pragma unroll
  for (int i = 0; i < kLoads; ++i) {
    const uint4 words = reinterpret_cast<const uint4*>(from)[i];
    T values[kPerLoad];
    memcpy(values, &words, sizeof(words));
#pragma unroll
    for (int j = 0; j < kPerLoad; ++j) x[i * kPerLoad + j] = to_float(values[j]);
  }
}

__device__ void store_codes(const Nvfp4Block& block, std::uint8_t* codes, std::int64_t index) {
  reinterpret_cast<uint2*>(codes)[index] = make_uint2(block.codes[0], block.codes[1]);
}

__device__ std::uint32_t warp_max(std::uint32_t value) {
  for (int offset = 16; offset > 0; offset /= 2) {
    const std::uint32_t other = __shfl_xor_sync(0xFFFFFFFFU, value, offset);
    value = other > value ? other : value;
  }
  return value;
}

// The largest over the block of threads, all of which take part, once.
__device__ std::uint32_t block_max(std::uint32_t value) {
  __shared__ std::uint32_t of_warp[kWarps];
  value = warp_max(value);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
  __syncthreads();
  std::uint32_t most = 0;
  for (int warp = 0; warp < kWarps; ++warp) most = of_warp[warp] > most ? of_warp[warp] : most;
  return most;
}

template <class T>
__global__ void absolute_max_kernel(const T* values, std::int64_t count, std::uint32_t* amax) {
  std::uint32_t most = 0;
  const std::int64_t step = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += step) {
    const std::uint32_t bits = float_bits(magnitude(to_float(values[i])));
    most = bits > most ? bits : most;
  }
  most = block_max(most);
  if (threadIdx.x == 0) atomicMax(amax, most);
}

// One thread a block of 16.
template <class T>
__global__ void quantize_nvfp4_kernel(const T* values, std::int64_t blocks,
                                      std::int64_t blocks_per_row, Nvfp4Rule rule,
                                      Nvfp4Output out) {
  const std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= blocks) return;
  float x[kNvfp4Block];
  load_block(values + i * kNvfp4Block, x);
  const float* const weights = rule.column_weights == nullptr
                                   ? nullptr
                                   : rule.column_weights + i % blocks_per_row * kNvfp4Block;
  const Nvfp4Block block = rule.search ? nvfp4_searched_block(x, rule.global_scale, weights)
                                       : nvfp4_plain_block(x, rule.global_scale);
  store_codes(block, out.codes, i);
  out.scales_e4m3[i] = block.scale_e4m3;
}

// bitsandbytes' guard against dividing by zero; it is subnormal in fp32.
constexpr float kNf4SmallestAbsmax = 1e-38F;

// One warp a block of 64, a lane two values. The last, shorter block divides and stores the guarded
// absmax, as bitsandbytes does.
template <class T>
__global__ void quantize_nf4_kernel(const T* values, std::int64_t count, Nf4Output out) {
  const std::int64_t block = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  const std::int64_t first = block * kNf4Block + threadIdx.x % 32 * 2;
  if (block * kNf4Block >= count) return;
  const bool mine = first < count;
  const float x0 = mine ? to_float(values[first]) : 0.0F;
  const float x1 = mine ? to_float(values[first + 1]) : 0.0F;
  const std::uint32_t bits0 = float_bits(magnitude(x0)), bits1 = float_bits(magnitude(x1));
  const float absmax = float_from_bits(warp_max(bits0 > bits1 ? bits0 : bits1));
  const float guarded = absmax < kNf4SmallestAbsmax ? kNf4SmallestAbsmax : absmax;
  const bool full = (block + 1) * kNf4Block <= count;
  const float reciprocal = 1.0F / guarded;
  const unsigned high = nf4_from_float(full ? x0 * reciprocal : x0 / guarded);
  const unsigned low = nf4_from_float(full ? x1 * reciprocal : x1 / guarded);
  if (mine) out.codes[first / 2] = static_cast<std::uint8_t>(high << 4 | low);
  if (threadIdx.x % 32 == 0) out.absmax[block] = full ? absmax : guarded;
}

// A thread block a row of scale tiles, those of the padding too.
template <class T>
__global__ void __launch_bounds__(kThreads)
    quantize_activations_kernel(Matrix<T> x, QuantisedTokens out) {
  const std::int64_t t = blockIdx.x;
  const std::int64_t blocks = x.cols / kNvfp4Block;
  const std::int64_t padded = padded_scale_cols(blocks);
  if (t >= x.rows) {
    for (std::int64_t b = threadIdx.x; b < padded; b += kThreads) {
      out.scale_tiles[scale_tile_offset(t, b, blocks)] = 0;
    }
    return;
  }
  const T* const token = x.values + t * x.cols;
  std::uint32_t most = 0;
  for (std::int64_t b = threadIdx.x; b < blocks; b += kThreads) {
    float values[kNvfp4Block];
    load_block(token + b * kNvfp4Block, values);
    const std::uint32_t bits = float_bits(nvfp4_block_amax(values));
    most = bits > most ? bits : most;
  }
  const float scale = nvfp4_token_scale(float_from_bits(block_max(most)));
  if (threadIdx.x == 0) out.token_scales[t] = scale;
  for (std::int64_t b = threadIdx.x; b < padded; b += kThreads) {
    std::uint8_t* const tile_scale = out.scale_tiles + scale_tile_offset(t, b, blocks);
    if (b >= blocks) {
      *tile_scale = 0;
      continue;
    }
    float values[kNvfp4Block];
    load_block(token + b * kNvfp4Block, values);
    for (float& value : values) value = is_finite(scale) ? value / scale : 0.0F;
    const Nvfp4Block block = nvfp4_plain_block(values, 1.0F);
    store_codes(block, out.codes, t * blocks + b);
    *tile_scale = block.scale_e4m3;
  }
}

// Thread blocks of `each` for `items`, or 0 when they do not fit into a grid.
unsigned grid_for(std::int64_t items, std::int64_t each) {
  const std::int64_t grid = (items + each - 1) / each;
  return items <= 0 || grid > INT_MAX ? 0 : static_cast<unsigned>(grid);
}

bool aligned(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0; }

template <class T>
cudaError_t launch_absolute_max(const T* values, std::int64_t count, float* amax,
                                cudaStream_t stream) {
  if (count <= 0) return cudaErrorInvalidValue;
  const cudaError_t error = cudaMemsetAsync(amax, 0, sizeof(float), stream);
  if (error != cudaSuccess) return error;
  constexpr std::int64_t kMostBlocks = 1024;
  const std::int64_t wanted = (count + kThreads - 1) / kThreads;
  const auto grid = static_cast<unsigned>(wanted < kMostBlocks ? wanted : kMostBlocks);
  // Bits of magnitudes are in the order of their values, and NaN above all.
  absolute_max_kernel<<<grid, kThreads, 0, stream>>>(values, count,
                                                     reinterpret_cast<std::uint32_t*>(amax));
  return cudaGetLastError();
}

template <class T>
cudaError_t launch_nvfp4(const T* values, std::int64_t rows, std::int64_t cols,
                         const Nvfp4Rule& rule, const Nvfp4Output& out, cudaStream_t stream) {
  const bool shaped = rows > 0 && cols > 0 && cols % kNvfp4Block == 0 && rule.global_scale > 0;
  const std::int64_t blocks_per_row = cols / kNvfp4Block;
  const unsigned grid = shaped ? grid_for(rows * blocks_per_row, kThreads) : 0;
  if (grid == 0 || !aligned(values) || !aligned(out.codes)) {
    return cudaErrorInvalidValue;
  }
  quantize_nvfp4_kernel<<<grid, kThreads, 0, stream>>>(values, rows * blocks_per_row,
                                                       blocks_per_row, rule, out);
  return cudaGetLastError();
}

template <class T>
cudaError_t launch_nf4(const T* values, std::int64_t count, const Nf4Output& out,
                       cudaStream_t stream) {
  const unsigned grid = count % 2 == 0 ? grid_for(count, kNf4Block * kWarps) : 0;
  if (grid == 0 || !aligned(values) || !aligned(out.codes)) return cudaErrorInvalidValue;
  quantize_nf4_kernel<<<grid, kThreads, 0, stream>>>(values, count, out);
  return cudaGetLastError();
}

template <class T>
cudaError_t launch_activations(const Matrix<T>& x, const QuantisedTokens& out,
                               cudaStream_t stream) {
  const bool shaped = x.rows > 0 && x.cols > 0 && x.cols % kNvfp4Block == 0;
  const unsigned grid = shaped ? grid_for(padded_scale_rows(x.rows), 1) : 0;
  if (grid == 0 || !aligned(x.values) || !aligned(out.codes)) return cudaErrorInvalidValue;
  quantize_activations_kernel<<<grid, kThreads, 0, stream>>>(x, out);
  return cudaGetLastError();
}

}  // namespace

cudaError_t absolute_max(const float* values, std::int64_t count, float* amax,
                         cudaStream_t stream) {
  return launch_absolute_max(raw(values), count, amax, stream);
}
cudaError_t absolute_max(const __nv_bfloat16* values, std::int64_t count, float* amax,
                         cudaStream_t stream) {
  return launch_absolute_max(raw(values), count, amax, stream);
}

cudaError_t quantize_nvfp4(const Matrix<float>& weight, const Nvfp4Rule& rule,
                           const Nvfp4Output& out, cudaStream_t stream) {
  return launch_nvfp4(raw(weight.values), weight.rows, weight.cols, rule, out, stream);
}
cudaError_t quantize_nvfp4(const Matrix<__nv_bfloat16>& weight, const Nvfp4Rule& rule,
                           const Nvfp4Output& out, cudaStream_t stream) {
  return launch_nvfp4(raw(weight.values), weight.rows, weight.cols, rule, out, stream);
}

cudaError_t quantize_nf4(const float* values, std::int64_t count, const Nf4Output& out,
                         cudaStream_t stream) {
  return launch_nf4(raw(values), count, out, stream);
}
cudaError_t quantize_nf4(const __nv_bfloat16* values, std::int64_t count, const Nf4Output& out,
                         cudaStream_t stream) {
  return launch_nf4(raw(values), count, out, stream);
}

cudaError_t quantize_activations(const Matrix<float>& x, const QuantisedTokens& out,
                                 cudaStream_t stream) {
  return launch_activations(x, out, stream);
}
cudaError_t quantize_activations(const Matrix<__nv_bfloat16>& x, const QuantisedTokens& out,
                                 cudaStream_t stream) {
  return launch_activations(Matrix<std::uint16_t>{raw(x.values), x.rows, x.cols}, out, stream);
}

}  // namespace qf::cuda
