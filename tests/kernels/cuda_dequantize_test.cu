// The CUDA kernels against the CPU's, bit for bit, on fresh random data. Needs a GPU (label gpu).
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <memory>
#include <vector>

#include "cuda_support.h"
#include "qwen3fp4/kernels/cpu/dequantize.h"
#include "qwen3fp4/kernels/cuda/dequantize.h"

namespace qf {
namespace {

// What `launch` writes in a 16-bit type is `expected` rounded.
template <class Type, class Launch>
void expect_rounded(const std::vector<float>& expected, const Launch& launch) {
  const DeviceArray<Bits16> out(poison_bits(static_cast<std::int64_t>(expected.size())));
  ASSERT_EQ(launch(device_values<Type>(out)), cudaSuccess);
  EXPECT_EQ(out.host(), narrowed<Type>(expected)) << Type::kName;
}

TEST(CudaDequantize, Nvfp4IsTheCpusBits) {
  for (const auto& [rows, cols] : kShapes) {
    for (const bool real_scales : {false, true}) {
      const auto codes = random_bytes(rows * cols / 2);
      const auto scales = random_bytes(rows * cols / 16, true);
      std::vector<float> scales_f32(scales.begin(), scales.end());
      const DeviceArray<std::uint8_t> device_codes(codes), device_scales(scales);
      const DeviceArray<float> device_scales_f32(scales_f32), out(poison(rows * cols));
      const Nvfp4View host{codes.data(),
                           real_scales ? nullptr : scales.data(),
                           real_scales ? scales_f32.data() : nullptr,
                           0.0123F,
                           rows,
                           cols};
      Nvfp4View device = host;
      device.codes = device_codes.get();
      device.scales_e4m3 = real_scales ? nullptr : device_scales.get();
      device.scales_f32 = real_scales ? device_scales_f32.get() : nullptr;
      ASSERT_EQ(cuda::dequantize_nvfp4(device, out.get(), nullptr), cudaSuccess);
      auto expected = poison(rows * cols);
      dequantize_nvfp4(host, {0, rows}, expected.data());
      EXPECT_TRUE(same_bits(out.host(), expected)) << rows << " x " << cols;
      const auto launch = [&](auto* y) { return cuda::dequantize_nvfp4(device, y, nullptr); };
      expect_rounded<HalfType>(expected, launch);
      expect_rounded<Bf16Type>(expected, launch);
    }
  }
}

TEST(CudaDequantize, SeveralWeightsInOneLaunchAreThoseOfOneEach) {
  struct Weight {
    explicit Weight(const Shape& shape)
        : codes(random_bytes(shape.rows * shape.cols / 2)),
          scales(random_bytes(shape.rows * shape.cols / 16, true)),
          alone(poison(shape.rows * shape.cols)),
          together(poison(shape.rows * shape.cols)),
          view{codes.get(), scales.get(), nullptr, 0.0321F, shape.rows, shape.cols} {}
    DeviceArray<std::uint8_t> codes, scales;
    DeviceArray<float> alone, together;
    Nvfp4View view;
  };
  std::vector<std::unique_ptr<Weight>> weights;
  std::vector<cuda::DequantizeJob<float>> jobs;
  for (const Shape& shape : kShapes) {
    weights.push_back(std::make_unique<Weight>(shape));
    const Weight& w = *weights.back();
    ASSERT_EQ(cuda::dequantize_nvfp4(w.view, w.alone.get(), nullptr), cudaSuccess);
    jobs.push_back({w.view, w.together.get()});
  }
  const auto count = static_cast<int>(jobs.size());
  ASSERT_EQ(cuda::dequantize_nvfp4(jobs.data(), count, nullptr), cudaSuccess);
  for (const auto& w : weights) EXPECT_TRUE(same_bits(w->together.host(), w->alone.host()));
  EXPECT_EQ(cuda::dequantize_nvfp4(jobs.data(), 0, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(cuda::dequantize_nvfp4(jobs.data(), cuda::kDequantizeMostJobs + 1, nullptr),
            cudaErrorInvalidValue);
  jobs.back().out = nullptr;
  jobs.back().weight.rows = 0;
  EXPECT_EQ(cuda::dequantize_nvfp4(jobs.data(), count, nullptr), cudaErrorInvalidValue);
}

TEST(CudaDequantize, Nf4IsTheCpusBits) {
  std::vector<float> book;
  for (int i = 0; i < 16; ++i) book.push_back(static_cast<float>(i) * 0.13F - 1.0F);
  for (const auto& [rows, cols] : kShapes) {
    for (const std::int64_t block : {64, 4096}) {
      const auto codes = random_bytes(rows * cols / 2);
      const auto bytes = random_bytes((rows * cols + block - 1) / block);
      const std::vector<float> absmax(bytes.begin(), bytes.end());
      const DeviceArray<std::uint8_t> device_codes(codes);
      const DeviceArray<float> device_absmax(absmax), device_book(book), out(poison(rows * cols));
      const Nf4View host{codes.data(), absmax.data(), book.data(), block, rows, cols};
      const Nf4View device{
          device_codes.get(), device_absmax.get(), device_book.get(), block, rows, cols};
      ASSERT_EQ(cuda::dequantize_nf4(device, out.get(), nullptr), cudaSuccess);
      auto expected = poison(rows * cols);
      dequantize_nf4(host, {0, rows}, expected.data());
      EXPECT_TRUE(same_bits(out.host(), expected)) << rows << " x " << cols << " by " << block;
      const auto launch = [&](auto* y) { return cuda::dequantize_nf4(device, y, nullptr); };
      expect_rounded<HalfType>(expected, launch);
      expect_rounded<Bf16Type>(expected, launch);
    }
  }
}

TEST(CudaDequantize, RefusesWhatItCannotDo) {
  float* out = nullptr;
  const Nvfp4View odd{nullptr, nullptr, nullptr, 1, 4, 24};
  EXPECT_EQ(cuda::dequantize_nvfp4(odd, out, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(cuda::dequantize_nf4({nullptr, nullptr, nullptr, 63, 2, 2}, out, nullptr),
            cudaErrorInvalidValue);
  EXPECT_EQ(cuda::dequantize_nf4({nullptr, nullptr, nullptr, 64, 3, 3}, out, nullptr),
            cudaErrorInvalidValue);
}

TEST(CudaDequantize, Speed) {
  constexpr std::int64_t kRows = 9728, kCols = 2560 * 4;
  const DeviceArray<std::uint8_t> codes(random_bytes(kRows * kCols / 2)),
      scales(random_bytes(kRows * kCols / 16, true));
  const DeviceArray<float> absmax(poison(kRows * kCols / 64)), book(poison(16)),
      out(poison(kRows * kCols)), copy(poison(kRows * kCols));
  const double elements = static_cast<double>(kRows * kCols);
  std::printf("| kernel (%lld x %lld) | bytes | median | rate |\n|---|---|---|---|\n",
              static_cast<long long>(kRows), static_cast<long long>(kCols));
  report("device copy", elements * 8, [&] {
    ASSERT_EQ(cudaMemcpyAsync(copy.get(), out.get(), kRows * kCols * 4, cudaMemcpyDeviceToDevice),
              cudaSuccess);
  });
  report("dequantize_nvfp4", elements * (4 + 0.5 + 1.0 / 16), [&] {
    ASSERT_EQ(cuda::dequantize_nvfp4({codes.get(), scales.get(), nullptr, 0.01F, kRows, kCols},
                                     out.get(), nullptr),
              cudaSuccess);
  });
  report("dequantize_nf4", elements * (4 + 0.5 + 4.0 / 64), [&] {
    ASSERT_EQ(cuda::dequantize_nf4({codes.get(), absmax.get(), book.get(), 64, kRows, kCols},
                                   out.get(), nullptr),
              cudaSuccess);
  });
}

}  // namespace
}  // namespace qf
