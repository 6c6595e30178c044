#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "qwen3fp4/kernels/cpu/adam_step.h"

// The optimiser's kernels on tensors of either device. Shapes are the caller's business.
namespace qf::adam {

// Rows of an f32 or bf16 gradient, contiguous.
struct Gradient {
  at::Tensor values;  // [rows.count, cols]
  RowRange rows;
};

// The pointers in the structs are those of the gradient's device, or of pinned memory. `squares`,
// f32 [rows.count, moment_groups(cols)] or undefined, gets the sums of the squares of each group.
void step(AdamProfile profile, const AdamRule& rule, const AdamWeight& weight,
          const Gradient& gradient, const at::Tensor& squares);
void dense_step(const AdamRule& rule, const AdamDense& weight, const at::Tensor& gradient);
void add_columns(const AdamRule& rule, const ColumnSquares& squares, const Gradient& gradient);
struct ColumnMeans {
  float* mean;   // [cols]
  float* ratio;  // [cols]
};
void finish_columns(const AdamRule& rule, const ColumnSquares& squares, const ColumnMeans& means,
                    at::Device device);
// [rows.count, cols] of `dtype` (f32 or bf16).
at::Tensor dequantize(const Nvfp4View& weight, RowRange rows, at::TensorOptions options);
// Whole weights, [rows, cols] each.
std::vector<at::Tensor> dequantize(const std::vector<Nvfp4View>& weights,
                                   at::TensorOptions options);

std::int64_t sum_parts(at::Device device);
// Writes f32 [sum_parts()], contiguous, which add up to the sum of the squares of an f32 or bf16
// gradient, contiguous.
void sum_of_squares(const at::Tensor& gradient, at::Tensor& parts);
// Likewise to the sum of f32 values, contiguous.
void sum(const at::Tensor& values, at::Tensor& parts);

// adam_cuda.cpp, or no_adam_cuda.cpp in a build without CUDA.
namespace on_cuda {
void step(AdamProfile profile, const AdamRule& rule, const AdamWeight& weight,
          const Gradient& gradient, float* squares);
void dense_step(const AdamRule& rule, const AdamDense& weight, const at::Tensor& gradient);
void add_columns(const AdamRule& rule, const ColumnSquares& squares, const Gradient& gradient);
void finish_columns(const AdamRule& rule, const ColumnSquares& squares, const ColumnMeans& means);
void dequantize(const Nvfp4View& weight, RowRange rows, at::Tensor& out);
void dequantize(const std::vector<Nvfp4View>& weights, std::vector<at::Tensor>& out);
std::int64_t sum_parts();
void sum_of_squares(const at::Tensor& gradient, at::Tensor& parts);
void sum(const at::Tensor& values, at::Tensor& parts);
}  // namespace on_cuda

}  // namespace qf::adam
