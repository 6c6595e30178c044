#include <algorithm>
#include <cstring>

#include "e4m3_table.h"
#include "linear_isa.h"
#include "qwen3fp4/kernels/fp4.h"
#include "unpack_nf4.h"

namespace qf::portable {
namespace {

using Sixteen = lanes::Sixteen<lanes::kPortableWidth>;

float f16_to_float(std::uint16_t half) {
  const std::uint32_t sign = (half & 0x8000U) << 16U;
  const std::uint32_t exponent = (half >> 10U) & 0x1FU;
  const std::uint32_t mantissa = half & 0x3FFU;
  if (exponent == 0) {
    const float value = static_cast<float>(mantissa) * 0x1p-24F;
    return sign != 0 ? -value : value;
  }
  const std::uint32_t wide = exponent == 31U ? 255U : exponent + 112U;
  return float_from_bits(sign | (wide << 23U) | (mantissa << 13U));
}

void load_dense(const DenseRows& w, std::int64_t first, std::int64_t count, float* out) {
  const auto* const f32 = static_cast<const float*>(w.values) + first;
  const auto* const half = static_cast<const std::uint16_t*>(w.values) + first;
  for (std::int64_t i = 0; i < count; ++i) {
    switch (w.type) {
      case DenseType::kF32:
        out[i] = f32[i];
        break;
      case DenseType::kF16:
        out[i] = f16_to_float(half[i]);
        break;
      case DenseType::kBF16:
        out[i] = float_from_bits(static_cast<std::uint32_t>(half[i]) << 16U);
        break;
    }
  }
}

struct Shape {
  std::int64_t cols;
  RowRange rows;
};

// unpack(row, column, count, weights) gives up to 16 weights of a row, the rest zeros.
template <class Unpack>
QF_INLINE void linear_rows(const Shape& shape, const LinearInput& in, const LinearOutput& out,
                           const Unpack& unpack) {
  const std::int64_t cols = shape.cols;
  for (std::int64_t r = shape.rows.first; r < shape.rows.first + shape.rows.count; ++r) {
    Sixteen sums[kLinearMaxTokens] = {};
    for (std::int64_t c = 0; c < cols; c += 16) {
      const std::int64_t count = std::min<std::int64_t>(16, cols - c);
      Sixteen weights{};
      unpack(r, c, count, weights);
      for (std::int64_t t = 0; t < in.tokens; ++t) {
        Sixteen x{};
        if (count == 16) {
          lanes::load(in.x + t * cols + c, x);
        } else {
          std::memcpy(x.part, in.x + t * cols + c, static_cast<std::size_t>(count) * 4);
        }
        for (int p = 0; p < Sixteen::kParts; ++p) sums[t].part[p] += weights.part[p] * x.part[p];
      }
    }
    for (std::int64_t t = 0; t < in.tokens; ++t) {
      out.y[t * out.stride + r] = lanes::sum(sums[t]);
    }
  }
}

}  // namespace

void linear_nvfp4(const Nvfp4View& w, const LinearInput& in, RowRange rows,
                  const LinearOutput& out) {
  const std::int64_t blocks_per_row = w.cols / kNvfp4Block;
  linear_rows(
      {w.cols, rows}, in, out, [&](std::int64_t r, std::int64_t c, std::int64_t, Sixteen& weights) {
        const std::int64_t block = r * blocks_per_row + c / kNvfp4Block;
        const float scale =
            w.scales_e4m3 != nullptr ? kE4M3Values[w.scales_e4m3[block]] : w.scales_f32[block];
        lanes::unpack_e2m1(w.codes + block * (kNvfp4Block / 2), weights);
        for (auto& part : weights.part) part = part * scale * w.global_scale;
      });
}

void linear_nf4(const Nf4View& w, const LinearInput& in, RowRange rows, const LinearOutput& out) {
  linear_rows({w.cols, rows}, in, out,
              [&](std::int64_t r, std::int64_t c, std::int64_t count, Sixteen& weights) {
                float values[16] = {};
                unpack_nf4(w, r * w.cols + c, count, values);
                lanes::load(values, weights);
              });
}

void linear_dense(const DenseRows& w, const LinearInput& in, RowRange rows,
                  const LinearOutput& out) {
  linear_rows({w.cols, rows}, in, out,
              [&](std::int64_t r, std::int64_t c, std::int64_t count, Sixteen& weights) {
                float values[16] = {};
                load_dense(w, r * w.cols + c, count, values);
                lanes::load(values, weights);
              });
}

}  // namespace qf::portable
