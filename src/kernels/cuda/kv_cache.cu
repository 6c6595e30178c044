#include <climits>
#include <cstdint>

#include "kv_row.cuh"
#include "narrow.cuh"
#include "qwen3fp4/kernels/cuda/kv_cache.h"

namespace qf::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr std::int64_t kMaxWidth = 8 * kThreads;

// A warp a row, in the order of x.
template <class T>
__global__ void quantize_kernel(const T* x, KvRows rows) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (row >= rows.tokens * rows.heads) return;
  const std::int64_t token = row / rows.heads;
  const std::int64_t head = row - token * rows.heads;
  const auto lane = static_cast<std::int64_t>(threadIdx.x % 32);
  x += row * rows.width;
  std::uint32_t largest = 0;
  for (std::int64_t i = 2 * lane; i < rows.width; i += 64) {
    const float pair[2] = {load(x + i), load(x + i + 1)};
    largest = max(largest, max(__float_as_uint(pair[0]) & 0x7FFFFFFFU,
                               __float_as_uint(pair[1]) & 0x7FFFFFFFU));
  }
  const float scale = kv_scale(__reduce_max_sync(~0U, largest));
  E4M3* const codes = rows.codes + head * rows.code_stride + token * rows.width;
  for (std::int64_t i = 2 * lane; i < rows.width; i += 64) {
    *reinterpret_cast<std::uint16_t*>(codes + i) =
        static_cast<std::uint16_t>(kv_code_pair(load(x + i), load(x + i + 1), scale));
  }
  if (lane == 0) rows.scales[head * rows.scale_stride + token] = scale;
}

// Eight neighbours a thread: x within a row, y the row; a row of the grid a head.
template <class T>
__global__ void dequantize_kernel(KvRows rows, T* out, std::int64_t out_stride) {
  const std::int64_t token = std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (token >= rows.tokens) return;
  const std::int64_t head = blockIdx.y;
  const std::int64_t place = token * rows.width + 8 * threadIdx.x;
  const uint2 words = *reinterpret_cast<const uint2*>(rows.codes + head * rows.code_stride + place);
  const float scale = rows.scales[head * rows.scale_stride + token];
  float low[4], high[4];
  kv_numbers(words.x, low);
  kv_numbers(words.y, high);
  const float v[8] = {low[0] * scale,  low[1] * scale,  low[2] * scale,  low[3] * scale,
                      high[0] * scale, high[1] * scale, high[2] * scale, high[3] * scale};
  store8(out + head * out_stride + place, v);
}

bool misaligned(const void* pointer, std::uintptr_t bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % bytes != 0;
}

bool valid(const KvRows& rows) {
  return rows.heads > 0 && rows.heads <= 65535 && rows.tokens > 0 && rows.width > 0 &&
         rows.width % 8 == 0 && rows.width <= kMaxWidth && rows.code_stride % 8 == 0 &&
         !misaligned(rows.codes, 8) && rows.tokens <= INT_MAX / rows.heads;
}

}  // namespace

template <class T>
cudaError_t quantize_kv(const T* x, const KvRows& rows, cudaStream_t stream) {
  if (!valid(rows)) return cudaErrorInvalidValue;
  const auto grid = static_cast<unsigned>((rows.tokens * rows.heads + kWarps - 1) / kWarps);
  quantize_kernel<<<grid, kThreads, 0, stream>>>(x, rows);
  return cudaGetLastError();
}

template <class T>
cudaError_t dequantize_kv(const KvRows& rows, T* out, std::int64_t out_stride,
                          cudaStream_t stream) {
  if (!valid(rows) || out_stride % 8 != 0 || misaligned(out, 16)) return cudaErrorInvalidValue;
  const auto across = static_cast<unsigned>(rows.width / 8);
  const unsigned down = kThreads / across;
  const dim3 grid(static_cast<unsigned>((rows.tokens + down - 1) / down),
                  static_cast<unsigned>(rows.heads));
  dequantize_kernel<<<grid, dim3(across, down), 0, stream>>>(rows, out, out_stride);
  return cudaGetLastError();
}

#define QF_INSTANTIATE(T)                                                  \
  template cudaError_t quantize_kv(const T*, const KvRows&, cudaStream_t); \
  template cudaError_t dequantize_kv(const KvRows&, T*, std::int64_t, cudaStream_t)
QF_INSTANTIATE(float);
QF_INSTANTIATE(__half);
QF_INSTANTIATE(__nv_bfloat16);
#undef QF_INSTANTIATE

}  // namespace qf::cuda
