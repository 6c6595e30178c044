#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include "qwen3fp4/kernels/nf4_table.h"
#include "qwen3fp4/kernels/views.h"

// 4-bit weights rearranged for streaming through Hopper's 8-bit tensor cores (decode_step.h): the
// same codes and scales in another order, 9/16 byte a weight, rows padded to a multiple of 64 and
// columns to one of 256 with zeros.
//
// A chunk is 64 rows x 256 columns in 9216 contiguous bytes, which one bulk copy fetches; chunks of
// a row tile follow each other. In a chunk, warp w (of 4) owns rows 16w .. 16w+15 and 2304 bytes:
//   codes   4 units of 64 columns x 32 lanes x 16 bytes;
//           of NVFP4: word j of lane 4g+t holds columns 16j+4t .. 16j+4t+3 of rows g and g+8;
//           of NF4: word 2s+h of lane 4g+t holds columns 32s+8t .. 32s+8t+7 of row g+8h;
//   scales  of NVFP4: 32 lanes x 8 bytes: byte 2u of lane 4g+t is the scale of row g in block 4u+t,
//           byte 2u+1 that of row g+8;
//           of NF4: 16 rows x 4 f32: the absmax of a row's blocks of 64, in the order 0, 2, 1, 3.
// NVFP4: an E2M1 code is an E4M3 number of 2^-6 its value once its bits are placed (sign 7,
// rest 4..2), so a word holds two registers of four E4M3 numbers each, row g in `w & M` and row g+8
// in
// `((w << 2) ^ (w >> 2)) & M` with M = 0x9C9C9C9C: four operations for eight weights.
// NF4: the first column in the lowest nibble, by Nf4Table::code_of, which byte permutations look up
// as they are.
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

// NF4 with blocks of 64 that begin with each row (cols a multiple of 64). `table`: of w's code
// book, which is not read itself.
[[nodiscard]] cudaError_t pack_stream(const Nf4View& w, const Nf4Table& table, std::uint8_t* chunks,
                                      cudaStream_t stream);

struct StreamNf4View {
  const std::uint8_t* chunks;  // as StreamView
  const float* code_book;      // [16] levels_by_code() of the table that it was packed with
  std::int64_t rows, cols;
};
// f32 the bits of dequantize_nf4, the others the nearest to them.
template <class Out>
[[nodiscard]] cudaError_t dequantize_stream(const StreamNf4View& w, const StreamRows& rows,
                                            Out* out, cudaStream_t stream);

}  // namespace qf::cuda
