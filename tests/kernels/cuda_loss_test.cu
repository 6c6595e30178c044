// The loss of chunks of the vocabulary against double, on fresh random data. Needs a GPU (label
// gpu).
#include <cmath>
#include <limits>

#include "cuda_support.h"
#include "qwen3fp4/kernels/cuda/loss.h"

namespace qf {
namespace {

constexpr double kUnit = 0x1p-24;
constexpr Shape kChunks[] = {{1, 1}, {3, 31}, {5, 257}, {7, 1000}, {2, 8191}, {300, 4480}};

struct Case {
  explicit Case(const Shape& shape)
      : rows(shape.rows),
        cols(shape.cols),
        logits(random_floats(rows * cols)),
        teacher(random_floats(rows * cols)) {
    for (float& x : logits) x = 6 * x + 3;
    for (std::size_t i = 0; i < teacher.size(); ++i) teacher[i] = logits[i] + teacher[i];
    // Inside the chunk, and in the chunks before and behind it.
    for (std::int64_t r = 0; r < rows; ++r) {
      next.push_back(first + static_cast<std::int64_t>(random_source()() % (3 * cols)) - cols);
    }
  }
  [[nodiscard]] cuda::LogitChunk chunk(const float* device) const {
    return {device, rows, cols, first};
  }
  [[nodiscard]] bool inside(std::int64_t row) const {
    return next[row] >= first && next[row] < first + cols;
  }
  std::int64_t rows, cols, first = 8192;
  std::vector<float> logits, teacher;
  std::vector<std::int64_t> next;
};

double logsumexp(const std::vector<float>& values, std::int64_t row, std::int64_t cols) {
  const auto* const v = values.data() + row * cols;
  const double largest = *std::max_element(v, v + cols);
  double sum = 0;
  for (std::int64_t c = 0; c < cols; ++c) sum += std::exp(v[c] - largest);
  return largest + std::log(sum);
}

// Largest magnitude of a row of both: differences of two of its values round to 2 units of it.
double largest(const Case& c, std::int64_t row) {
  double most = 1;
  for (std::int64_t i = row * c.cols; i < (row + 1) * c.cols; ++i) {
    most = std::max<double>(most, std::max(std::abs(c.logits[i]), std::abs(c.teacher[i])));
  }
  return most;
}
// Of a sum of exponentials of such differences, relative: those, expf's own 2 units, and on the way
// through a thread's and a block's additions one each.
double relative_bound(const Case& c, std::int64_t row) {
  return (2 * largest(c, row) + 2 + static_cast<double>(c.cols) / 256 + 14) * kUnit;
}

TEST(CudaLoss, CrossEntropyOfAChunk) {
  for (const Shape& shape : kChunks) {
    const Case c(shape);
    const DeviceArray<float> logits(c.logits), sums(poison(c.rows)), values(poison(c.rows));
    const DeviceArray<std::int64_t> next(c.next);
    ASSERT_EQ(
        cuda::cross_entropy(c.chunk(logits.get()), next.get(), sums.get(), values.get(), nullptr),
        cudaSuccess);
    const auto got = sums.host();
    const auto value = values.host();
    for (std::int64_t r = 0; r < c.rows; ++r) {
      const double expected = logsumexp(c.logits, r, c.cols);
      ASSERT_NEAR(got[r], expected, relative_bound(c, r) + 4 * kUnit * std::abs(expected));
      ASSERT_EQ(value[r], c.inside(r) ? c.logits[r * c.cols + c.next[r] - c.first] : 0.0F);
    }
  }
}

TEST(CudaLoss, DivergenceOfAChunk) {
  for (const Shape& shape : kChunks) {
    const Case c(shape);
    const DeviceArray<float> logits(c.logits), teacher(c.teacher), sums(poison(c.rows)),
        taught(poison(c.rows)), values(poison(c.rows));
    ASSERT_EQ(cuda::divergence(c.chunk(logits.get()), teacher.get(), sums.get(), taught.get(),
                               values.get(), nullptr),
              cudaSuccess);
    const auto got = sums.host();
    const auto got_taught = taught.host();
    const auto value = values.host();
    for (std::int64_t r = 0; r < c.rows; ++r) {
      const double bound = relative_bound(c, r);
      const double expected = logsumexp(c.logits, r, c.cols);
      const double expected_taught = logsumexp(c.teacher, r, c.cols);
      ASSERT_NEAR(got[r], expected, bound + 4 * kUnit * std::abs(expected));
      ASSERT_NEAR(got_taught[r], expected_taught, bound + 4 * kUnit * std::abs(expected_taught));
      double mean = 0;
      double magnitude = 0;
      for (std::int64_t i = r * c.cols; i < (r + 1) * c.cols; ++i) {
        const double difference = double{c.teacher[i]} - c.logits[i];
        mean += std::exp(c.teacher[i] - expected_taught) * difference;
        magnitude += std::exp(c.teacher[i] - expected_taught) * std::abs(difference);
      }
      // Shares and their sum are that exact, the differences round once to a unit of the values.
      ASSERT_NEAR(value[r], mean, 2 * bound * magnitude + 2 * kUnit * largest(c, r));
    }
  }
}

template <class Type>
void expect_gradients(const Shape& shape, double rounding) {
  const Case c(shape);
  std::vector<float> sums, taught_sums;
  for (std::int64_t r = 0; r < c.rows; ++r) {
    // Of a whole vocabulary, more than the chunk's own.
    sums.push_back(static_cast<float>(logsumexp(c.logits, r, c.cols) + 0.5));
    taught_sums.push_back(static_cast<float>(logsumexp(c.teacher, r, c.cols) + 0.25));
  }
  const DeviceArray<float> logits(c.logits), teacher(c.teacher), all(sums), taught(taught_sums);
  const DeviceArray<std::int64_t> next(c.next);
  const DeviceArray<Bits16> entropy(poison_bits(c.rows * c.cols)),
      divergence(poison_bits(c.rows * c.cols));
  const float weight = 0.125F;
  ASSERT_EQ(cuda::cross_entropy_gradient(c.chunk(logits.get()), next.get(), all.get(), weight,
                                         device_values<Type>(entropy), nullptr),
            cudaSuccess);
  ASSERT_EQ(cuda::divergence_gradient(c.chunk(logits.get()), teacher.get(), all.get(), taught.get(),
                                      weight, device_values<Type>(divergence), nullptr),
            cudaSuccess);
  const auto got = widened<Type>(entropy.host());
  const auto got_taught = widened<Type>(divergence.host());
  for (std::int64_t r = 0; r < c.rows; ++r) {
    const double bound = (2 * largest(c, r) + 4) * kUnit;
    for (std::int64_t i = 0; i < c.cols; ++i) {
      const std::int64_t at = r * c.cols + i;
      const double share = std::exp(double{c.logits[at]} - sums[r]);
      const double teachers = std::exp(double{c.teacher[at]} - taught_sums[r]);
      const double minus = c.next[r] == c.first + i ? 1 : 0;
      const double expected = weight * (share - minus);
      ASSERT_NEAR(got[at], expected,
                  weight * bound * (share + minus) + rounding * std::abs(expected) + 1e-38);
      const double expected_taught = weight * (share - teachers);
      ASSERT_NEAR(
          got_taught[at], expected_taught,
          weight * bound * (share + teachers) + rounding * std::abs(expected_taught) + 1e-38);
    }
  }
}

TEST(CudaLoss, Gradients) {
  for (const Shape& shape : kChunks) expect_gradients<Bf16Type>(shape, 0x1p-8);
}

TEST(CudaLoss, NonFiniteLogitsShow) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Case c({4, 300});
    c.logits[2 * 300 + 7] = bad;
    const DeviceArray<float> logits(c.logits), sums(poison(4)), values(poison(4));
    const DeviceArray<std::int64_t> next(c.next);
    ASSERT_EQ(
        cuda::cross_entropy(c.chunk(logits.get()), next.get(), sums.get(), values.get(), nullptr),
        cudaSuccess);
    const auto got = sums.host();
    EXPECT_FALSE(std::isfinite(got[2]));
    EXPECT_TRUE(std::isfinite(got[1]));
  }
  EXPECT_EQ(cuda::cross_entropy({nullptr, 1, 1, 0}, nullptr, nullptr, nullptr, nullptr),
            cudaErrorInvalidValue);
}

TEST(CudaLoss, Speed) {
  const Case c({2048, 8192});
  const DeviceArray<float> logits(c.logits), teacher(c.teacher), sums(poison(c.rows)),
      taught(poison(c.rows)), values(poison(c.rows));
  const DeviceArray<std::int64_t> next(c.next);
  const DeviceArray<Bits16> out(poison_bits(c.rows * c.cols));
  const auto chunk = c.chunk(logits.get());
  auto* const gradient = device_values<Bf16Type>(out);
  const double count = static_cast<double>(c.rows * c.cols);
  report("cross_entropy, 2048 x 8192", count * 4, [&] {
    ASSERT_EQ(cuda::cross_entropy(chunk, next.get(), sums.get(), values.get(), nullptr),
              cudaSuccess);
  });
  report("its gradient to bf16", count * 6, [&] {
    ASSERT_EQ(cuda::cross_entropy_gradient(chunk, next.get(), sums.get(), 1.0F, gradient, nullptr),
              cudaSuccess);
  });
  report("divergence", count * 8, [&] {
    ASSERT_EQ(
        cuda::divergence(chunk, teacher.get(), sums.get(), taught.get(), values.get(), nullptr),
        cudaSuccess);
  });
  report("its gradient to bf16", count * 10, [&] {
    ASSERT_EQ(cuda::divergence_gradient(chunk, teacher.get(), sums.get(), taught.get(), 1.0F,
                                        gradient, nullptr),
              cudaSuccess);
  });
}

}  // namespace
}  // namespace qf
