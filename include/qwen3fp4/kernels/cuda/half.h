#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

// Operands of fp16 tensor-core products. fp16 has 11 bits of precision but a narrow range, so a
// tensor is taken times the power of two that brings its largest magnitude to [2^14, 2^15): every
// value is then off by at most 2^-11 of itself or 2^-40 of the largest. All pointers are device
// pointers. Refuses (cudaErrorInvalidValue) empty tensors and those beyond a grid.
namespace qf::cuda {

// *bits = the bits of the largest |x[i]| as f32. NaN counts as larger than infinity.
[[nodiscard]] cudaError_t largest_magnitude(const float* x, std::int64_t count, std::uint32_t* bits,
                                            cudaStream_t stream);
// y[i] = x[i] times that power of two. NaN and infinity stay what they are.
[[nodiscard]] cudaError_t to_half(const float* x, std::int64_t count, const std::uint32_t* largest,
                                  __half* y, cudaStream_t stream);
// y[i] *= factor / that power of two.
[[nodiscard]] cudaError_t undo_half_scale(float* y, std::int64_t count,
                                          const std::uint32_t* largest, float factor,
                                          cudaStream_t stream);

}  // namespace qf::cuda
