#include "qwen3fp4/kernels/cpu/linear.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

#include "isas.h"
#include "qwen3fp4/kernels/fp4.h"

namespace qf {
namespace {

struct Shape {
  std::int64_t rows, cols;
};

class Linear : public testing::TestWithParam<CpuIsa> {
 protected:
  std::vector<float> gauss(std::int64_t count) {
    std::vector<float> values(static_cast<std::size_t>(count));
    for (auto& value : values) value = normal_(engine_);
    return values;
  }
  std::vector<std::uint8_t> bytes(std::int64_t count) {
    std::vector<std::uint8_t> values(static_cast<std::size_t>(count));
    for (auto& value : values) value = static_cast<std::uint8_t>(engine_());
    return values;
  }
  // Every scale that is a number, negative and subnormal ones too.
  std::vector<std::uint8_t> scale_bytes(std::int64_t count) {
    auto values = bytes(count);
    for (auto& value : values) {
      if ((value & 0x7F) == 0x7F) value = 0x3A;
    }
    return values;
  }

  std::mt19937 engine_{20261124};
  std::normal_distribution<float> normal_{};
};
INSTANTIATE_TEST_SUITE_P(Isa, Linear, testing::ValuesIn(supported_isas()), isa_test_name);

// Runs `product` in two ranges of rows, and compares with sums in double of weight(r, c), which is
// exact: n products added in fp32 in any order err by at most n * eps * sum |x w|.
template <class Product, class Weight>
void check(const Shape& shape, const std::vector<float>& x, Product product, Weight weight) {
  const auto tokens = static_cast<std::int64_t>(x.size()) / shape.cols;
  std::vector<float> packed(static_cast<std::size_t>(tokens * packed_cols(shape.cols)),
                            std::numeric_limits<float>::quiet_NaN());
  pack_columns(x.data(), tokens, shape.cols, packed.data());
  std::vector<float> y(static_cast<std::size_t>(tokens * shape.rows),
                       std::numeric_limits<float>::quiet_NaN());
  const LinearInput in{x.data(), packed.data(), tokens};
  const LinearOutput out{y.data(), shape.rows};
  product(in, RowRange{0, shape.rows / 3}, out);
  product(in, RowRange{shape.rows / 3, shape.rows - shape.rows / 3}, out);
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t r = 0; r < shape.rows; ++r) {
      double exact = 0.0;
      double size = 0.0;
      for (std::int64_t c = 0; c < shape.cols; ++c) {
        const double term =
            static_cast<double>(x[static_cast<std::size_t>(t * shape.cols + c)]) * weight(r, c);
        exact += term;
        size += std::abs(term);
      }
      const double bound = static_cast<double>(shape.cols) * 0x1p-23 * size;
      const double got = y[static_cast<std::size_t>(t * shape.rows + r)];
      ASSERT_LE(std::abs(got - exact), bound)
          << shape.rows << " x " << shape.cols << ", token " << t << " of " << tokens << ", row "
          << r << ": " << got << " for " << exact;
    }
  }
}

constexpr std::int64_t kTokens[] = {1, 2, 3, 4};

TEST_P(Linear, Nvfp4IsWithinTheBoundOfExactSums) {
  for (const Shape shape : {Shape{1, 16}, Shape{7, 48}, Shape{3, 64}, Shape{33, 112}, Shape{5, 128},
                            Shape{7, 208}, Shape{9, 576}, Shape{4, 1536 + 80}}) {
    for (const auto tokens : kTokens) {
      const auto codes = bytes(shape.rows * shape.cols / 2);
      const auto scales = scale_bytes(shape.rows * shape.cols / 16);
      const float global = 0.0123F;
      const Nvfp4View w{codes.data(), scales.data(), nullptr, global, shape.rows, shape.cols};
      check(
          shape, gauss(tokens * shape.cols),
          [&](const auto& in, RowRange rows, const auto& out) {
            linear_nvfp4(w, in, rows, out, GetParam());
          },
          [&](std::int64_t r, std::int64_t c) {
            const auto i = static_cast<std::size_t>(r * shape.cols + c);
            const auto code = nibble(codes[i / 2], static_cast<unsigned>(i % 2));
            return static_cast<double>(e2m1_to_float(code)) * e4m3_to_float(scales[i / 16]) *
                   global;
          });
    }
  }
}

TEST_P(Linear, Nvfp4WithRealScalesIsWithinTheBound) {
  for (const Shape shape : {Shape{2, 16}, Shape{33, 112}, Shape{5, 256}}) {
    const auto codes = bytes(shape.rows * shape.cols / 2);
    const auto scales = gauss(shape.rows * shape.cols / 16);
    const Nvfp4View w{codes.data(), nullptr, scales.data(), 1.0F, shape.rows, shape.cols};
    check(
        shape, gauss(3 * shape.cols),
        [&](const auto& in, RowRange rows, const auto& out) {
          linear_nvfp4(w, in, rows, out, GetParam());
        },
        [&](std::int64_t r, std::int64_t c) {
          const auto i = static_cast<std::size_t>(r * shape.cols + c);
          const auto code = nibble(codes[i / 2], static_cast<unsigned>(i % 2));
          return static_cast<double>(e2m1_to_float(code)) * scales[i / 16];
        });
  }
}

// Blocks that end inside rows, rows that start inside bytes, and the shapes of the vector path.
TEST_P(Linear, Nf4IsWithinTheBoundOfExactSums) {
  struct Case {
    Shape shape;
    std::int64_t block;
  };
  for (const Case& c : {Case{{1, 64}, 64}, Case{{5, 192}, 64}, Case{{33, 128}, 64},
                        Case{{7, 256}, 128}, Case{{3, 384}, 192}, Case{{6, 31}, 64},
                        Case{{7, 90}, 64}, Case{{4, 64}, 32}, Case{{2, 576}, 4096}}) {
    const auto [shape, block] = c;
    const std::int64_t count = shape.rows * shape.cols;
    for (const auto tokens : kTokens) {
      const auto codes = bytes(count / 2);
      const auto absmax = gauss((count + block - 1) / block);
      const auto book = gauss(16);
      const Nf4View w{codes.data(), absmax.data(), book.data(), block, shape.rows, shape.cols};
      check(
          shape, gauss(tokens * shape.cols),
          [&](const auto& in, RowRange rows, const auto& out) {
            linear_nf4(w, in, rows, out, GetParam());
          },
          [&](std::int64_t r, std::int64_t column) {
            const auto i = static_cast<std::size_t>(r * shape.cols + column);
            const auto code = nibble(codes[i / 2], i % 2 == 0 ? 1U : 0U);
            return static_cast<double>(book[code]) * absmax[i / static_cast<std::size_t>(block)];
          });
    }
  }
}

// fp32 values that 16 bits hold: the top half of a bf16, or a few significant bits for f16.
TEST_P(Linear, DenseIsWithinTheBoundOfExactSums) {
  for (const Shape shape : {Shape{1, 1}, Shape{7, 17}, Shape{33, 64}, Shape{3, 203}}) {
    for (const auto type : {DenseType::kF32, DenseType::kF16, DenseType::kBF16}) {
      for (const auto tokens : kTokens) {
        const auto count = static_cast<std::size_t>(shape.rows * shape.cols);
        std::vector<float> values(count);
        std::vector<std::uint16_t> halves(count);
        for (std::size_t i = 0; i < count; ++i) {
          const auto random = static_cast<std::uint32_t>(engine_());
          if (type == DenseType::kF16) {
            // Sign, exponent 0 (subnormals) to 30, mantissa; the value by f16's definition.
            const auto half = static_cast<std::uint16_t>(random % 0x7C00U | (random & 0x8000U));
            const int exponent = half >> 10 & 0x1F;
            const double mantissa = (half & 0x3FF) + (exponent != 0 ? 0x400 : 0);
            const double value = std::ldexp(mantissa, (exponent != 0 ? exponent : 1) - 25);
            halves[i] = half;
            values[i] = static_cast<float>((half & 0x8000) != 0 ? -value : value);
          } else {
            values[i] = normal_(engine_);
            if (type == DenseType::kBF16)
              values[i] = float_from_bits(float_bits(values[i]) & 0xFFFF0000U);
            halves[i] = static_cast<std::uint16_t>(float_bits(values[i]) >> 16U);
          }
        }
        const void* const data =
            type == DenseType::kF32 ? static_cast<const void*>(values.data()) : halves.data();
        const DenseRows w{data, type, shape.rows, shape.cols};
        check(
            shape, gauss(tokens * shape.cols),
            [&](const auto& in, RowRange rows, const auto& out) {
              linear_dense(w, in, rows, out, GetParam());
            },
            [&](std::int64_t r, std::int64_t c) {
              return static_cast<double>(values[static_cast<std::size_t>(r * shape.cols + c)]);
            });
      }
    }
  }
}

TEST_P(Linear, EveryHalfIsDecodedExactly) {
  constexpr std::int64_t kCount = 65536;
  std::vector<std::uint16_t> halves(kCount);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
  const float one = 1.0F;
  std::vector<float> y(kCount);
  for (const auto type : {DenseType::kF16, DenseType::kBF16}) {
    linear_dense({halves.data(), type, kCount, 1}, {&one, nullptr, 1}, {0, kCount},
                 {y.data(), kCount}, GetParam());
    const unsigned mantissa_bits = type == DenseType::kF16 ? 10 : 7;
    const unsigned last = (1U << (15U - mantissa_bits)) - 1U;  // exponent of infinity and NaN
    const int bias = static_cast<int>(last / 2);
    for (unsigned i = 0; i < kCount; ++i) {
      const unsigned exponent = i >> mantissa_bits & last;
      const unsigned mantissa = i & ((1U << mantissa_bits) - 1U);
      if (exponent == last && mantissa != 0) {
        ASSERT_TRUE(std::isnan(y[i])) << i;
        continue;
      }
      const double digits = mantissa + (exponent != 0 ? 1U << mantissa_bits : 0U);
      double value = std::ldexp(digits, static_cast<int>(std::max(exponent, 1U)) - bias -
                                            static_cast<int>(mantissa_bits));
      if (exponent == last) value = std::numeric_limits<double>::infinity();
      ASSERT_EQ(y[i], i >= 0x8000 ? -value : value) << i;
    }
  }
}

// Bytes that end where the process may not read on.
class GuardedBytes {
 public:
  explicit GuardedBytes(std::size_t size) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    mapped_ = (size + page - 1) / page * page + page;
    base_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base_ == MAP_FAILED) throw std::runtime_error("mmap failed");
    auto* const guard = static_cast<std::uint8_t*>(base_) + mapped_ - page;
    if (mprotect(guard, page, PROT_NONE) != 0) throw std::runtime_error("mprotect failed");
    data_ = guard - size;
  }
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;
  ~GuardedBytes() { munmap(base_, mapped_); }
  [[nodiscard]] std::uint8_t* data() const { return data_; }
  [[nodiscard]] float* floats() const { return reinterpret_cast<float*>(data_); }

 private:
  void* base_ = nullptr;
  std::size_t mapped_ = 0;
  std::uint8_t* data_ = nullptr;
};

// Vector loads that reach past the last byte of a weight would fault (the sanitizers do not see
// through all of the intrinsics).
TEST_P(Linear, NothingIsReadPastTheEnd) {
  for (std::int64_t cols = 16; cols <= 272; cols += 16) {
    const auto size = static_cast<std::size_t>(cols);
    const GuardedBytes codes(size / 2);
    const GuardedBytes scales(size / 16);
    const GuardedBytes real_scales(size / 16 * 4);
    const GuardedBytes packed(static_cast<std::size_t>(packed_cols(cols)) * 4);
    const GuardedBytes dense(size * 4);
    const GuardedBytes halves(size * 2);
    const GuardedBytes absmax(4);
    const GuardedBytes book(16 * 4);
    const GuardedBytes y(4);
    const LinearInput in{dense.floats(), packed.floats(), 1};
    const LinearOutput out{y.floats(), 1};
    pack_columns(dense.floats(), 1, cols, packed.floats());
    linear_nvfp4({codes.data(), scales.data(), nullptr, 1.0F, 1, cols}, in, {0, 1}, out,
                 GetParam());
    linear_nvfp4({codes.data(), nullptr, real_scales.floats(), 1.0F, 1, cols}, in, {0, 1}, out,
                 GetParam());
    linear_nf4({codes.data(), absmax.floats(), book.floats(), cols, 1, cols}, in, {0, 1}, out,
               GetParam());
    linear_dense({dense.data(), DenseType::kF32, 1, cols}, in, {0, 1}, out, GetParam());
    linear_dense({halves.data(), DenseType::kBF16, 1, cols - 7}, in, {0, 1}, out, GetParam());
    linear_dense({halves.data() + 2 * 7, DenseType::kF16, 1, cols - 7},
                 {dense.floats() + 7, packed.floats(), 1}, {0, 1}, out, GetParam());
    EXPECT_EQ(*y.floats(), 0.0F);
  }
}

TEST_P(Linear, ANanScaleIsNotLost) {
  std::vector<std::uint8_t> codes(64, 0x22);
  for (const std::uint8_t nan : {std::uint8_t{0x7F}, std::uint8_t{0xFF}}) {
    std::vector<std::uint8_t> scales(8, 0x38);
    scales[5] = nan;
    const std::vector<float> x(128, 1.0F);
    std::vector<float> packed(128);
    pack_columns(x.data(), 1, 128, packed.data());
    float y = 0.0F;
    linear_nvfp4({codes.data(), scales.data(), nullptr, 1.0F, 1, 128}, {x.data(), packed.data(), 1},
                 {0, 1}, {&y, 1}, GetParam());
    EXPECT_TRUE(std::isnan(y));
  }
}

}  // namespace
}  // namespace qf
