// The small CUDA operations against double, on fresh random data. Needs a GPU (label gpu).
#include <cmath>
#include <limits>

#include "cuda_support.h"
#include "qwen3fp4/kernels/cuda/operations.h"

namespace qf {
namespace {

constexpr double kUnit = 0x1p-24;

TEST(CudaOperations, RmsNorm) {
  for (const auto& [rows, cols] : {Shape{1, 1}, Shape{3, 100}, Shape{40, 128}, Shape{5, 2560}}) {
    const auto x = random_floats(rows * cols);
    const auto weight = random_floats(cols);
    const DeviceArray<float> device_x(x), device_weight(weight), y(poison(rows * cols));
    ASSERT_EQ(
        cuda::rms_norm(device_x.get(), device_weight.get(), 1e-6F, rows, cols, y.get(), nullptr),
        cudaSuccess);
    const auto out = y.host();
    for (std::int64_t r = 0; r < rows; ++r) {
      double squares = 0;
      for (std::int64_t c = 0; c < cols; ++c) squares += std::pow(x[r * cols + c], 2);
      const double factor = 1 / std::sqrt(squares / static_cast<double>(cols) + 1e-6F);
      for (std::int64_t c = 0; c < cols; ++c) {
        const double expected = x[r * cols + c] * factor * weight[c];
        // Half the error of a sum of `cols` positive terms, and six roundings more.
        const double bound = (static_cast<double>(cols) / 2 + 6) * kUnit * std::abs(expected);
        ASSERT_LE(std::abs(out[r * cols + c] - expected), bound);
      }
    }
  }
}

TEST(CudaOperations, RopeTurnsHalves) {
  for (const cuda::RopeShape& shape :
       {cuda::RopeShape{1, 1, 2}, cuda::RopeShape{3, 5, 64}, cuda::RopeShape{7, 32, 128}}) {
    const std::int64_t count = shape.tokens * shape.heads * shape.head_dim;
    const std::int64_t half = shape.head_dim / 2;
    const auto x = random_floats(count);
    const auto cos = random_floats(shape.tokens * shape.head_dim);
    const auto sin = random_floats(shape.tokens * shape.head_dim);
    const DeviceArray<float> device_x(x), device_cos(cos), device_sin(sin), y(poison(count));
    ASSERT_EQ(cuda::apply_rope(device_x.get(), device_cos.get(), device_sin.get(), shape, y.get(),
                               nullptr),
              cudaSuccess);
    const auto out = y.host();
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t e = i % shape.head_dim;
      const std::int64_t angle = i / (shape.heads * shape.head_dim) * shape.head_dim + e;
      const double straight = static_cast<double>(x[i]) * cos[angle];
      const double turned = (e < half ? -1.0 * x[i + half] : 1.0 * x[i - half]) * sin[angle];
      ASSERT_LE(std::abs(out[i] - (straight + turned)),
                2 * kUnit * (std::abs(straight) + std::abs(turned)));
    }
  }
}

TEST(CudaOperations, SwigluAndAdd) {
  for (const std::int64_t count : {1, 255, 257, 100000}) {
    auto a = random_floats(count);
    const auto b = random_floats(count);
    a[0] = -200;  // exp overflows, silu is -0
    const DeviceArray<float> device_a(a), device_b(b), product(poison(count)), sum(poison(count));
    ASSERT_EQ(cuda::swiglu(device_a.get(), device_b.get(), count, product.get(), nullptr),
              cudaSuccess);
    ASSERT_EQ(cuda::add(device_a.get(), device_b.get(), count, sum.get(), nullptr), cudaSuccess);
    const auto products = product.host();
    const auto sums = sum.host();
    for (std::size_t i = 0; i < a.size(); ++i) {
      const double silu = a[i] / (1 + std::exp(-static_cast<double>(a[i])));
      ASSERT_LE(std::abs(products[i] - silu * b[i]),
                8 * kUnit * std::abs(silu * b[i]) + std::numeric_limits<float>::min());
      ASSERT_EQ(sums[i], a[i] + b[i]);
    }
  }
}

TEST(CudaOperations, RefuseEmptyShapes) {
  EXPECT_EQ(cuda::rms_norm(nullptr, nullptr, 0, 0, 4, nullptr, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(cuda::rms_norm(nullptr, nullptr, 0, 4, 0, nullptr, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(cuda::apply_rope(nullptr, nullptr, nullptr, {1, 1, 3}, nullptr, nullptr),
            cudaErrorInvalidValue);
  EXPECT_EQ(cuda::swiglu(nullptr, nullptr, 0, nullptr, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(cuda::add(nullptr, nullptr, -1, nullptr, nullptr), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace qf
