#include "qwen3fp4/kernels/cpu/kv_cache.h"

#include <algorithm>

#include "e4m3_table.h"
#include "qwen3fp4/kernels/kv_row.h"

namespace qf {

void quantize_kv_row(const float* x, std::int64_t width, std::uint8_t* codes, float* scale) {
  std::uint32_t largest = 0;
  for (std::int64_t i = 0; i < width; ++i) {
    largest = std::max(largest, float_bits(magnitude(x[i])));
  }
  const float row_scale = kv_scale(largest);
  *scale = row_scale;
  for (std::int64_t i = 0; i < width; ++i) codes[i] = kv_code(x[i], row_scale);
}

void dequantize_kv_rows(const std::uint8_t* codes, const float* scales, std::int64_t rows,
                        std::int64_t width, float* out) {
  for (std::int64_t r = 0; r < rows; ++r, codes += width, out += width) {
    const float scale = scales[r];
    for (std::int64_t i = 0; i < width; ++i) out[i] = kE4M3Values[codes[i]] * scale;
  }
}

}  // namespace qf
