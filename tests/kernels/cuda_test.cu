// The CUDA kernels against the CPU's, bit for bit, on fresh random data. Needs a GPU (label gpu).
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "qwen3fp4/kernels/cpu/dequantize.h"
#include "qwen3fp4/kernels/cuda/dequantize.h"

namespace qf {
namespace {

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& host) : count_(host.size()) {
    EXPECT_EQ(cudaMalloc(&data_, count_ * sizeof(T)), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(data_, host.data(), count_ * sizeof(T), cudaMemcpyHostToDevice),
              cudaSuccess);
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() { cudaFree(data_); }
  T* get() const { return data_; }
  std::vector<T> host() const {
    std::vector<T> out(count_);
    EXPECT_EQ(cudaMemcpy(out.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost),
              cudaSuccess);
    return out;
  }

 private:
  T* data_ = nullptr;
  std::size_t count_;
};

std::vector<std::uint8_t> random_bytes(std::int64_t count, bool nan_free_scales = false) {
  static std::mt19937 random(std::random_device{}());
  std::vector<std::uint8_t> out(static_cast<std::size_t>(count));
  for (auto& byte : out) {
    byte = static_cast<std::uint8_t>(random());
    if (nan_free_scales && (byte & 0x7F) == 0x7F) byte = 0;
  }
  return out;
}

// Poisoned, so that an element which no thread wrote shows.
std::vector<float> poison(std::int64_t count) {
  return std::vector<float>(static_cast<std::size_t>(count), -12345.0F);
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

struct Shape {
  std::int64_t rows, cols;
};
const Shape kShapes[] = {{1, 16}, {7, 48}, {33, 2560}, {257, 1008}, {1024, 4096}};

// Median of 20 runs, with the bytes that must move.
template <class Launch>
void report(const char* name, double bytes, const Launch& launch) {
  std::vector<float> times;
  cudaEvent_t start{}, stop{};
  cudaEventCreate(&start);
  cudaEventCreate(&stop);
  for (int i = 0; i < 23; ++i) {
    cudaEventRecord(start);
    launch();
    cudaEventRecord(stop);
    cudaEventSynchronize(stop);
    float ms = 0;
    cudaEventElapsedTime(&ms, start, stop);
    if (i >= 3) times.push_back(ms);
  }
  std::sort(times.begin(), times.end());
  const double seconds = times[times.size() / 2] / 1e3;
  std::printf("| %s | %.1f MB | %.1f us | %.0f GB/s |\n", name, bytes / 1e6, seconds * 1e6,
              bytes / seconds / 1e9);
  cudaEventDestroy(start);
  cudaEventDestroy(stop);
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
    }
  }
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
