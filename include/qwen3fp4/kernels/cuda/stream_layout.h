#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include "qwen3fp4/kernels/views.h"

// 4-bit weights rearranged for streaming through Hopper's FP8 tensor cores (decode_step.h): the
// same codes and scales in another order, 9/16 byte a weight, rows padded to a multiple of 64 and
// columns to one of 256 with zeros.
//
// A chunk is 64 rows x 256 columns in 9216 contiguous bytes, which one bulk copy fetches; chunks of
// a row tile follow each other. In a chunk, warp w (of 4) owns rows 16w .. 16w+15 and 2304 bytes:
//   codes   4 units of 64 columns x 32 lanes x 16 bytes: word j of lane 4g+t holds columns
//           16j+4t .. 16j+4t+3 of rows g and g+8;
//   scales  of NVFP4: 32 lanes x 8 bytes: byte 2u of lane 4g+t is the scale of row g in block 4u+t,
//           byte 2u+1 that of row g+8;
//           of NF4: 16 rows x 4 f32: the absmax of a row's four blocks of 64.
// NVFP4: an E2M1 code is an E4M3 number of 2^-6 its value once its bits are placed (sign 7,
// rest 4..2), so a word holds two registers of four E4M3 numbers each, row g in `w & M` and row g+8
// in
// `((w << 2) ^ (w >> 2)) & M` with M = 0x9C9C9C9C: four operations for eight weights.
// NF4: the three low bits of row g's code k are bits 4k .. 4k+2, of row g+8's bits 16+4k ..
// 16+4k+2, as byte permutations select with them; the fourth bits are the highest of byte k, and
// bit 8k+3.
//
// Pointers are device pointers, aligned to 16 bytes. Refused (cudaErrorInvalidValue): empty or
// misshapen views, scales that are not E4M3, misaligned pointers.
namespace qf::cuda {

inline constexpr std::int64_t kStreamRows = 64;
inline constexpr std::int64_t kStreamCols = 256;
inline constexpr std::int64_t kStreamChunkBytes = 9216;

constexpr std::int64_t stream_row_tiles(std::int64_t rows) {
  return (rows + kStreamRows - 1) / kStreamRows;
}
constexpr std::int64_t stream_col_chunks(std::int64_t cols) {
  return (cols + kStreamCols - 1) / kStreamCols;
}
// Bytes of a weight [rows, cols] in this layout.
constexpr std::int64_t stream_bytes(std::int64_t rows, std::int64_t cols) {
  return stream_row_tiles(rows) * stream_col_chunks(cols) * kStreamChunkBytes;
}

// w.global_scale stays with the caller. `chunks`: stream_bytes(w.rows, w.cols) bytes.
[[nodiscard]] cudaError_t pack_stream(const Nvfp4View& w, std::uint8_t* chunks,
                                      cudaStream_t stream);

// A weight in the stream layout.
struct StreamView {
  const std::uint8_t* chunks;  // [row tiles, column chunks, 9216]
  float global_scale;
  std::int64_t rows, cols;
};
struct StreamRows {
  std::int64_t first, count;
};
// Rows first .. first + count - 1 into `out` [count, w.cols] of float, __half or __nv_bfloat16, by
// the formula of Nvfp4View: f32 the bits of dequantize_nvfp4, the others the nearest to them (with
// a global_scale of 1 the very numbers: at most 6 significant bits, from 2^-10 to 2688).
template <class Out>
[[nodiscard]] cudaError_t dequantize_stream(const StreamView& w, const StreamRows& rows, Out* out,
                                            cudaStream_t stream);

// NF4 with blocks of 64 that begin with each row (cols a multiple of 64).
[[nodiscard]] cudaError_t pack_stream(const Nf4View& w, std::uint8_t* chunks, cudaStream_t stream);

struct StreamNf4View {
  const std::uint8_t* chunks;  // as StreamView
  const float* code_book;      // [16]
  std::int64_t rows, cols;
};
// f32 the bits of dequantize_nf4, the others the nearest to them.
template <class Out>
[[nodiscard]] cudaError_t dequantize_stream(const StreamNf4View& w, const StreamRows& rows,
                                            Out* out, cudaStream_t stream);

}  // namespace qf::cuda
