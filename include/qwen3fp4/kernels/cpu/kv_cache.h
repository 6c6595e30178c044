#pragma once

#include <cstdint>

// Rows of the cache in FP8 (kernels/kv_row.h).
namespace qf {

// Codes [width] and the scale of x [width].
void quantize_kv_row(const float* x, std::int64_t width, std::uint8_t* codes, float* scale);

// out[r, i] = codes[r, i] * scales[r], rounded to nearest: the same bits as on CUDA, but for those
// of NaN.
void dequantize_kv_rows(const std::uint8_t* codes, const float* scales, std::int64_t rows,
                        std::int64_t width, float* out);

}  // namespace qf
