#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "qwen3fp4/kernels/cpu/fp4_gemm.h"
#include "qwen3fp4/kernels/fp4.h"

namespace qf {

// A random operand: every code, scales over E4M3's whole positive range, row-major and in tiles.
struct Fp4Operand {
  std::int64_t rows, cols;
  std::vector<std::uint8_t> codes, scales, tiles;
  Fp4Operand(std::mt19937& random, std::int64_t row_count, std::int64_t col_count)
      : rows(row_count), cols(col_count) {
    for (std::int64_t i = 0; i < rows * cols / 2; ++i) {
      codes.push_back(static_cast<std::uint8_t>(random()));
    }
    for (std::int64_t i = 0; i < rows * cols / 16; ++i) {
      scales.push_back(static_cast<std::uint8_t>(random() % 127));
    }
    tiles.resize(static_cast<std::size_t>(scale_tiles_bytes(rows, cols / 16)));
    to_scale_tiles(scales.data(), rows, cols / 16, tiles.data());
  }
  ScaledFp4View view() const { return {codes.data(), tiles.data(), rows, cols}; }
  double value(std::int64_t r, std::int64_t c) const {
    const auto byte = codes[static_cast<std::size_t>((r * cols + c) / 2)];
    const auto scale = scales[static_cast<std::size_t>((r * cols + c) / 16)];
    return static_cast<double>(e2m1_to_float(nibble(byte, static_cast<unsigned>(c % 2)))) *
           e4m3_to_float(scale);
  }
};

// An element in double, and the sum of its blocks' magnitudes, which bounds what fp32 can lose.
struct ExactElement {
  double value, magnitudes;
};
inline ExactElement exact_element(const Fp4Operand& x, const Fp4Operand& w, double alpha,
                                  std::int64_t t, std::int64_t n) {
  ExactElement sum{0, 0};
  for (std::int64_t first = 0; first < x.cols; first += 16) {
    double block = 0;
    for (std::int64_t k = first; k < first + 16; ++k) block += x.value(t, k) * w.value(n, k);
    sum.value += alpha * block;
    sum.magnitudes += std::abs(alpha * block);
  }
  return sum;
}

}  // namespace qf
