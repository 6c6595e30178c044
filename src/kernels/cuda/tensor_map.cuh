#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

// Descriptions of matrices for Hopper's tensor copies.
namespace qf::cuda {

// Columns of a box: 128 bytes, the row of a swizzle.
inline constexpr int kBoxCols = 64;

using EncodeTiled = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*,
                                 const cuuint64_t*, const cuuint64_t*, const cuuint32_t*,
                                 const cuuint32_t*, CUtensorMapInterleave, CUtensorMapSwizzle,
                                 CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
// The driver's, which nothing else here links to; nullptr where it is too old.
inline EncodeTiled encode_tiled() {
  static const EncodeTiled function = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result{};
    const cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found,
                                                                12000, cudaEnableDefault, &result);
    const bool usable = status == cudaSuccess && result == cudaDriverEntryPointSuccess;
    return usable ? reinterpret_cast<EncodeTiled>(found) : nullptr;
  }();
  return function;
}

inline CUtensorMapDataType map_type(const __half*) { return CU_TENSOR_MAP_DATA_TYPE_FLOAT16; }
inline CUtensorMapDataType map_type(const __nv_bfloat16*) {
  return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
}

// `count` matrices [rows, cols], whose elements' rows and first rows are so many elements apart.
struct Matrices {
  std::int64_t rows, cols;
  std::int64_t row_stride;
  std::int64_t count = 1, matrix_stride = 0;
};
// Boxes of kBoxCols columns x `box` rows of a matrix, swizzled; zeros outside. The map has three
// dimensions where there are several matrices.
template <class T>
cudaError_t map_of(const T* values, const Matrices& m, int box, CUtensorMap& map) {
  const EncodeTiled encode = encode_tiled();
  if (encode == nullptr) return cudaErrorNotSupported;
  const auto size = [](std::int64_t n) { return static_cast<cuuint64_t>(n); };
  const cuuint64_t sizes[] = {size(m.cols), size(m.rows), size(m.count)};
  const cuuint64_t strides[] = {size(m.row_stride) * sizeof(T), size(m.matrix_stride) * sizeof(T)};
  const cuuint32_t boxes[] = {kBoxCols, static_cast<cuuint32_t>(box), 1};
  const cuuint32_t steps[] = {1, 1, 1};
  const cuuint32_t dimensions = m.matrix_stride > 0 ? 3 : 2;
  const CUresult status =
      encode(&map, map_type(values), dimensions, const_cast<T*>(values), sizes, strides, boxes,
             steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return status == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace qf::cuda
