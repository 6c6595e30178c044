// The packed optimiser's arithmetic and its CPU kernels.
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "adam_case.h"
#include "isas.h"

namespace qf {
namespace {

constexpr double kEps = std::numeric_limits<float>::epsilon();

TEST(Philox, GivesTheAuthorsKnownAnswers) {
  // Random123's kat_vectors: philox4x32 7.
  const auto expect = [](PhiloxWords counter, PhiloxKey key, PhiloxWords answer) {
    const PhiloxWords got = philox(counter, key);
    EXPECT_TRUE(got.a == answer.a && got.b == answer.b && got.c == answer.c && got.d == answer.d)
        << std::hex << got.a << " " << got.b << " " << got.c << " " << got.d;
  };
  expect({0, 0, 0, 0}, {0, 0}, {0x5f6fb709, 0x0d893f64, 0x4f121f81, 0x4f730a48});
  expect({~0U, ~0U, ~0U, ~0U}, {~0U, ~0U}, {0x5207ddc2, 0x45165e59, 0x4d8ee751, 0x8c52f662});
  expect({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0},
         {0x4dfccaba, 0x190a87f0, 0xc47362ba, 0xb6b5242a});
}

// What a stored position rounds to again is itself, whatever is drawn: a step of 0 changes nothing.
template <std::int32_t kLevels>
void expect_positions_stay() {
  for (std::int32_t code = 0; code < 16; ++code) {
    float last = -1;
    for (std::int32_t residual = 0; residual < kLevels; ++residual) {
      const float y = position_value<kLevels>({code, residual});
      ASSERT_GT(magnitude(y), last);
      last = magnitude(y);
      constexpr float kHalf = 0.5F / (1 << kPositionDrawBits<kLevels>);
      for (const float share : {1.0F + kHalf, 1.5F, 2.0F - kHalf}) {
        const Position again = round_position<kLevels>(y, share);
        ASSERT_EQ(again.code, code) << y;
        ASSERT_EQ(again.residual, residual) << y;
      }
    }
  }
}
TEST(AdamPosition, StaysWhereItIsWithoutAStep) {
  expect_positions_stay<256>();
  expect_positions_stay<4096>();
}

TEST(AdamPosition, CrossesEdgesAndZero) {
  constexpr float kDown = 1.0F + 0x1p-15F;
  constexpr float kUp = 2.0F - 0x1p-15F;
  const auto expect = [](float y, float share, std::int32_t code, std::int32_t residual) {
    const Position p = round_position<256>(y, share);
    EXPECT_EQ(p.code, code) << y;
    EXPECT_EQ(p.residual, residual) << y;
  };
  expect(0.25F, kUp, 1, 0);    // an edge is the upper cell's
  expect(0.2499F, kUp, 1, 0);  // residual 256 is the next cell's 0
  expect(0.2499F, kDown, 0, 255);
  expect(-0.1250F, kUp, 8, 128);  // the cell of -0
  expect(-0.0F, kUp, 8, 0);
  expect(0.0F, kUp, 0, 0);
  // The outermost cell has no next one.
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float y : {6.9999F, 7.0F, 100.0F, infinity}) {
    expect(y, kUp, 7, 255);
    expect(-y, kUp, 15, 255);
  }
  EXPECT_EQ(round_position<256>(std::nanf(""), kUp).residual, 255);
}

// ---- Whole steps against their definition, in double ----

std::int32_t code_at(const std::vector<std::uint8_t>& codes, std::int64_t i) {
  return static_cast<std::int32_t>(
      nibble(codes[static_cast<std::size_t>(i / 2)], static_cast<unsigned>(i % 2)));
}
float position_at(const AdamCase& c, std::int64_t i) {
  const auto at = static_cast<std::size_t>(i);
  const std::int32_t code = code_at(c.codes, i);
  switch (c.profile) {
    case AdamProfile::kFp32:
      return c.position[at];
    case AdamProfile::kExact:
      return position_value<4096>({code, c.residual[at] + 256 * code_at(c.residual_high, i)});
    case AdamProfile::kDefault:
      return position_value<256>({code, c.residual[at]});
    case AdamProfile::kMin:
      return e2m1_value(code);
  }
  return 0;
}

// ratio^code of an element's v, which its m is a multiple of; 1 in profiles that have no such
// codes.
double second_power(const AdamCase& c, std::int64_t i) {
  if (c.profile == AdamProfile::kExact) {
    return std::pow(2, c.v_codes[static_cast<std::size_t>(i)] / 16.0);
  }
  return c.profile == AdamProfile::kDefault ? std::pow(1.5, code_at(c.v_codes, i)) : 1;
}

struct Expected {
  double y, y_error;  // position after the step
  double m, m_error;
  double v;
};

Expected defined_step(const AdamCase& c, const AdamRule& r, std::int64_t i) {
  const auto at = static_cast<std::size_t>(i);
  const auto group =
      static_cast<std::size_t>(i / c.cols * moment_groups(c.cols) + i % c.cols / kMomentGroup);
  const double y = position_at(c, i);
  double m = 0, v = 0;
  if (c.profile == AdamProfile::kFp32) {
    m = c.m[at];
    v = c.v[at];
  } else if (c.profile == AdamProfile::kExact) {
    m = static_cast<double>(static_cast<std::int8_t>(c.m_codes[at])) * c.m_scales[group] *
        second_power(c, i);
    v = std::pow(c.v_scales[group] * std::pow(2, (c.v_codes[at] - 255) / 16.0), 2);
  } else {
    m = double{e2m1_value(code_at(c.m_codes, i))} * c.m_scales[group] * second_power(c, i);
    v = c.profile == AdamProfile::kMin
            ? double{c.v_rows[at / static_cast<std::size_t>(c.cols)]} *
                  c.v_columns[at % static_cast<std::size_t>(c.cols)]
            : std::pow(c.v_scales[group] * std::pow(1.5, code_at(c.v_codes, i) - 15), 2);
  }
  const double g = double{r.gradient_scale} * c.gradient[at];
  const double m_size = std::abs(r.beta1 * m) + std::abs(r.rest1 * g);
  Expected e{};
  e.m = r.beta1 * m + r.rest1 * g;
  e.m_error = 3 * kEps * m_size;  // two products and a sum
  e.v = r.beta2 * v + r.rest2 * g * g;
  const double scale = double{e4m3_to_float(c.scales[at / 16])} * kAdamTestScale;
  const double per_m =
      scale == 0 ? 0 : r.step_size / (std::sqrt(e.v) * r.root_correction + r.epsilon) / scale;
  e.y = y - r.decay * y - per_m * e.m;
  // v is within 2e-5 (its table's powers, multiplied up, are each off by 2^-24), its root by half
  // of that; a dozen roundings of what is added.
  e.y_error = 2 * kEps * std::abs(y) + per_m * (e.m_error + (1e-5 + 12 * kEps) * std::abs(e.m));
  return e;
}

double gap_of_e2m1(double x) { return x < 2 ? 0.5 : (x < 4 ? 1 : 2); }

void expect_position(const AdamCase& c, const Expected& e, std::int64_t i) {
  const float y = position_at(c, i);
  const std::int32_t code = code_at(c.codes, i);
  if (c.profile != AdamProfile::kMin) {
    ASSERT_EQ(code, cell_code(magnitude(y)) | sign_code(y));
  }
  // Of the two cells at an edge the wider one bounds the gap, and widths grow by at most a factor
  // of 2 from one to the next.
  const double width = 2 * cell_width(code & 7);
  if (c.profile == AdamProfile::kFp32) {
    ASSERT_NEAR(y, e.y, e.y_error);
  } else if (c.profile == AdamProfile::kMin) {
    ASSERT_NEAR(y, std::clamp(e.y, -6.0, 6.0),
                gap_of_e2m1(std::min(std::abs(e.y), 5.9)) + e.y_error);
  } else {
    const double levels = c.profile == AdamProfile::kExact ? 4096 : 256;
    const double last = 7 - 2 / levels;
    ASSERT_NEAR(y, std::clamp(e.y, -last, last), width / levels + e.y_error);
  }
}

void expect_moments(const AdamCase& c, const std::vector<Expected>& all, std::int64_t first,
                    std::int64_t count) {
  double most_m = 0, most_v = 0, m_error = 0;
  for (std::int64_t i = first; i < first + count; ++i) {
    const Expected& e = all[static_cast<std::size_t>(i)];
    most_m = std::max(most_m, std::abs(e.m) / second_power(c, i));
    m_error = std::max(m_error, e.m_error / second_power(c, i));
    most_v = std::max(most_v, all[static_cast<std::size_t>(i)].v);
  }
  const auto group = static_cast<std::size_t>(first / c.cols * moment_groups(c.cols) +
                                              first % c.cols / kMomentGroup);
  const bool eight = c.profile == AdamProfile::kExact;
  for (std::int64_t i = first; i < first + count; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const Expected& e = all[at];
    if (c.profile == AdamProfile::kFp32) {
      ASSERT_NEAR(c.m[at], e.m, e.m_error);
      ASSERT_NEAR(c.v[at], e.v, 4 * kEps * e.v);
      continue;
    }
    // The powers are products of up to eight rounded factors, each off by 2^-24.
    constexpr double kOfPowers = 1e-6;
    const double group_scale = c.m_scales[group];
    ASSERT_NEAR(group_scale, most_m / (eight ? 127 : 6), kOfPowers * most_m + m_error);
    const double scale = group_scale * second_power(c, i);
    const double gap = eight ? 1 : gap_of_e2m1(scale > 0 ? std::abs(e.m) / scale : 0);
    const double m = eight ? static_cast<double>(static_cast<std::int8_t>(c.m_codes[at]))
                           : double{e2m1_value(code_at(c.m_codes, i))};
    ASSERT_NEAR(m * scale, e.m, gap * scale * (1 + 1e-5) + kOfPowers * std::abs(e.m) + e.m_error);
    if (c.profile == AdamProfile::kMin) continue;
    ASSERT_NEAR(c.v_scales[group], std::sqrt(most_v), 1e-4 * std::sqrt(most_v));
    if (most_v == 0) continue;
    // At most a ratio off, but not below the first code.
    const double ratio = eight ? std::pow(2, 1.0 / 16) : 1.5;
    const int below = eight ? 255 - c.v_codes[at] : 15 - code_at(c.v_codes, i);
    const double root = c.v_scales[group] * std::pow(ratio, -below);
    const double least = std::sqrt(most_v) * std::pow(ratio, eight ? -255 : -15);
    ASSERT_GT(root, 0);
    ASSERT_LT(root, std::max(std::sqrt(e.v) * ratio, least) * (1 + 1e-4));
    ASSERT_GT(root, std::sqrt(e.v) / ratio * (1 - 1e-4));
  }
}

TEST(AdamStep, EqualsItsDefinition) {
  std::mt19937 random(1);
  for (const AdamProfile profile : kAdamProfiles) {
    for (const std::int64_t cols : kAdamWidths) {
      SCOPED_TRACE(testing::Message()
                   << "profile " << static_cast<int>(profile) << ", " << cols << " columns");
      AdamCase c = random_adam_case(random, profile, 5, cols);
      const AdamRule rule = adam_test_rule(3);
      std::vector<Expected> all;
      for (std::int64_t i = 0; i < 5 * cols; ++i) all.push_back(defined_step(c, rule, i));
      adam_step(profile, rule, c.view(), c.rows_of_gradient(0, 5));
      for (std::int64_t i = 0; i < 5 * cols; ++i) {
        ASSERT_NO_FATAL_FAILURE(expect_position(c, all[static_cast<std::size_t>(i)], i)) << i;
      }
      for (std::int64_t row = 0; row < 5; ++row) {
        for (std::int64_t col = 0; col < cols; col += kMomentGroup) {
          ASSERT_NO_FATAL_FAILURE(
              expect_moments(c, all, row * cols + col, std::min(kMomentGroup, cols - col)));
        }
      }
    }
  }
}

TEST(AdamStep, IsTheSameForEveryIsaCutAndTypeOfGradient) {
  std::mt19937 random(2);
  for (const AdamProfile profile : kAdamProfiles) {
    for (const std::int64_t cols : kAdamWidths) {
      const AdamCase start = random_adam_case(random, profile, 7, cols);
      const AdamRule rule = adam_test_rule(2);
      AdamCase whole = start;
      adam_step(profile, rule, whole.view(), whole.rows_of_gradient(0, 7), nullptr,
                CpuIsa::kPortable);
      EXPECT_FALSE(same_states(whole, start));
      for (const CpuIsa isa : supported_isas()) {
        AdamCase cut = start;
        for (const auto& [first, count] : {std::pair{0, 3}, {3, 1}, {4, 3}}) {
          adam_step(profile, rule, cut.view(), cut.rows_of_gradient(first, count), nullptr, isa);
        }
        EXPECT_TRUE(same_states(whole, cut)) << cpu_isa_name(isa) << ", " << cols;
        AdamCase halves = start;
        const auto bits = bf16_bits(halves.gradient);
        adam_step(profile, rule, halves.view(), {bits.data(), {0, 7}}, nullptr, isa);
        EXPECT_TRUE(same_states(whole, halves)) << cpu_isa_name(isa) << ", " << cols;
      }
      // Another step draws other numbers (fp32 draws none), with the same arithmetic.
      AdamCase other = start;
      AdamRule drawn = rule;
      drawn.step = 9;
      adam_step(profile, drawn, other.view(), other.rows_of_gradient(0, 7));
      EXPECT_EQ(same_states(whole, other), profile == AdamProfile::kFp32);
    }
  }
}

TEST(AdamStep, TellsTheSquaresOfEachGroup) {
  std::mt19937 random(12);
  for (const AdamProfile profile : kAdamProfiles) {
    for (const std::int64_t cols : kAdamWidths) {
      constexpr std::int64_t kRows = 3;
      const std::int64_t groups = moment_groups(cols);
      AdamCase c = random_adam_case(random, profile, kRows, cols);
      const AdamCase start = c;
      std::vector<float> squares(static_cast<std::size_t>(kRows * groups), -1);
      adam_step(profile, adam_test_rule(1), c.view(), c.rows_of_gradient(0, kRows), squares.data());
      for (std::int64_t group = 0; group < kRows * groups; ++group) {
        const std::int64_t col = group % groups * kMomentGroup;
        const std::int64_t end = std::min(col + kMomentGroup, cols);
        double expected = 0;
        for (std::int64_t i = col; i < end; ++i) {
          const double g = start.gradient[static_cast<std::size_t>(group / groups * cols + i)];
          expected += g * g;
        }
        // A square is rounded, and passes through eight additions in its lane and four of lanes.
        EXPECT_NEAR(squares[static_cast<std::size_t>(group)], expected, 13 * kEps * expected);
      }
      const auto bits = bf16_bits(start.gradient);
      for (const CpuIsa isa : supported_isas()) {
        AdamCase again = start;
        std::vector<float> of_isa(squares.size(), -1);
        adam_step(profile, adam_test_rule(1), again.view(), {bits.data(), {0, kRows}},
                  of_isa.data(), isa);
        EXPECT_EQ(of_isa, squares) << cpu_isa_name(isa) << ", " << cols;
        EXPECT_TRUE(same_states(again, c));
      }
    }
  }
}

// The same numbers on every device and after every resumption: by element, tensor, step and seed.
TEST(AdamStep, DrawsByElementTensorStepAndSeed) {
  std::mt19937 random(7);
  constexpr std::int64_t kCols = 144;
  const AdamCase before = random_adam_case(random, AdamProfile::kMin, 5, kCols);
  AdamCase c = before;
  const AdamRule rule = adam_test_rule(2);
  adam_step(AdamProfile::kMin, rule, c.view(), c.rows_of_gradient(0, 5));
  for (std::int64_t i = 0; i < 5 * kCols; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const std::int64_t group = i / kCols * 2 + i % kCols / kMomentGroup;
    const float g = before.gradient[at];
    const float kept_m = kept_first_scale(rule, before.m_scales[static_cast<std::size_t>(group)]);
    const float m = next_first_moment(
        rounded_product(e2m1_value(code_at(before.m_codes, i)), kept_m), first_share(rule), g);
    const float kept_v = rounded_product(rule.beta2, before.v_rows[at / kCols]);
    const float v = next_second_moment(rounded_product(kept_v, before.v_columns[at % kCols]),
                                       second_share(rule), g);
    const float rate =
        rounded_product(step_rate(rule), inverse_scale(before.scales[at / 16], kAdamTestScale));
    const float direction = adam_direction(m, root_of_second(v), least_root(rule));
    const float y = moved_position(rule, e2m1_value(code_at(before.codes, i)), direction, rate);
    const auto counter = static_cast<std::uint32_t>(i / 4);
    const PhiloxWords words = philox({counter, 0, 7, 2}, {0x12345678U, 0x9ABCDEF0U});
    const std::uint32_t each[4] = {words.a, words.b, words.c, words.d};
    ASSERT_EQ(code_at(c.codes, i), draw_e2m1(y, first_draw(each[(i + 2) % 4]))) << i;
  }
}

TEST(AdamStep, LeavesBlocksOfScaleZeroWhereTheyAre) {
  std::mt19937 random(3);
  for (const AdamProfile profile : kAdamProfiles) {
    AdamCase c = random_adam_case(random, profile, 4, 48);
    std::fill(c.scales.begin(), c.scales.end(), std::uint8_t{0});
    AdamRule rule = adam_test_rule(1);
    rule.decay = 0;
    const AdamCase before = c;
    adam_step(profile, rule, c.view(), c.rows_of_gradient(0, 4));
    for (std::int64_t i = 0; i < 4 * 48; ++i) EXPECT_EQ(position_at(c, i), position_at(before, i));
  }
}

TEST(AdamStep, SumsOfColumnsDoNotDependOnCuts) {
  std::mt19937 random(4);
  constexpr std::int64_t kRows = 150, kCols = 48;  // two tiles and a part of one
  AdamCase start = random_adam_case(random, AdamProfile::kMin, kRows, kCols);
  // So that the last bits of the sums are not lost in larger numbers.
  for (float& mean : start.column_means) mean *= 0x1p-20F;
  const AdamRule rule = adam_test_rule(1);
  const auto run = [&](std::int64_t chunk) {
    AdamCase c = start;
    for (std::int64_t first = 0; first < kRows; first += chunk) {
      const auto rows = c.rows_of_gradient(first, std::min(chunk, kRows - first));
      add_column_squares(rule, c.squares(), rows, {0, 20});
      add_column_squares(rule, c.squares(), rows, {20, kCols - 20});
    }
    finish_column_squares(rule, c.squares(), c.column_means.data(), c.v_columns.data());
    return c;
  };
  const AdamCase whole = run(kRows);
  for (const std::int64_t chunk : {1, 63, 64, 65}) EXPECT_TRUE(same_states(whole, run(chunk)));
  std::vector<double> means;
  double all = 0;
  for (std::int64_t col = 0; col < kCols; ++col) {
    double sum = 0;
    for (std::int64_t row = 0; row < kRows; ++row) {
      sum += std::pow(
          double{rule.gradient_scale} * start.gradient[static_cast<std::size_t>(row * kCols + col)],
          2);
    }
    means.push_back(rule.beta2 * double{start.column_means[static_cast<std::size_t>(col)]} +
                    rule.rest2 * sum / kRows);
    all += means.back() / kCols;
  }
  // A sum of n squares, in any order, errs by at most n eps of itself.
  const double bound = (kRows + 8) * kEps;
  for (std::size_t col = 0; col < kCols; ++col) {
    EXPECT_NEAR(whole.column_means[col], means[col], bound * means[col]);
    EXPECT_NEAR(whole.v_columns[col], means[col] / all,
                (2 * bound + kCols * kEps) * means[col] / all);
    EXPECT_EQ(whole.column_total[col], 0);
  }
}

TEST(AdamStep, MovesRowMeansOfSquares) {
  std::mt19937 random(8);
  AdamCase c = random_adam_case(random, AdamProfile::kMin, 3, 576);
  const auto before = c.v_rows;
  const AdamRule rule = adam_test_rule(1);
  adam_step(AdamProfile::kMin, rule, c.view(), c.rows_of_gradient(0, 3));
  for (std::size_t row = 0; row < 3; ++row) {
    double sum = 0;
    for (std::size_t col = 0; col < 576; ++col)
      sum += std::pow(0.5 * c.gradient[row * 576 + col], 2);
    const double expected = rule.beta2 * double{before[row]} + rule.rest2 * sum / 576;
    EXPECT_NEAR(c.v_rows[row], expected, 584 * kEps * expected);
  }
}

TEST(AdamStep, StartsInsideTheCellsOfTheCodes) {
  std::mt19937 random(9);
  for (const AdamProfile profile :
       {AdamProfile::kFp32, AdamProfile::kExact, AdamProfile::kDefault}) {
    AdamCase c = random_adam_case(random, profile, 16, 256);
    std::fill(c.scales.begin(), c.scales.end(), std::uint8_t{0x38});
    const auto codes = c.codes;
    start_anywhere(profile, {{1, 2}, 3}, c.view(), {0, 16});
    double share = 0;
    for (std::int64_t i = 0; i < 16 * 256; ++i) {
      const float y = position_at(c, i);
      const std::int32_t code = code_at(codes, i);
      ASSERT_EQ(cell_code(magnitude(y)) | sign_code(y), code);
      share += (magnitude(y) - cell_low(code & 7)) / cell_width(code & 7) / (16 * 256);
    }
    // 4096 even draws: standard deviation 0.0045; half a step of 2^-8 less on average.
    EXPECT_NEAR(share, 0.5 - 0x1p-9, 0.02);
    EXPECT_EQ(c.codes, codes);
    // Values inside their cells are met to half a step, the others become the cells' ends.
    std::uniform_real_distribution<float> near(-0.6F, 0.6F);
    std::vector<float> values;
    for (std::int64_t i = 0; i < 16 * 256; ++i) {
      values.push_back((e2m1_value(code_at(codes, i)) + near(random)) * kAdamTestScale);
    }
    start_at_values(profile, c.view(), {values.data(), {0, 16}});
    for (std::int64_t i = 0; i < 16 * 256; ++i) {
      const float y = position_at(c, i);
      const float value = values[static_cast<std::size_t>(i)];
      // A zero has the sign of its value.
      const std::int32_t code = code_at(codes, i);
      const std::int32_t expected = (code & 7) == 0 ? sign_code(value) : code;
      ASSERT_EQ(code_at(c.codes, i), expected);
      ASSERT_EQ(cell_code(magnitude(y)) | sign_code(y), expected);
      const double low = cell_low(code & 7);
      const double width = cell_width(code & 7);
      const double along = (expected & 8) != 0 ? -value / kAdamTestScale : value / kAdamTestScale;
      ASSERT_NEAR(magnitude(y), std::clamp(along, low, low + width),
                  profile == AdamProfile::kFp32 ? 1e-5 : width / 256);
    }
  }
}

// How far positions go in 400 steps against gradients that are mostly noise, and hardly any. With
// the mean of sqrt(v) kept, it would be 6.5 and 1.8 % farther than with v in f32.
TEST(AdamStep, StepsOfPackedMomentsAreAsLongAsAdams) {
  constexpr std::int64_t kRows = 64, kCols = 128;
  for (const auto& [drift, bound] : {std::pair{0.1F, 0.015}, {10.0F, 0.01}}) {
    const auto distance = [&, drift = drift](AdamProfile profile) {
      std::mt19937 random(11);
      AdamCase c = random_adam_case(random, profile, kRows, kCols);
      random.seed(12);  // the same gradients for every profile
      std::fill(c.codes.begin(), c.codes.end(), std::uint8_t{0});
      std::fill(c.scales.begin(), c.scales.end(), std::uint8_t{0x38});
      for (auto* floats : {&c.position, &c.m, &c.v, &c.m_scales, &c.v_scales}) {
        std::fill(floats->begin(), floats->end(), 0.0F);
      }
      std::fill(c.residual.begin(), c.residual.end(), std::uint8_t{0});
      std::fill(c.residual_high.begin(), c.residual_high.end(), std::uint8_t{0});
      std::normal_distribution<float> normal;
      std::vector<float> size;
      for (std::int64_t i = 0; i < kRows * kCols; ++i) size.push_back(std::exp(normal(random)));
      for (std::uint32_t number = 1; number <= 400; ++number) {
        for (std::size_t i = 0; i < size.size(); ++i) {
          c.gradient[i] = size[i] * (normal(random) + drift) * 1e-3F;
        }
        AdamRule rule = adam_test_rule(number);
        rule.decay = 0;
        adam_step(profile, rule, c.view(), c.rows_of_gradient(0, kRows));
      }
      double sum = 0;
      for (std::int64_t i = 0; i < kRows * kCols; ++i) sum += position_at(c, i);
      return sum;
    };
    const double exact = distance(AdamProfile::kFp32);
    EXPECT_NEAR(distance(AdamProfile::kDefault) / exact, 1, bound) << drift;
    EXPECT_NEAR(distance(AdamProfile::kExact) / exact, 1, bound) << drift;
  }
}

TEST(AdamStep, OfADenseWeightEqualsItsDefinition) {
  std::vector<float> w{0.5F, -1, 2}, m{0.1F, 0, -0.2F}, v{0.01F, 0, 0.3F};
  const std::vector<float> g{0.5F, 0, -2}, w0 = w, m0 = m, v0 = v;
  const AdamRule r = adam_test_rule(4);
  adam_dense_step(r, {w.data(), m.data(), v.data(), 3}, g.data());
  for (std::size_t i = 0; i < 3; ++i) {
    const double mi = r.beta1 * double{m0[i]} + r.rest1 * 0.5 * g[i];
    const double vi = r.beta2 * double{v0[i]} + r.rest2 * 0.25 * g[i] * g[i];
    const double change = r.step_size * mi / (std::sqrt(vi) * r.root_correction + r.epsilon);
    EXPECT_NEAR(m[i], mi, 4 * kEps);
    EXPECT_NEAR(v[i], vi, 4 * kEps);
    EXPECT_NEAR(w[i], w0[i] * (1 - double{r.decay}) - change, 4 * kEps * 2);
  }
}

}  // namespace
}  // namespace qf
