#pragma once

#include <cuda_runtime_api.h>

#include "qwen3fp4/kernels/cpu/adam_step.h"

// kernels/cpu/adam_step.h on the device, the same bits; gradients are f32 or bf16 as their bits.
// Pointers, those inside the structs too, are device pointers or pinned host memory that the device
// reaches, aligned to 16 bytes where a row begins (`squares` as floats are). Refused
// (cudaErrorInvalidValue): empty or misshapen weights, rows out of range, pointers that are missing
// or not aligned, and what is beyond a grid.
namespace qf::cuda {

template <class T>
[[nodiscard]] cudaError_t adam_step(AdamProfile profile, const AdamRule& rule,
                                    const AdamWeight& weight, const GradientRows<T>& gradient,
                                    float* squares, cudaStream_t stream);

// All columns.
template <class T>
[[nodiscard]] cudaError_t add_column_squares(const AdamRule& rule, const ColumnSquares& squares,
                                             const GradientRows<T>& gradient, cudaStream_t stream);
struct ColumnMeans {
  float* mean;   // [cols]
  float* ratio;  // [cols]
};
[[nodiscard]] cudaError_t finish_column_squares(const AdamRule& rule, const ColumnSquares& squares,
                                                const ColumnMeans& means, cudaStream_t stream);

template <class T>
[[nodiscard]] cudaError_t adam_dense_step(const AdamRule& rule, const AdamDense& weight,
                                          const T* gradient, cudaStream_t stream);

// The sum of the squares of `count` values in parts, always the same for the same count: to add
// them up is the caller's. `values` aligned to 16 bytes.
inline constexpr int kSumParts = 512;
template <class T>
[[nodiscard]] cudaError_t sum_of_squares(const T* values, std::int64_t count, float* parts,
                                         cudaStream_t stream);
// The same of the values themselves.
[[nodiscard]] cudaError_t sum(const float* values, std::int64_t count, float* parts,
                              cudaStream_t stream);

}  // namespace qf::cuda
