#pragma once

#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

namespace qf {

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

inline std::mt19937& random_source() {
  static std::mt19937 random(std::random_device{}());
  return random;
}

inline std::vector<std::uint8_t> random_bytes(std::int64_t count, bool nan_free_scales = false) {
  std::mt19937& random = random_source();
  std::vector<std::uint8_t> out(static_cast<std::size_t>(count));
  for (auto& byte : out) {
    byte = static_cast<std::uint8_t>(random());
    if (nan_free_scales && (byte & 0x7F) == 0x7F) byte = 0;
  }
  return out;
}

// Poisoned, so that an element which no thread wrote shows.
inline std::vector<float> poison(std::int64_t count) {
  return std::vector<float>(static_cast<std::size_t>(count), -12345.0F);
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

struct Shape {
  std::int64_t rows, cols;
};
inline constexpr Shape kShapes[] = {{1, 16}, {7, 48}, {33, 2560}, {257, 1008}, {1024, 4096}};

// GB/s that the memory's clock and width allow.
inline double peak_rate() {
  int device = 0, khz = 0, bits = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&khz, cudaDevAttrMemoryClockRate, device);
  cudaDeviceGetAttribute(&bits, cudaDevAttrGlobalMemoryBusWidth, device);
  return 2.0 * khz * 1e3 * bits / 8 / 1e9;
}

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
  const double rate = bytes / seconds / 1e9;
  std::printf("| %s | %.1f MB | %.1f us | %.0f GB/s, %.0f %% of the peak |\n", name, bytes / 1e6,
              seconds * 1e6, rate, 100 * rate / peak_rate());
  cudaEventDestroy(start);
  cudaEventDestroy(stop);
}

inline std::vector<float> random_floats(std::int64_t count) {
  std::normal_distribution<float> normal;
  std::vector<float> out(static_cast<std::size_t>(count));
  for (float& value : out) value = normal(random_source());
  return out;
}

}  // namespace qf
