#include "qwen3fp4/kernels/nf4_table.h"

#include <algorithm>
#include <cmath>

#include "qwen3fp4/kernels/fp4.h"

namespace qf {
namespace {

constexpr double kClose = 0x1p-11;
// Factors to try, over an octave: what is larger or smaller rounds alike but for subnormals.
constexpr int kTries = 16384;
// High terms of the largest level are in [128, 256), so that low ones are far from subnormal.
constexpr double kTop = 256;

struct Terms {
  std::uint8_t high, low;
};
Terms terms_of(double value) {
  const auto high = e4m3_from_float(static_cast<float>(value));
  return {high, e4m3_from_float(static_cast<float>(value - e4m3_to_float(high)))};
}
double value_of(const Terms& terms) {
  return double{e4m3_to_float(terms.high)} + e4m3_to_float(terms.low);
}

// The largest error of a level, relative to it, with levels times `scale`.
double error_with(const std::array<float, 16>& code_book, double scale) {
  double worst = 0;
  for (const float level : code_book) {
    if (level == 0) continue;
    const double value = level * scale;
    worst = std::max(worst, std::abs(value_of(terms_of(value)) - value) / std::abs(value));
  }
  return worst;
}

}  // namespace

bool make_nf4_table(const std::array<float, 16>& code_book, Nf4Table& table) {
  double largest = 0;
  for (const float level : code_book) {
    if (!std::isfinite(level)) return false;
    largest = std::max(largest, std::abs(double{level}));
  }
  if (largest == 0) return false;
  double best_error = INFINITY;
  double best_scale = 1;
  for (int i = 0; i < kTries; ++i) {
    const double scale = kTop / largest * std::exp2(-(i + 1.0) / kTries);
    const double error = error_with(code_book, scale);
    if (error < best_error) {
      best_error = error;
      best_scale = scale;
    }
  }
  if (best_error > kClose) return false;
  table = {};
  for (unsigned i = 0; i < 16; ++i) {
    const Terms terms = terms_of(code_book[i] * best_scale);
    table.high[i / 4] |= std::uint32_t{terms.high} << (8 * (i % 4));
    table.low[i / 4] |= std::uint32_t{terms.low} << (8 * (i % 4));
  }
  table.factor = static_cast<float>(1 / best_scale);
  return true;
}

}  // namespace qf
