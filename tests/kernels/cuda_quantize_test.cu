// Quantising on the device against the CPU's bits, on fresh random data. Needs a GPU (label gpu).
#include <cuda_bf16.h>

#include <limits>
#include <string>

#include "cuda_support.h"
#include "qwen3fp4/kernels/cuda/quantize.h"
#include "qwen3fp4/kernels/fp4.h"
#include "wild_floats.h"

namespace qf {
namespace {

// The same values on the host as f32, and on the device as f32 or bf16.
class Values {
 public:
  // Values lose their low halves, so that bf16 holds them.
  explicit Values(std::vector<float> values)
      : host_(std::move(values)), device_bf16_(to_bf16(host_)), device_f32_(host_) {}
  const std::vector<float>& host() const { return host_; }
  const float* f32() const { return device_f32_.get(); }
  const __nv_bfloat16* bf16() const {
    return reinterpret_cast<const __nv_bfloat16*>(device_bf16_.get());
  }

 private:
  std::vector<float> host_;
  DeviceArray<std::uint16_t> device_bf16_;  // before the next: it rounds host_
  DeviceArray<float> device_f32_;
};

std::vector<std::uint8_t> bytes(std::int64_t count) {
  return std::vector<std::uint8_t>(static_cast<std::size_t>(count), 0xA5);
}

TEST(CudaQuantize, AbsoluteMaxIsTheCpus) {
  for (const std::int64_t count : {1, 31, 257, 100000, 3000000}) {
    auto host = wild_floats(random_source(), count);
    for (const bool finite : {true, false}) {
      if (!finite) host[static_cast<std::size_t>(count - 1)] = -INFINITY;
      const Values values(host);
      const DeviceArray<float> f32(poison(1)), bf16(poison(1));
      ASSERT_EQ(cuda::absolute_max(values.f32(), count, f32.get(), nullptr), cudaSuccess);
      ASSERT_EQ(cuda::absolute_max(values.bf16(), count, bf16.get(), nullptr), cudaSuccess);
      EXPECT_EQ(f32.host()[0], absolute_max(values.host().data(), count));
      EXPECT_EQ(bf16.host()[0], f32.host()[0]);
    }
  }
}

template <class T>
void expect_nvfp4(const Values& values, const T* device, const Shape& shape,
                  const Nvfp4Rule& host_rule, const Nvfp4Rule& device_rule) {
  auto codes = bytes(shape.rows * shape.cols / 2), scales = bytes(shape.rows * shape.cols / 16);
  const DeviceArray<std::uint8_t> device_codes(codes), device_scales(scales);
  ASSERT_EQ(cuda::quantize_nvfp4(cuda::Matrix<T>{device, shape.rows, shape.cols}, device_rule,
                                 {device_codes.get(), device_scales.get()}, nullptr),
            cudaSuccess);
  quantize_nvfp4({values.host().data(), shape.rows, shape.cols}, host_rule,
                 {codes.data(), scales.data()});
  EXPECT_EQ(device_scales.host(), scales);
  EXPECT_EQ(device_codes.host(), codes);
}

TEST(CudaQuantize, Nvfp4IsTheCpusBits) {
  for (const Shape& shape : kShapes) {
    const Values values(wild_floats(random_source(), shape.rows * shape.cols));
    std::vector<float> weights = random_floats(shape.cols);
    for (float& w : weights) w *= w;
    const DeviceArray<float> device_weights(weights);
    const float two_level = nvfp4_global_scale(
        absolute_max(values.host().data(), static_cast<std::int64_t>(values.host().size())));
    for (const float global : {1.0F, two_level}) {
      for (const bool search : {false, true}) {
        for (const bool weighted : {false, true}) {
          SCOPED_TRACE(std::to_string(shape.rows) + " x " + std::to_string(shape.cols) +
                       (search ? ", search" : "") + (weighted ? ", weighted" : ""));
          const Nvfp4Rule host{global, search, weighted ? weights.data() : nullptr};
          const Nvfp4Rule device{global, search, weighted ? device_weights.get() : nullptr};
          expect_nvfp4(values, values.f32(), shape, host, device);
          expect_nvfp4(values, values.bf16(), shape, host, device);
        }
      }
    }
  }
}

template <class T>
void expect_nf4(const std::vector<float>& host, const T* device) {
  const auto count = static_cast<std::int64_t>(host.size());
  auto codes = bytes(count / 2);
  auto absmax = poison((count + kNf4Block - 1) / kNf4Block);
  const DeviceArray<std::uint8_t> device_codes(codes);
  const DeviceArray<float> device_absmax(absmax);
  ASSERT_EQ(cuda::quantize_nf4(device, count, {device_codes.get(), device_absmax.get()}, nullptr),
            cudaSuccess);
  quantize_nf4(host.data(), count, codes.data(), absmax.data());
  EXPECT_TRUE(same_bits(device_absmax.host(), absmax));
  EXPECT_EQ(device_codes.host(), codes);
}

TEST(CudaQuantize, Nf4IsTheCpusBits) {
  for (const std::int64_t count : {2, 62, 64, 66, 510, 512, 33 * 2560 + 10, 4194304}) {
    SCOPED_TRACE(count);
    auto host = wild_floats(random_source(), count);
    for (const bool zeros : {false, true}) {
      // The last block, short or not, of zeros.
      for (std::int64_t i = (count - 1) / 64 * 64; zeros && i < count; ++i) {
        host[static_cast<std::size_t>(i)] = 0;
      }
      const Values values(host);
      expect_nf4(values.host(), values.f32());
      expect_nf4(values.host(), values.bf16());
    }
  }
}

// Values next to the borders between codes tell a product with the reciprocal from a division,
// which the last, shorter block takes.
TEST(CudaQuantize, Nf4RoundsAsTheCpuDoesAtTheBordersBetweenCodes) {
  constexpr std::int64_t kCount = 64 + 62;
  for (int round = 0; round < 50; ++round) {
    auto host = random_floats(kCount);
    for (std::size_t i = 0; i < host.size(); ++i) {
      if (i % 64 != 0) host[i] = nf4_border(i % 15) * std::abs(host[i / 64 * 64]);
    }
    const DeviceArray<float> device(host);
    expect_nf4(host, device.get());
  }
}

template <class T>
void expect_activations(const Values& values, const T* device, const Shape& shape) {
  auto codes = bytes(shape.rows * shape.cols / 2),
       tiles = bytes(scale_tiles_bytes(shape.rows, shape.cols / 16));
  auto scales = poison(shape.rows);
  const DeviceArray<std::uint8_t> device_codes(codes), device_tiles(tiles);
  const DeviceArray<float> device_scales(scales);
  ASSERT_EQ(cuda::quantize_activations(
                cuda::Matrix<T>{device, shape.rows, shape.cols},
                {device_codes.get(), device_tiles.get(), device_scales.get()}, nullptr),
            cudaSuccess);
  quantize_activations({values.host().data(), shape.rows, shape.cols},
                       {codes.data(), tiles.data(), scales.data()});
  EXPECT_TRUE(same_bits(device_scales.host(), scales));
  EXPECT_EQ(device_tiles.host(), tiles);  // the padding's zeros too
  EXPECT_EQ(device_codes.host(), codes);
}

TEST(CudaQuantize, ActivationsAreTheCpusBitsInTiles) {
  for (const Shape& shape :
       {Shape{1, 16}, Shape{3, 80}, Shape{128, 64}, Shape{129, 2560}, Shape{300, 9728}}) {
    SCOPED_TRACE(std::to_string(shape.rows) + " x " + std::to_string(shape.cols));
    auto host = wild_floats(random_source(), shape.rows * shape.cols);
    if (shape.rows > 2) {
      host[static_cast<std::size_t>(shape.cols)] = std::numeric_limits<float>::quiet_NaN();
      host[static_cast<std::size_t>(3 * shape.cols - 1)] = INFINITY;
    }
    const Values values(host);
    expect_activations(values, values.f32(), shape);
    expect_activations(values, values.bf16(), shape);
  }
}

TEST(CudaQuantize, RefusesWhatItCannotDo) {
  const DeviceArray<float> x(random_floats(128)), amax(poison(8));
  const DeviceArray<std::uint8_t> codes(bytes(64)), scales(bytes(512));
  const auto nvfp4 = [&](const float* values, std::int64_t rows, std::int64_t cols) {
    return cuda::quantize_nvfp4(cuda::Matrix<float>{values, rows, cols}, {1, false, nullptr},
                                {codes.get(), scales.get()}, nullptr);
  };
  EXPECT_EQ(nvfp4(x.get(), 2, 64), cudaSuccess);
  EXPECT_EQ(nvfp4(x.get(), 2, 40), cudaErrorInvalidValue);
  EXPECT_EQ(nvfp4(x.get(), 0, 64), cudaErrorInvalidValue);
  EXPECT_EQ(nvfp4(x.get() + 1, 1, 64), cudaErrorInvalidValue);
  const cuda::Nf4Output nf4{codes.get(), amax.get()};
  EXPECT_EQ(cuda::quantize_nf4(x.get(), 63, nf4, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(cuda::quantize_nf4(x.get(), 0, nf4, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(cuda::absolute_max(x.get(), 0, amax.get(), nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(cuda::quantize_activations(cuda::Matrix<float>{x.get(), 2, 24},
                                       {codes.get(), scales.get(), amax.get()}, nullptr),
            cudaErrorInvalidValue);
}

TEST(CudaQuantize, Speed) {
  constexpr std::int64_t kRows = 9728, kCols = 2560 * 4;
  const DeviceArray<float> x(random_floats(kRows * kCols)), amax(poison(kRows * kCols / 64));
  const DeviceArray<std::uint8_t> codes(bytes(kRows * kCols / 2)),
      scales(bytes(kRows * kCols / 16));
  const double elements = static_cast<double>(kRows * kCols);
  std::printf("| quantise %lld x %lld f32 | bytes | median | rate |\n|---|---|---|---|\n",
              static_cast<long long>(kRows), static_cast<long long>(kCols));
  report("absolute_max", elements * 4, [&] {
    ASSERT_EQ(cuda::absolute_max(x.get(), kRows * kCols, amax.get(), nullptr), cudaSuccess);
  });
  for (const bool search : {false, true}) {
    report(search ? "quantize_nvfp4, search" : "quantize_nvfp4, plain",
           elements * (4 + 0.5 + 1.0 / 16), [&] {
             ASSERT_EQ(cuda::quantize_nvfp4(cuda::Matrix<float>{x.get(), kRows, kCols},
                                            {0.001F, search, nullptr}, {codes.get(), scales.get()},
                                            nullptr),
                       cudaSuccess);
           });
  }
  report("quantize_nf4", elements * (4 + 0.5 + 4.0 / 64), [&] {
    ASSERT_EQ(cuda::quantize_nf4(x.get(), kRows * kCols, {codes.get(), amax.get()}, nullptr),
              cudaSuccess);
  });
  // Activations of a long prompt and of one token.
  for (const std::int64_t tokens : {2048, 1}) {
    report(("quantize_activations, " + std::to_string(tokens) + " x 9728 f32").c_str(),
           static_cast<double>(tokens) * 9728 * (4 + 0.5 + 1.0 / 16), [&] {
             ASSERT_EQ(cuda::quantize_activations(cuda::Matrix<float>{x.get(), tokens, 9728},
                                                  {codes.get(), scales.get(), amax.get()}, nullptr),
                       cudaSuccess);
           });
  }
}

}  // namespace
}  // namespace qf
