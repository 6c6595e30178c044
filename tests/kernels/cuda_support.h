#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
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

// Median of 20 runs.
template <class Launch>
double median_seconds(const Launch& launch) {
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
  cudaEventDestroy(start);
  cudaEventDestroy(stop);
  std::sort(times.begin(), times.end());
  return times[times.size() / 2] / 1e3;
}

// With the bytes that must move.
template <class Launch>
void report(const char* name, double bytes, const Launch& launch) {
  const double seconds = median_seconds(launch);
  const double rate = bytes / seconds / 1e9;
  std::printf("| %s | %.1f MB | %.1f us | %.0f GB/s, %.0f %% of the peak |\n", name, bytes / 1e6,
              seconds * 1e6, rate, 100 * rate / peak_rate());
}

// 16-bit values by their bits.
using Bits16 = std::uint16_t;
inline float float_of_bf16(Bits16 bits) {
  // The upper half of an f32.
  const std::uint32_t word = std::uint32_t{bits} << 16U;
  float value = 0;
  std::memcpy(&value, &word, sizeof value);
  return value;
}
inline Bits16 bf16_of_float(float value) {
  std::uint32_t word = 0;
  std::memcpy(&word, &value, sizeof word);
  return static_cast<Bits16>((word + 0x7FFFU + (word >> 16U & 1U)) >> 16U);
}
inline float float_of_half(Bits16 bits) {
  __half value;
  std::memcpy(&value, &bits, sizeof bits);
  return __half2float(value);
}
inline Bits16 half_of_float(float value) {
  const __half half = __float2half_rn(value);
  Bits16 bits = 0;
  std::memcpy(&bits, &half, sizeof bits);
  return bits;
}

// The kernels' 16-bit types and what their values round to.
struct HalfType {
  using Value = __half;
  static constexpr const char* kName = "fp16";
  static Bits16 bits(float value) { return half_of_float(value); }
  static float value(Bits16 bits) { return float_of_half(bits); }
};
struct Bf16Type {
  using Value = __nv_bfloat16;
  static constexpr const char* kName = "bf16";
  static Bits16 bits(float value) { return bf16_of_float(value); }
  static float value(Bits16 bits) { return float_of_bf16(bits); }
};
template <class Type>
std::vector<Bits16> narrowed(const std::vector<float>& values) {
  std::vector<Bits16> out;
  for (const float value : values) out.push_back(Type::bits(value));
  return out;
}
template <class Type>
std::vector<float> widened(const std::vector<Bits16>& values) {
  std::vector<float> out;
  for (const Bits16 value : values) out.push_back(Type::value(value));
  return out;
}
template <class Type>
typename Type::Value* device_values(const DeviceArray<Bits16>& array) {
  return reinterpret_cast<typename Type::Value*>(array.get());
}
inline std::vector<Bits16> poison_bits(std::int64_t count) {
  return std::vector<Bits16>(static_cast<std::size_t>(count), 0x7E55);  // NaN, a huge bf16
}

inline std::vector<float> random_floats(std::int64_t count) {
  std::normal_distribution<float> normal;
  std::vector<float> out(static_cast<std::size_t>(count));
  for (float& value : out) value = normal(random_source());
  return out;
}

}  // namespace qf
