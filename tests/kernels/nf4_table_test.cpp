#include "qwen3fp4/kernels/nf4_table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "qwen3fp4/kernels/fp4.h"

namespace qf {
namespace {

std::array<float, 16> papers_book() {
  std::array<float, 16> book{};
  for (unsigned i = 0; i < 16; ++i) book[i] = nf4_to_float(i);
  return book;
}

double term(const std::uint32_t (&words)[4], unsigned level) {
  return e4m3_to_float(static_cast<std::uint8_t>(words[level / 4] >> (8 * (level % 4))));
}

void expect_levels(const std::array<float, 16>& book) {
  Nf4Table table{};
  ASSERT_TRUE(make_nf4_table(book, table));
  for (unsigned i = 0; i < 16; ++i) {
    const double level = table.factor * (term(table.high, i) + term(table.low, i));
    EXPECT_LE(std::abs(level - book[i]), 0x1p-11 * std::abs(book[i])) << i;
    EXPECT_LT(std::abs(term(table.high, i)), 257) << i;
  }
}

TEST(Nf4Table, HoldsThePapersLevels) { expect_levels(papers_book()); }

TEST(Nf4Table, HoldsThemAtAnySize) {
  for (const float size : {1e-20F, 0.3F, 7.0F, 1e20F}) {
    auto book = papers_book();
    for (float& level : book) level *= size;
    SCOPED_TRACE(size);
    expect_levels(book);
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
  // A level so small beside the largest that E4M3's steps of 2^-9 no longer tell it from 0.
  auto book = papers_book();
  book[8] = 1e-7F;
  EXPECT_FALSE(make_nf4_table(book, table));
}

}  // namespace
}  // namespace qf
