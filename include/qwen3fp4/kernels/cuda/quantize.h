#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include "qwen3fp4/kernels/cpu/quantize.h"
#include "qwen3fp4/kernels/cpu/quantize_activations.h"

// The quantisers of kernels/cpu/quantize.h and kernels/cpu/quantize_activations.h on the device,
// the same bits; bf16 values count as the f32 numbers that they are. All pointers, those inside the
// structs too, are device pointers. Refused (cudaErrorInvalidValue): empty or misshapen matrices,
// and values or codes that are not aligned to 16 bytes.
namespace qf::cuda {

// [rows, cols], row-major.
template <class T>
struct Matrix {
  const T* values;
  std::int64_t rows, cols;
};

// Largest magnitude to *amax; infinity or NaN when some value is not finite.
[[nodiscard]] cudaError_t absolute_max(const float* values, std::int64_t count, float* amax,
                                       cudaStream_t stream);
[[nodiscard]] cudaError_t absolute_max(const __nv_bfloat16* values, std::int64_t count, float* amax,
                                       cudaStream_t stream);

// weight.cols: multiple of 16. Weights must be finite.
[[nodiscard]] cudaError_t quantize_nvfp4(const Matrix<float>& weight, const Nvfp4Rule& rule,
                                         const Nvfp4Output& out, cudaStream_t stream);
[[nodiscard]] cudaError_t quantize_nvfp4(const Matrix<__nv_bfloat16>& weight, const Nvfp4Rule& rule,
                                         const Nvfp4Output& out, cudaStream_t stream);

// `count` (even) flattened finite values; codes [count/2], absmax [ceil(count/64)].
struct Nf4Output {
  std::uint8_t* codes;
  float* absmax;
};
[[nodiscard]] cudaError_t quantize_nf4(const float* values, std::int64_t count,
                                       const Nf4Output& out, cudaStream_t stream);
[[nodiscard]] cudaError_t quantize_nf4(const __nv_bfloat16* values, std::int64_t count,
                                       const Nf4Output& out, cudaStream_t stream);

// x [tokens, cols], cols a multiple of 16.
[[nodiscard]] cudaError_t quantize_activations(const Matrix<float>& x, const QuantisedTokens& out,
                                               cudaStream_t stream);
[[nodiscard]] cudaError_t quantize_activations(const Matrix<__nv_bfloat16>& x,
                                               const QuantisedTokens& out, cudaStream_t stream);

}  // namespace qf::cuda
