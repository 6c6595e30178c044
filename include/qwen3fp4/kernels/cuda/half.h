#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

// Operands of fp16 tensor-core products. fp16 has 11 bits of precision but a narrow range: a tensor
// whose largest magnitude lies outside [2^-3, 2^15) is taken times a power of two that brings it to
// [2^14, 2^15). So every value is off by at most 2^-11 of itself or 2^-22 of the largest. All
// pointers are device pointers. Refuses (cudaErrorInvalidValue) empty tensors and those beyond a
// grid.
namespace qf::cuda {

// y[i] = x[i] times that power of two (nearly always 1). NaN and infinity stay what they are.
// *largest = the bits of the largest |x[i]| as f32; NaN counts as larger than infinity.
[[nodiscard]] cudaError_t to_half(const float* x, std::int64_t count, __half* y,
                                  std::uint32_t* largest, cudaStream_t stream);
// y[i] /= that power of two; where it is 1, nothing is read.
[[nodiscard]] cudaError_t undo_half_scale(float* y, std::int64_t count,
                                          const std::uint32_t* largest, cudaStream_t stream);

}  // namespace qf::cuda
