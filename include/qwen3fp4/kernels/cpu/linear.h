#pragma once

#include <cstdint>

#include "qwen3fp4/kernels/cpu/dequantize.h"
#include "qwen3fp4/kernels/cpu/isa.h"
#include "qwen3fp4/kernels/views.h"

// Products of a few tokens with packed or dense rows in one pass over the weight, in fp32, without
// unpacking it to memory. The order of the sums depends on the shape and on `isa` only: neither on
// the range of rows nor on other tokens. |y - exact| <= cols * 2^-23 * sum |x w|.
namespace qf {

inline constexpr std::int64_t kLinearMaxTokens = 4;

// Packed columns come in groups: a 32-bit word of codes holds 8 columns, 16 lanes hold a word each.
inline constexpr std::int64_t kColumnGroup = 128;

// Columns of x once packed: rounded up to whole groups.
[[nodiscard]] constexpr std::int64_t packed_cols(std::int64_t cols) {
  return (cols + kColumnGroup - 1) / kColumnGroup * kColumnGroup;
}
// Transposes each group of x [tokens, cols] to [8, 16]: column 8 l + k of the group goes to place
// 16 k + l, where lane l finds it when it has shifted k codes out of its word. Zeros fill the last
// group. out [tokens, packed_cols(cols)].
void pack_columns(const float* x, std::int64_t tokens, std::int64_t cols, float* out);

struct LinearInput {
  const float* x;         // [tokens, cols]
  const float* x_packed;  // pack_columns(x); linear_dense does not read it
  std::int64_t tokens;    // 1 .. kLinearMaxTokens
};
struct LinearOutput {
  float* y;             // [tokens, stride]; y[t, r] is written for the rows r of the range
  std::int64_t stride;  // at least the rows of the weight
};

void linear_nvfp4(const Nvfp4View& w, const LinearInput& in, RowRange rows, const LinearOutput& out,
                  CpuIsa isa = best_cpu_isa());
// Blocks that are not 64, 128, 256, ..., or do not divide cols, take the portable path on any
// `isa`.
void linear_nf4(const Nf4View& w, const LinearInput& in, RowRange rows, const LinearOutput& out,
                CpuIsa isa = best_cpu_isa());

enum class DenseType : std::uint8_t { kF32, kF16, kBF16 };
struct DenseRows {
  const void* values;  // [rows, cols] of `type`
  DenseType type;
  std::int64_t rows, cols;
};
void linear_dense(const DenseRows& w, const LinearInput& in, RowRange rows, const LinearOutput& out,
                  CpuIsa isa = best_cpu_isa());

}  // namespace qf
