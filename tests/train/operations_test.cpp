// The products of a training step on the CPU against their definition in double.
#include "operations.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iostream>
#include <string>

#include "qwen3fp4/quant/parallel.h"

namespace qf {
namespace {

struct Shape {
  std::int64_t m, k, n;
};
// Odd inner sizes (a step has any number of tokens), one row or column, more than a task's rows,
// more than is multiplied at a time.
constexpr Shape kShapes[] = {{1, 1, 1},    {3, 5, 7},     {64, 64, 64},  {65, 33, 1},
                             {1, 576, 17}, {70, 769, 48}, {130, 2, 257}, {67, 1537, 300},
                             {5, 0, 4},    {0, 6, 4},     {4, 6, 0}};

at::Tensor random(std::int64_t rows, std::int64_t cols, bool transposed) {
  return transposed ? at::randn({cols, rows}).to(at::kBFloat16).t()
                    : at::randn({rows, cols}).to(at::kBFloat16);
}

// Sums in f32 of exact products, in any order, are off by at most (K + 1) 2^-24 of the sum of
// magnitudes; `rounding`: what the result's type adds.
void expect_product(const at::Tensor& got, const at::Tensor& a, const at::Tensor& b,
                    const at::Tensor& before, double rounding) {
  const auto x = a.to(at::kDouble);
  const auto y = b.to(at::kDouble);
  const auto want = at::mm(x, y) + before;
  const auto sum = at::mm(x.abs(), y.abs()) + before.abs();
  const auto bound = sum * (static_cast<double>(a.size(1) + 2) * 0x1p-24) + want.abs() * rounding;
  EXPECT_TRUE(((got.to(at::kDouble) - want).abs() <= bound).all().item<bool>())
      << a.sizes() << " times " << b.sizes();
}

TEST(Products, OfBF16EqualTheirDefinition) {
  std::cout << "bf16 products on this processor: "
            << (has_bf16_products() ? "oneDNN's" : "fp32 of the operands") << '\n';
  at::manual_seed(1);
  for (const Shape& s : kShapes) {
    for (const bool left : {false, true}) {
      for (const bool right : {false, true}) {
        const auto a = random(s.m, s.k, left);
        const auto b = random(s.k, s.n, right);
        const auto zero = at::zeros({s.m, s.n}, at::kDouble);
        const auto narrow = product(a, b);
        EXPECT_EQ(narrow.scalar_type(), at::kBFloat16);
        expect_product(narrow, a, b, zero, 0x1p-8);
        expect_product(product_f32(a, b), a, b, zero, 0);
        const RightOperand prepared(b);
        EXPECT_TRUE(at::equal(product_f32(a, prepared), product_f32(a, b)));
        auto sum = at::randn({s.m, s.n});
        const auto before = sum.to(at::kDouble);
        add_product(a, b, sum);
        expect_product(sum, a, b, before, 0);
      }
    }
  }
}

TEST(Products, OfBF16TakeViews) {
  at::manual_seed(3);
  const auto values = at::randn({2000}).to(at::kBFloat16);
  const auto zero = at::zeros({4, 8}, at::kDouble);
  for (const std::int64_t offset : {0, 1, 2, 3}) {
    const auto a = values.narrow(0, 500 + offset, 4 * 66).view({4, 66});
    const auto right = values.narrow(0, offset, 8 * 67).view({8, 67}).narrow(1, 0, 66).t();
    expect_product(product_f32(a, right), a, right, zero, 0);
    const auto even = values.narrow(0, offset, 8 * 66).view({8, 66}).t();
    expect_product(product_f32(a, even), a, even, zero, 0);
  }
  // Into some of the columns of a wider tensor.
  const auto a = random(70, 66, false);
  const auto b = random(66, 8, false);
  auto wide = at::randn({70, 20});
  auto some = wide.narrow(1, 5, 8);
  const auto before = some.to(at::kDouble).clone();
  add_product(a, b, some);
  expect_product(some, a, b, before, 0);
}

// Of executable memory that belongs to no file: what generated kernels lie in.
std::int64_t generated_pieces() {
  std::ifstream maps("/proc/self/maps");
  std::int64_t pieces = 0;
  for (std::string line; std::getline(maps, line);) {
    const auto mode = line.find(' ') + 1;
    if (line[mode + 2] == 'x' && line.find('/') == std::string::npos) ++pieces;
  }
  return pieces;
}

// A step has any number of tokens, and libtorch keeps every kernel that it generates.
TEST(Products, OfBF16NeedNoKernelsForEachNumberOfTokens) {
  const auto weight = random(48, 192, false);
  const auto run = [&](std::int64_t tokens) {
    const auto x = random(tokens, 192, false);
    const auto dy = product(x, weight.t());
    (void)product(dy.t(), x);
    auto sum = at::zeros({tokens, 192});
    add_product(dy, weight, sum);
  };
  const int before = parallel_threads();
  set_parallel_threads(1);
  for (std::int64_t tokens = 1; tokens < 1700; tokens += 32) run(tokens);
  const auto pieces = generated_pieces();
  for (std::int64_t tokens = 11; tokens < 1700; tokens += 43) run(tokens);
  EXPECT_EQ(generated_pieces(), pieces);
  set_parallel_threads(before);
}

TEST(Products, OfBF16HaveTheSameBitsForEveryNumberOfThreads) {
  at::manual_seed(2);
  const auto a = random(333, 1537, false);
  const auto b = random(1537, 300, false);
  const int before = parallel_threads();
  set_parallel_threads(1);
  const auto narrow = product(a, b);
  const auto wide = product_f32(a, b);
  for (const int threads : {2, 3, 8}) {
    set_parallel_threads(threads);
    EXPECT_TRUE(at::equal(product(a, b), narrow));
    EXPECT_TRUE(at::equal(product_f32(a, b), wide));
  }
  set_parallel_threads(before);
}

}  // namespace
}  // namespace qf
