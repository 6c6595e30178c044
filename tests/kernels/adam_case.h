#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "qwen3fp4/kernels/cpu/adam_step.h"

namespace qf {

inline constexpr AdamProfile kAdamProfiles[] = {AdamProfile::kFp32, AdamProfile::kExact,
                                                AdamProfile::kDefault, AdamProfile::kMin};
// Widths with a short last group, one group, and less than one.
inline constexpr float kAdamTestScale = 0.0123F;
inline constexpr std::int64_t kAdamWidths[] = {16, 48, 128, 144, 576};

// A weight with all its states, of random contents, and a gradient.
struct AdamCase {
  AdamProfile profile;
  std::int64_t rows, cols;
  std::vector<std::uint8_t> codes, scales, residual, residual_high, m_codes, v_codes;
  std::vector<float> position, m, m_scales, v, v_scales, v_rows, v_columns;
  std::vector<float> column_total, column_open, column_means;
  std::vector<float> gradient;

  AdamWeight view() {
    AdamWeight w{codes.data(), scales.data(), kAdamTestScale, rows, cols};
    const auto set = [](auto*& to, auto& from) { to = from.empty() ? nullptr : from.data(); };
    set(w.position, position);
    set(w.residual, residual);
    set(w.residual_high, residual_high);
    set(w.m, m);
    set(w.m_codes, m_codes);
    set(w.m_scales, m_scales);
    set(w.v, v);
    set(w.v_codes, v_codes);
    set(w.v_scales, v_scales);
    set(w.v_rows, v_rows);
    w.v_columns = v_columns.data();
    return w;
  }
  ColumnSquares squares() { return {column_total.data(), column_open.data(), rows, cols}; }
  GradientRows<float> rows_of_gradient(std::int64_t first, std::int64_t count) const {
    return {gradient.data() + first * cols, {first, count}};
  }
};

inline bool same_states(const AdamCase& a, const AdamCase& b) {
  return a.codes == b.codes && a.residual == b.residual && a.residual_high == b.residual_high &&
         a.m_codes == b.m_codes && a.v_codes == b.v_codes && a.position == b.position &&
         a.m == b.m && a.m_scales == b.m_scales && a.v == b.v && a.v_scales == b.v_scales &&
         a.v_rows == b.v_rows && a.v_columns == b.v_columns && a.column_total == b.column_total &&
         a.column_open == b.column_open && a.column_means == b.column_means;
}

inline AdamRule adam_test_rule(std::uint32_t step) {
  return {0.5F,
          0.9F,
          1 - 0.9F,
          0.99F,
          1 - 0.99F,
          1e-4F / (1 - std::pow(0.9F, static_cast<float>(step))),
          1 / std::sqrt(1 - std::pow(0.99F, static_cast<float>(step))),
          1e-8F,
          1e-3F,
          {0x12345678U, 0x9ABCDEF0U},
          7,
          step};
}

// Steps of a group's m and v are about 1e-3; gradients too, some of them 0.
inline AdamCase random_adam_case(std::mt19937& random, AdamProfile profile, std::int64_t rows,
                                 std::int64_t cols) {
  const auto count = static_cast<std::size_t>(rows * cols);
  const auto groups = static_cast<std::size_t>(rows * moment_groups(cols));
  const auto bytes = [&](std::size_t n) {
    std::vector<std::uint8_t> out(n);
    for (auto& byte : out) byte = static_cast<std::uint8_t>(random());
    return out;
  };
  const auto floats = [&](std::size_t n, float least, float most) {
    std::uniform_real_distribution<float> uniform(least, most);
    std::vector<float> out(n);
    for (auto& value : out) value = uniform(random);
    return out;
  };
  const bool eight = profile == AdamProfile::kExact;
  AdamCase c{profile,
             rows,
             cols,
             bytes(count / 2),
             bytes(count / 16),
             {},
             {},
             {},
             {},
             {},
             {},
             {},
             {},
             {},
             {},
             {},
             {},
             {},
             {},
             {}};
  // Of all sizes, with zeros; not NaN.
  for (auto& scale : c.scales) {
    scale = static_cast<std::uint8_t>(random() % 16 == 0 ? 0 : (scale & 0x7F) % 0x7F);
  }
  if (profile == AdamProfile::kFp32) {
    c.position = floats(count, -7.5F, 7.5F);
    c.m = floats(count, -1e-3F, 1e-3F);
    c.v = floats(count, 0, 1e-6F);
  } else {
    c.m_codes = bytes(eight ? count : count / 2);
    // -128 is no code.
    for (auto& code : c.m_codes) code = eight && code == 0x80 ? 0 : code;
    // With the powers of v's codes, m is about as large as sqrt(v).
    const float range = eight                              ? kInt8Max * kGeometricRange<8>
                        : profile == AdamProfile::kDefault ? kE2M1Max * kGeometricRange<4>
                                                           : kE2M1Max;
    c.m_scales = floats(groups, 0, 1e-3F / range);
  }
  if (profile == AdamProfile::kDefault || eight) {
    c.residual = bytes(count);
    c.v_codes = bytes(eight ? count : count / 2);
    c.v_scales = floats(groups, 0, 1e-3F);
  }
  if (eight) c.residual_high = bytes(count / 2);
  if (profile == AdamProfile::kMin) {
    c.v_rows = floats(static_cast<std::size_t>(rows), 0, 1e-6F);
    c.v_columns = floats(static_cast<std::size_t>(cols), 0, 2);
    c.column_total = std::vector<float>(static_cast<std::size_t>(cols));
    c.column_open = c.column_total;
    c.column_means = floats(static_cast<std::size_t>(cols), 0, 1e-6F);
  }
  std::normal_distribution<float> normal(0, 1e-3F);
  for (std::size_t i = 0; i < count; ++i) {
    // bf16 numbers, so that both types of gradients can be the same, of sizes so different that
    // sums round; zeros, and a row of them.
    const bool zero = random() % 8 == 0 || i / static_cast<std::size_t>(cols) == 1;
    const float value = std::ldexp(normal(random), -static_cast<int>(random() % 12));
    c.gradient.push_back(zero ? 0 : float_from_bits(float_bits(value) & 0xFFFF0000U));
  }
  return c;
}

inline std::vector<std::uint16_t> bf16_bits(const std::vector<float>& values) {
  std::vector<std::uint16_t> out;
  for (const float value : values) {
    out.push_back(static_cast<std::uint16_t>(float_bits(value) >> 16U));
  }
  return out;
}

}  // namespace qf
