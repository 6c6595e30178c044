#pragma once

#include <cstdint>

#include "qwen3fp4/kernels/adam_step.h"
#include "qwen3fp4/kernels/cpu/dequantize.h"
#include "qwen3fp4/kernels/cpu/isa.h"

// Adam on NVFP4 weights with packed states: the arithmetic of kernels/adam_step.h, the same bits
// for every `isa`, every cut into rows and on the device (kernels/cuda/adam_step.h).
namespace qf {

// An NVFP4 weight and its states; of the states those of the profile, the others nullptr.
struct AdamWeight {
  std::uint8_t* codes;              // [rows, cols/2]   low nibble first
  const std::uint8_t* scales_e4m3;  // [rows, cols/16]
  float global_scale;
  std::int64_t rows, cols;  // cols: multiple of 16

  float* position = nullptr;              // [rows, cols]    kFp32
  std::uint8_t* residual = nullptr;       // [rows, cols]    kDefault; kExact: the lower 8 bits
  std::uint8_t* residual_high = nullptr;  // [rows, cols/2]  kExact: the upper 4 bits

  float* m = nullptr;               // [rows, cols]    kFp32
  std::uint8_t* m_codes = nullptr;  // [rows, cols/2] E2M1; kExact: [rows, cols] signed
  float* m_scales = nullptr;        // [rows, moment_groups(cols)]
  float* v = nullptr;               // [rows, cols]    kFp32
  std::uint8_t* v_codes = nullptr;  // [rows, cols/2] geometric; kExact: [rows, cols]
  float* v_scales = nullptr;        // [rows, moment_groups(cols)]

  float* v_rows = nullptr;           // [rows]  kMin: moving mean over a row of gradient^2
  const float* v_columns = nullptr;  // [cols]  kMin: that over a column, by the mean over columns
};

// Rows rows.first .. of the gradient of a weight.
template <class T>
struct GradientRows {
  const T* values;  // [rows.count, cols]
  RowRange rows;
};
template <class T>
GradientRows(const T*, RowRange) -> GradientRows<T>;

// f32 gradients, and bf16 ones as their bits. Gradients that are not finite give states without
// meaning, but defined ones. `squares`, unless nullptr, gets the sum of the squares of each group's
// gradients, as they are: [rows.count, moment_groups(cols)].
void adam_step(AdamProfile profile, const AdamRule& rule, const AdamWeight& weight,
               const GradientRows<float>& gradient, float* squares = nullptr,
               CpuIsa isa = best_cpu_isa());
void adam_step(AdamProfile profile, const AdamRule& rule, const AdamWeight& weight,
               const GradientRows<std::uint16_t>& gradient, float* squares = nullptr,
               CpuIsa isa = best_cpu_isa());

// Where the weights start inside the cells of their codes, which stay as they are; kMin has no such
// place. Not for groups of threads that share a row.
//
// At random: the words of `seed`, `tensor`, the element and step 0 choose evenly.
struct StartDraws {
  PhiloxKey seed;
  std::uint32_t tensor;
};
void start_anywhere(AdamProfile profile, const StartDraws& draws, const AdamWeight& weight,
                    RowRange rows);
// At the values that were quantised (in units of the weight), or at the nearest end of the cell. A
// code of 0 takes the sign of its value.
void start_at_values(AdamProfile profile, const AdamWeight& weight,
                     const GradientRows<float>& values);

// kMin's sums over rows of gradient^2, between the first row of a step and the last.
struct ColumnSquares {
  float* total;  // [cols]  of whole tiles of kColumnTileRows rows, in their order
  float* open;   // [cols]  of the tile that the last rows began
  std::int64_t rows, cols;
};
struct ColumnRange {
  std::int64_t first, count;
};
// Rows from the first to the last of the weight, in any number of calls: the cuts do not matter.
void add_column_squares(const AdamRule& rule, const ColumnSquares& squares,
                        const GradientRows<float>& gradient, ColumnRange columns);
void add_column_squares(const AdamRule& rule, const ColumnSquares& squares,
                        const GradientRows<std::uint16_t>& gradient, ColumnRange columns);
// After the last row: moves `mean` [cols], the moving mean over a column of gradient^2, sets
// `ratio` [cols], AdamWeight's v_columns, and clears the sums.
void finish_column_squares(const AdamRule& rule, const ColumnSquares& squares, float* mean,
                           float* ratio);

// A dense weight with f32 states.
struct AdamDense {
  float* values;  // [count]
  float* m;       // [count]
  float* v;       // [count]
  std::int64_t count;
};
void adam_dense_step(const AdamRule& rule, const AdamDense& weight, const float* gradient);
void adam_dense_step(const AdamRule& rule, const AdamDense& weight, const std::uint16_t* gradient);

}  // namespace qf
