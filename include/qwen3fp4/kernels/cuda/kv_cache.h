#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "qwen3fp4/kernels/kv_row.h"

// Rows of the cache in FP8 (kernels/kv_row.h), for prompts: the same bits as on the CPU
// (kernels/cpu/kv_cache.h). T is float, __half or __nv_bfloat16. All pointers are device pointers.
// Refused (cudaErrorInvalidValue): empty shapes, those beyond a grid, a width or a stride of values
// that is no multiple of 8, a width above 2048, values or codes that are not aligned to 16 and 8
// bytes.
namespace qf::cuda {

// Keys or values of some tokens of one layer.
struct KvRows {
  E4M3* codes;    // of token t of head h at h * code_stride + t * width
  float* scales;  // at h * scale_stride + t
  std::int64_t heads, tokens, width;
  std::int64_t code_stride, scale_stride;
};

// From x [tokens, heads, width].
template <class T>
[[nodiscard]] cudaError_t quantize_kv(const T* x, const KvRows& rows, cudaStream_t stream);

// To out, of token t of head h at h * out_stride + t * width: code * scale, rounded to f32 and then
// to T.
template <class T>
[[nodiscard]] cudaError_t dequantize_kv(const KvRows& rows, T* out, std::int64_t out_stride,
                                        cudaStream_t stream);

}  // namespace qf::cuda
