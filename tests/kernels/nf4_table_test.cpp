#include "qwen3fp4/kernels/nf4_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "qwen3fp4/kernels/fp4.h"
#include "qwen3fp4/kernels/int8_digits.h"

namespace qf {
namespace {

std::array<float, 16> papers_book() {
  std::array<float, 16> book{};
  for (unsigned i = 0; i < 16; ++i) book[i] = nf4_to_float(i);
  return book;
}

double largest_of(const std::array<float, 16>& book) {
  double largest = 0;
  for (const float level : book) largest = std::max(largest, std::abs(double{level}));
  return largest;
}

// CUDA's byte permutation, for four codes from the lowest nibble on.
std::uint32_t prmt(const std::uint32_t (&words)[2], std::uint32_t codes) {
  std::uint32_t out = 0;
  for (unsigned k = 0; k < 4; ++k) {
    const std::uint32_t code = codes >> (4 * k) & 0xFU;
    const std::uint32_t byte = words[code % 8 / 4] >> (8 * (code % 4)) & 0xFFU;
    const std::uint32_t sign = byte >= 128 ? 0xFFU : 0;
    out |= (code < 8 ? byte : sign) << (8 * k);
  }
  return out;
}

struct Bytes {
  std::uint32_t coarse, fine;
};
Bytes look_up(const Nf4Table& table, std::uint32_t codes) {
  return {prmt(table.lower, codes) ^ prmt(table.upper, ~codes), prmt(table.fine, codes)};
}

double level_of(const Nf4Table& table, std::uint32_t code) {
  const Bytes bytes = look_up(table, code);
  return double{table.factor} *
         (int8_digit(bytes.coarse, 0) + double{table.fine_step} * int8_digit(bytes.fine, 0));
}

void expect_levels(const std::array<float, 16>& book, double bound) {
  Nf4Table table{};
  ASSERT_TRUE(make_nf4_table(book, table));
  EXPECT_LT(table.fine_step, 2);
  EXPECT_GT(table.fine_step, 0);
  const auto levels = levels_by_code(book, table);
  unsigned codes = 0;
  for (unsigned l = 0; l < 16; ++l) {
    const std::uint32_t code = nf4_code_of(table.code_of, l);
    codes |= 1U << code;
    EXPECT_EQ(levels[code], book[l]);
    const double level = level_of(table, code);
    EXPECT_LE(std::abs(level - book[l]), bound * largest_of(book)) << l;
    if (book[l] == 0) {
      EXPECT_EQ(level, 0) << l;
    }
  }
  EXPECT_EQ(codes, 0xFFFFU);
}

TEST(Nf4Table, HoldsThePapersLevels) {
  expect_levels(papers_book(), 0x1p-13 * std::exp2(-0.3));
  // What the decode kernel's test derives its bound from.
  double errors = 0, levels = 0;
  for (unsigned l = 0; l < 16; ++l) {
    const double level = nf4_to_float(l);
    const double error =
        level_of(papers_nf4_table(), nf4_code_of(papers_nf4_table().code_of, l)) - level;
    errors += error * error;
    levels += level * level;
  }
  EXPECT_LE(std::sqrt(errors / levels), 0x1p-13);
}

TEST(Nf4Table, HoldsThemAtAnySize) {
  for (const float size : {1e-20F, 0.3F, 7.0F, 1e20F}) {
    auto book = papers_book();
    for (float& level : book) level *= size;
    SCOPED_TRACE(size);
    expect_levels(book, kNf4TableError);
  }
}

TEST(Nf4Table, HoldsOtherBooks) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal;
  for (int i = 0; i < 6; ++i) {
    std::array<float, 16> book{};
    for (float& level : book) level = normal(random);
    if (i % 2 == 0) book[static_cast<std::size_t>(3 * i)] = 0;
    SCOPED_TRACE(i);
    expect_levels(book, kNf4TableError);
  }
}

TEST(Nf4Table, RefusesWhatItCannotHold) {
  Nf4Table table{};
  EXPECT_FALSE(make_nf4_table({}, table));
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    auto book = papers_book();
    book[3] = bad;
    EXPECT_FALSE(make_nf4_table(book, table));
  }
  for (const float size : {1e-35F, 1e35F}) {
    auto book = papers_book();
    for (float& level : book) level *= size;
    EXPECT_FALSE(make_nf4_table(book, table)) << size;
  }
  // Eight zeros take all codes from 8 on, and what shares their signs cannot be negative.
  std::array<float, 16> zeros{};
  for (std::size_t l = 0; l < 8; ++l) zeros[l] = l % 2 == 0 ? 1.0F : -1.0F;
  EXPECT_FALSE(make_nf4_table(zeros, table));
}

// A row of 256 weights times activations as the decode kernel computes it: words of codes, bytes by
// permutation, digits of the activations, integer sums over an absmax block that begin as floats.
struct Row {
  std::vector<std::uint32_t> level;
  std::vector<float> absmax;  // of blocks of 64

  [[nodiscard]] std::uint32_t word(std::size_t first) const {
    std::uint32_t levels = 0;
    for (unsigned k = 0; k < 8; ++k) levels |= level[first + k] << (4 * k);
    return nf4_word(levels, papers_nf4_table().code_of);
  }
};

struct Staged {
  float inverse = 0;
  std::vector<std::uint32_t> plain, stepped;  // digits
};
Staged stage(const std::vector<float>& x) {
  float largest = 0;
  for (const float v : x) largest = std::max(largest, std::abs(v));
  const int exponent = 20 - std::ilogb(largest);
  const float scale = std::ldexp(1.0F, exponent);
  Staged staged{1 / scale, {}, {}};
  for (const float v : x) {
    staged.plain.push_back(int8_digits(std::fma(v, scale, kIntegerStart)));
    const float stepped_scale = scale * papers_nf4_table().fine_step;
    staged.stepped.push_back(int8_digits(std::fma(v, stepped_scale, kIntegerStart)));
  }
  return staged;
}

// Of digit `digit` over the block that begins at `first`.
float block_sum(const Row& row, const Staged& staged, std::size_t first, int digit) {
  std::int32_t sum = kIntegerBits;
  for (std::size_t c = first; c < first + 64; ++c) {
    const std::uint32_t codes = row.word(c / 8 * 8) >> (16 * (c / 4 % 2));
    const Bytes bytes = look_up(papers_nf4_table(), codes);
    const auto byte = static_cast<int>(c % 4);
    sum += int8_digit(bytes.coarse, byte) * int8_digit(staged.plain[c], digit) +
           int8_digit(bytes.fine, byte) * int8_digit(staged.stepped[c], digit);
  }
  return float_from_bits(static_cast<std::uint32_t>(sum));
}

float product(const Row& row, const Staged& staged) {
  float high = 0, low = 0;  // as the lanes of digits 2 and 1 and of digit 0 have them
  for (std::size_t block = 0; block < 4; ++block) {
    const auto sum = [&](int digit) { return block_sum(row, staged, 64 * block, digit); };
    high = std::fma(sum_of_digits(sum(2), sum(1)), row.absmax[block], high);
    low = std::fma(sum_of_digits(sum(0), kIntegerStart), row.absmax[block], low);
  }
  return (high * (staged.inverse * 0x1p16F) + low * staged.inverse) * papers_nf4_table().factor;
}

void expect_product(const Row& row, const std::vector<float>& x) {
  double exact = 0, bound = 0, largest = 0;
  for (const float v : x) largest = std::max(largest, std::abs(double{v}));
  for (std::size_t c = 0; c < 256; ++c) {
    const double absmax = row.absmax[c / 64];
    exact += double{nf4_to_float(row.level[c])} * absmax * x[c];
    bound += std::abs(absmax) * (0x1p-13 * std::abs(x[c]) + 0x1p-20 * largest);
  }
  EXPECT_LE(std::abs(product(row, stage(x)) - exact), bound);
}

TEST(Nf4Table, MultipliesWithinTheDecodeKernelsBound) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  for (int i = 0; i < 200; ++i) {
    Row row;
    std::vector<float> x;
    for (int c = 0; c < 256; ++c) {
      row.level.push_back(random() % 16);
      x.push_back(normal(random));
    }
    for (int b = 0; b < 4; ++b) row.absmax.push_back(std::abs(normal(random)));
    if (i % 2 == 0) x[static_cast<std::size_t>(i)] *= 1000;
    expect_product(row, x);
  }
}

// Where sums are largest: every product of the same sign.
TEST(Nf4Table, SumsOfTheLargestProductsFit) {
  for (unsigned level = 0; level < 16; ++level) {
    for (const float sign : {-1.0F, 1.0F}) {
      const Row row{std::vector<std::uint32_t>(256, level), std::vector<float>(4, 1.0F)};
      for (const float x : {0x1.FFFFFEp0F, 0x1.F7F7F8p0F, 0x1.808080p0F}) {
        expect_product(row, std::vector<float>(256, sign * x));
      }
    }
  }
}

TEST(Nf4Table, ZeroWeightsAddNothing) {
  const Row row{std::vector<std::uint32_t>(256, 7), std::vector<float>(4, 1.0F)};
  EXPECT_EQ(product(row, stage(std::vector<float>(256, 1.37F))), 0);
}

}  // namespace
}  // namespace qf
