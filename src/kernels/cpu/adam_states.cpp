#include <algorithm>

#include "qwen3fp4/kernels/cpu/adam_step.h"

// What surrounds the packed step: where positions start, kMin's sums over columns, dense weights.
namespace qf {
namespace {

float to_float(float value) { return value; }
float to_float(std::uint16_t bf16) {
  return float_from_bits(static_cast<std::uint32_t>(bf16) << 16U);
}

// Steps of a cell; 0 for profiles without steps.
std::int32_t levels_of(AdamProfile profile) {
  if (profile == AdamProfile::kDefault) return 256;
  return profile == AdamProfile::kExact ? 4096 : 0;
}

void store_residual(const AdamWeight& w, std::int64_t element, std::uint32_t residual) {
  w.residual[element] = static_cast<std::uint8_t>(residual);
  if (w.residual_high == nullptr) return;
  std::uint8_t& high = w.residual_high[element / 2];
  const unsigned shift = 4U * static_cast<unsigned>(element % 2);
  high = static_cast<std::uint8_t>((high & ~(0xFU << shift)) | residual >> 8U << shift);
}

std::int32_t code_of(const AdamWeight& w, std::int64_t element) {
  return static_cast<std::int32_t>(
      nibble(w.codes[element / 2], static_cast<unsigned>(element % 2)));
}

// `share` is below 1 by enough for the position to stay below the upper edge.
void place_at_share(AdamProfile profile, const AdamWeight& w, std::int64_t element, float share) {
  if (const std::int32_t levels = levels_of(profile); levels > 0) {
    return store_residual(w, element,
                          static_cast<std::uint32_t>(share * static_cast<float>(levels)));
  }
  const std::int32_t code = code_of(w, element);
  const float m = rounded_sum(cell_low(code & 7), rounded_product(share, cell_width(code & 7)));
  w.position[element] = with_sign_of_code(m, code);
}

void place_at_value(AdamProfile profile, const AdamWeight& w, std::int64_t element, float y) {
  std::int32_t code = code_of(w, element);
  if ((code & 7) == 0) {
    code = sign_code(y);
    std::uint8_t& pair = w.codes[element / 2];
    const unsigned shift = 4U * static_cast<unsigned>(element % 2);
    pair =
        static_cast<std::uint8_t>((pair & ~(0xFU << shift)) | static_cast<unsigned>(code) << shift);
  }
  const float low = cell_low(code & 7);
  const float width = cell_width(code & 7);
  // Across zero from its code is below its cell.
  const float m = sign_code(y) == (code & 8) ? std::max(magnitude(y), low) : low;
  if (const std::int32_t levels = levels_of(profile); levels > 0) {
    const float share = std::min((m - low) / width, 1.0F);
    const auto nearest = static_cast<std::int32_t>(share * static_cast<float>(levels) + 0.5F);
    return store_residual(w, element, static_cast<std::uint32_t>(std::min(nearest, levels - 1)));
  }
  const float last = float_from_bits(float_bits(low + width) - 1U);
  w.position[element] = with_sign_of_code(std::min(m, last), code);
}

template <class T>
void column_squares(const AdamRule& rule, const ColumnSquares& squares,
                    const GradientRows<T>& gradient, ColumnRange columns) {
  for (std::int64_t i = 0; i < gradient.rows.count; ++i) {
    const std::int64_t row = gradient.rows.first + i;
    const T* const values = gradient.values + i * squares.cols;
    for (std::int64_t col = columns.first; col < columns.first + columns.count; ++col) {
      const float g = rounded_product(rule.gradient_scale, to_float(values[col]));
      squares.open[col] = added_square(squares.open[col], g);
    }
    if ((row + 1) % kColumnTileRows != 0 && row + 1 != squares.rows) continue;
    for (std::int64_t col = columns.first; col < columns.first + columns.count; ++col) {
      squares.total[col] = rounded_sum(squares.total[col], squares.open[col]);
      squares.open[col] = 0.0F;
    }
  }
}

template <class T>
void dense(const AdamRule& rule, const AdamDense& weight, const T* gradient) {
  const DenseFactors factors = dense_factors(rule);
  for (std::int64_t i = 0; i < weight.count; ++i) {
    dense_step(rule, factors, to_float(gradient[i]), weight.values[i], weight.m[i], weight.v[i]);
  }
}

}  // namespace

void start_anywhere(AdamProfile profile, const StartDraws& draws, const AdamWeight& weight,
                    RowRange rows) {
  if (profile == AdamProfile::kMin) return;
  AdamRule rule{};
  rule.seed = draws.seed;
  rule.tensor = draws.tensor;
  const std::int64_t end = (rows.first + rows.count) * weight.cols;
  for (std::int64_t element = rows.first * weight.cols; element < end; element += 4) {
    const PhiloxWords words = philox(quad_counter(rule, element / 4), draws.seed);
    const std::uint32_t each[4] = {words.a, words.b, words.c, words.d};
    for (int i = 0; i < 4; ++i) {
      const float share = static_cast<float>(each[i] >> 16U) * 0x1p-16F;
      place_at_share(profile, weight, element + i, share);
    }
  }
}

void start_at_values(AdamProfile profile, const AdamWeight& weight,
                     const GradientRows<float>& values) {
  if (profile == AdamProfile::kMin) return;
  const std::int64_t first = values.rows.first * weight.cols;
  for (std::int64_t i = 0; i < values.rows.count * weight.cols; ++i) {
    const std::uint8_t scale = weight.scales_e4m3[(first + i) / kNvfp4Block];
    const float inverse = inverse_scale(scale, weight.global_scale);
    place_at_value(profile, weight, first + i, values.values[i] * inverse);
  }
}

void add_column_squares(const AdamRule& rule, const ColumnSquares& squares,
                        const GradientRows<float>& gradient, ColumnRange columns) {
  column_squares(rule, squares, gradient, columns);
}
void add_column_squares(const AdamRule& rule, const ColumnSquares& squares,
                        const GradientRows<std::uint16_t>& gradient, ColumnRange columns) {
  column_squares(rule, squares, gradient, columns);
}

void finish_column_squares(const AdamRule& rule, const ColumnSquares& squares, float* mean,
                           float* ratio) {
  float lanes[kSumLanes] = {};
  for (std::int64_t col = 0; col < squares.cols; ++col) {
    mean[col] = next_mean(rule, mean[col], squares.total[col], squares.rows);
    lanes[col % kSumLanes] = rounded_sum(lanes[col % kSumLanes], mean[col]);
    squares.total[col] = 0.0F;
    squares.open[col] = 0.0F;
  }
  const float sum = sum_of_lanes(lanes);
  for (std::int64_t col = 0; col < squares.cols; ++col) {
    ratio[col] = column_ratio(mean[col], sum, squares.cols);
  }
}

void adam_dense_step(const AdamRule& rule, const AdamDense& weight, const float* gradient) {
  dense(rule, weight, gradient);
}
void adam_dense_step(const AdamRule& rule, const AdamDense& weight, const std::uint16_t* gradient) {
  dense(rule, weight, gradient);
}

}  // namespace qf
