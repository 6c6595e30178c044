// fp16 operands and their scale, and the read that measures bandwidth. Needs a GPU (label gpu).
#include <cmath>
#include <limits>

#include "cuda_support.h"
#include "qwen3fp4/kernels/cuda/bandwidth.h"
#include "qwen3fp4/kernels/cuda/half.h"
#include "qwen3fp4/kernels/fp4.h"

namespace qf {
namespace {

// What to_half() and undo_half_scale() together make of x.
std::vector<float> there_and_back(const std::vector<float>& x, std::uint32_t& largest) {
  const auto count = static_cast<std::int64_t>(x.size());
  const DeviceArray<float> in(x), back(poison(count));
  const DeviceArray<std::uint16_t> halves(std::vector<std::uint16_t>(x.size(), 0x7E00));
  const DeviceArray<std::uint32_t> bits(std::vector<std::uint32_t>(1, 0xFFFFFFFFU));
  auto* const out = reinterpret_cast<__half*>(halves.get());
  EXPECT_EQ(cuda::to_half(in.get(), count, out, bits.get(), nullptr), cudaSuccess);
  std::vector<float> scaled;
  for (const std::uint16_t h : halves.host()) {
    __half value;
    std::memcpy(&value, &h, sizeof h);
    scaled.push_back(__half2float(value));
  }
  const DeviceArray<float> y(scaled);
  EXPECT_EQ(cuda::undo_half_scale(y.get(), count, bits.get(), nullptr), cudaSuccess);
  largest = bits.host().front();
  return y.host();
}

TEST(CudaHalf, KeepsElevenBitsWhateverTheSizes) {
  for (const std::int64_t count : {1, 7, 8, 2049, 100003}) {
    for (const float size : {1.0F, 0x1p-3F, 0x1p-4F, 0x1p-40F, 0x1p-120F, 1000.0F, 0x1p15F, 0x1p16F,
                             0x1p60F, 0x1p120F}) {
      auto x = random_floats(count);
      float most = 0;
      for (float& value : x) {
        value *= size;
        most = std::max(most, std::abs(value));
      }
      std::uint32_t largest = 0;
      const auto back = there_and_back(x, largest);
      ASSERT_EQ(largest, float_bits(most)) << count << " of size " << size;
      for (std::size_t i = 0; i < x.size(); ++i) {
        ASSERT_LE(std::abs(static_cast<double>(back[i]) - x[i]),
                  std::max(0x1p-11 * std::abs(x[i]), 0x1p-22 * most))
            << count << " of size " << size << ", " << i << ": " << x[i];
      }
    }
  }
}

TEST(CudaHalf, ShowsWhatIsNotFinite) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    auto x = random_floats(1000);
    x[617] = bad;
    std::uint32_t largest = 0;
    const auto back = there_and_back(x, largest);
    EXPECT_FALSE(std::isfinite(back[617]));
    EXPECT_GE(largest, 0x7F800000U);
  }
}

TEST(CudaHalf, KeepsZeros) {
  std::uint32_t largest = 1;
  const auto back = there_and_back(std::vector<float>(77), largest);
  EXPECT_EQ(largest, 0U);
  EXPECT_TRUE(same_bits(back, std::vector<float>(77)));
}

TEST(CudaHalf, RefusesEmptyAndMisalignedTensors) {
  const DeviceArray<float> x(std::vector<float>(16));
  const DeviceArray<std::uint32_t> bits(std::vector<std::uint32_t>(1));
  auto* const y = reinterpret_cast<__half*>(x.get());
  EXPECT_EQ(cuda::to_half(x.get(), 0, y, bits.get(), nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(cuda::to_half(x.get() + 1, 8, y, bits.get(), nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(cuda::undo_half_scale(x.get(), -1, bits.get(), nullptr), cudaErrorInvalidValue);
}

TEST(CudaBandwidth, ReadsEveryWordOnce) {
  for (const std::int64_t count : {1, 3, 1000, 4000037}) {
    std::vector<std::uint32_t> words(static_cast<std::size_t>(4 * count));
    std::uint32_t expected = 0;
    for (auto& word : words) expected ^= word = random_source()();
    const DeviceArray<std::uint32_t> device(words), result(std::vector<std::uint32_t>(1, 5));
    ASSERT_EQ(cuda::read_all(device.get(), count, result.get(), nullptr), cudaSuccess);
    EXPECT_EQ(result.host().front(), expected) << count;
  }
  EXPECT_EQ(cuda::read_all(nullptr, 0, nullptr, nullptr), cudaErrorInvalidValue);
}

TEST(CudaHalf, Speed) {
  constexpr std::int64_t kCount = 2048 * 9728;
  const DeviceArray<float> x(random_floats(kCount));
  const DeviceArray<std::uint16_t> y{std::vector<std::uint16_t>(kCount)};
  const DeviceArray<std::uint32_t> bits(std::vector<std::uint32_t>(1));
  std::printf("| 2048 x 9728 | bytes | median | rate |\n|---|---|---|---|\n");
  report("to_half", 6.0 * kCount, [&] {
    (void)cuda::to_half(x.get(), kCount, reinterpret_cast<__half*>(y.get()), bits.get(), nullptr);
  });
}

}  // namespace
}  // namespace qf
