// Block-scaled FP4 products against the emulated ones, on fresh random data, where the device has
// FP4 tensor cores; what others answer. Needs a GPU (label gpu).
#include <cstring>
#include <string>

#include "cuda_support.h"
#include "fp4_gemm_case.h"
#include "qwen3fp4/kernels/cuda/fp4_gemm.h"
#include "qwen3fp4/kernels/cuda/quantize.h"

namespace qf {
namespace {

using cuda::Fp4GemmStatus;
using Kind = Fp4GemmStatus::Kind;

int compute_capability() {
  int major = 0, minor = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0);
  return 10 * major + minor;
}

std::uint16_t half_bits(float value) {
  const __half half = __float2half_rn(value);
  std::uint16_t bits = 0;
  std::memcpy(&bits, &half, sizeof bits);
  return bits;
}

float from_bf16(std::uint16_t bits) { return float_from_bits(std::uint32_t{bits} << 16); }

// An operand's bytes on the device.
struct DeviceOperand {
  DeviceArray<std::uint8_t> codes, tiles;
  std::int64_t rows, cols;
  explicit DeviceOperand(const Fp4Operand& host)
      : codes(host.codes), tiles(host.tiles), rows(host.rows), cols(host.cols) {}
  ScaledFp4View view() const { return {codes.get(), tiles.get(), rows, cols}; }
};

constexpr std::int64_t kWorkspaceBytes = 32 << 20;

TEST(CudaFp4Gemm, NamesTheComputeCapabilityThatIsMissing) {
  const auto hopper = cuda::fp4_gemm_supported(9, 0);
  EXPECT_EQ(hopper.kind, Kind::kDeviceTooOld);
  EXPECT_EQ(cuda::message(hopper),
            "w4a4 needs compute capability 10.0 or newer (FP4 tensor cores), found 9.0");
  EXPECT_EQ(cuda::message(cuda::fp4_gemm_supported(8, 6)).substr(64), "found 8.6");
  for (const int major : {10, 12}) {
    const Kind kind = cuda::fp4_gemm_supported(major, 1).kind;
    EXPECT_TRUE(kind == Kind::kDone || kind == Kind::kNotBuilt);
  }
}

TEST(CudaFp4Gemm, RefusesShapesAndPointersThatCublasltDoesNotTake) {
  alignas(16) std::uint8_t bytes[32] = {};
  const auto takes = [&](std::int64_t tokens, std::int64_t outs, std::int64_t ins, int shift) {
    return cuda::fp4_gemm_takes(
        {{bytes + shift, bytes, tokens, ins}, {bytes, bytes, outs, ins}, 1});
  };
  EXPECT_TRUE(takes(1, 8, 32, 0).done());
  EXPECT_EQ(takes(1, 8, 48, 0).kind, Kind::kShape);
  EXPECT_EQ(takes(1, 12, 32, 0).found, 12);
  EXPECT_EQ(takes(0, 8, 32, 0).kind, Kind::kShape);
  EXPECT_EQ(takes(1, 8, 32, 8).kind, Kind::kAlignment);
}

TEST(CudaFp4Gemm, OlderDevicesSayWhatTheyLack) {
  const int found = compute_capability();
  if (found >= 100) GTEST_SKIP() << "this device has FP4 tensor cores";
  const DeviceOperand x(Fp4Operand(random_source(), 1, 32)), w(Fp4Operand(random_source(), 8, 32));
  const DeviceArray<float> y(poison(8));
  cuda::Fp4Gemm gemm;
  EXPECT_EQ(gemm.open().kind, Kind::kDeviceTooOld);
  const auto status = gemm.run({x.view(), w.view(), 1}, y.get(), {nullptr, 0}, nullptr);
  EXPECT_EQ(status.kind, Kind::kDeviceTooOld);
  EXPECT_EQ(status.found, found);
}

TEST(CudaFp4Gemm, IsTheEmulatedProduct) {
  cuda::Fp4Gemm gemm;
  const auto opened = gemm.open();
  if (opened.kind == Kind::kDeviceTooOld || opened.kind == Kind::kNotBuilt) {
    GTEST_SKIP() << cuda::message(opened);
  }
  ASSERT_TRUE(opened.done()) << cuda::message(opened);
  const DeviceArray<std::uint8_t> workspace{std::vector<std::uint8_t>(kWorkspaceBytes)};
  struct Product {
    std::int64_t tokens, out_features, in_features;
  };
  for (const auto& [tokens, outs, ins] :
       {Product{1, 8, 32}, Product{3, 136, 96}, Product{129, 264, 160}, Product{17, 1000, 2560}}) {
    SCOPED_TRACE(std::to_string(tokens) + " x " + std::to_string(outs) + " x " +
                 std::to_string(ins));
    const Fp4Operand x(random_source(), tokens, ins), w(random_source(), outs, ins);
    const DeviceOperand device_x(x), device_w(w);
    const Fp4Product host{x.view(), w.view(), 0.0123F};
    const Fp4Product device{device_x.view(), device_w.view(), 0.0123F};
    auto expected = poison(tokens * outs);
    fp4_gemm_f32(host, expected.data());
    const DeviceArray<float> y(poison(tokens * outs));
    const DeviceArray<std::uint16_t> y_bf16(std::vector<std::uint16_t>(expected.size(), 0x7FFF));
    for (int run = 0; run < 2; ++run) {  // the second from the cached algorithm
      auto status = gemm.run(device, y.get(), {workspace.get(), kWorkspaceBytes}, nullptr);
      ASSERT_TRUE(status.done()) << cuda::message(status);
      status = gemm.run(device, reinterpret_cast<__nv_bfloat16*>(y_bf16.get()),
                        {workspace.get(), kWorkspaceBytes}, nullptr);
      ASSERT_TRUE(status.done()) << cuda::message(status);
    }
    const auto out = y.host();
    const auto out_bf16 = y_bf16.host();
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (std::int64_t n = 0; n < outs; ++n) {
        const auto i = static_cast<std::size_t>(t * outs + n);
        // Sums in any order, also where additions truncate: 2^-23 each.
        const double bound = (static_cast<double>(ins) / 16 + 1) * 0x1p-23 *
                             exact_element(x, w, 0.0123F, t, n).magnitudes;
        ASSERT_NEAR(out[i], expected[i], 2 * bound);
        ASSERT_NEAR(from_bf16(out_bf16[i]), expected[i],
                    2 * bound + std::abs(expected[i]) * 0x1p-8);
      }
    }
  }
}

TEST(CudaFp4Gemm, ScalesRows) {
  for (const auto& [rows, cols] : kShapes) {
    const auto x = random_floats(rows * cols), scales = random_floats(rows);
    const DeviceArray<float> device_x(x), device_scales(scales), y(poison(rows * cols));
    const DeviceArray<std::uint16_t> y_bf16(std::vector<std::uint16_t>(x.size(), 0x7FFF));
    const DeviceArray<std::uint16_t> y_half(std::vector<std::uint16_t>(x.size(), 0x7FFF));
    const cuda::RowScaling scaling{device_x.get(), device_scales.get(), rows, cols};
    ASSERT_EQ(cuda::scale_rows(scaling, y.get(), nullptr), cudaSuccess);
    ASSERT_EQ(cuda::scale_rows(scaling, reinterpret_cast<__nv_bfloat16*>(y_bf16.get()), nullptr),
              cudaSuccess);
    ASSERT_EQ(cuda::scale_rows(scaling, reinterpret_cast<__half*>(y_half.get()), nullptr),
              cudaSuccess);
    const auto out = y.host();
    const auto out_bf16 = y_bf16.host();
    const auto out_half = y_half.host();
    for (std::size_t i = 0; i < out.size(); ++i) {
      ASSERT_EQ(out[i], x[i] * scales[i / static_cast<std::size_t>(cols)]);
      ASSERT_LE(std::abs(from_bf16(out_bf16[i]) - out[i]), std::abs(out[i]) * 0x1p-8F);
      ASSERT_EQ(half_bits(out[i]), out_half[i]);
    }
  }
  EXPECT_EQ(cuda::scale_rows({nullptr, nullptr, 0, 8}, static_cast<float*>(nullptr), nullptr),
            cudaErrorInvalidValue);
}

// Quantised activations times an NVFP4 weight: the device's bytes are what the product reads.
TEST(CudaFp4Gemm, TakesActivationsAsTheDeviceQuantisesThem) {
  constexpr std::int64_t kTokens = 5, kOuts = 16, kIns = 96;
  const auto x = random_floats(kTokens * kIns);
  const DeviceArray<float> device_x(x), scales(poison(kTokens));
  const DeviceArray<std::uint8_t> codes(std::vector<std::uint8_t>(kTokens * kIns / 2)),
      tiles(std::vector<std::uint8_t>(scale_tiles_bytes(kTokens, kIns / 16), 0x7F));
  ASSERT_EQ(cuda::quantize_activations(cuda::Matrix<float>{device_x.get(), kTokens, kIns},
                                       {codes.get(), tiles.get(), scales.get()}, nullptr),
            cudaSuccess);
  const auto host_codes = codes.host(), host_tiles = tiles.host();
  Fp4Operand w(random_source(), kOuts, kIns);
  w.scales.assign(w.scales.size(), 0x38);  // 1
  to_scale_tiles(w.scales.data(), kOuts, kIns / 16, w.tiles.data());
  std::vector<float> y(kTokens * kOuts);
  fp4_gemm_f32({{host_codes.data(), host_tiles.data(), kTokens, kIns}, w.view(), 1}, y.data());
  const auto token_scales = scales.host();
  double error = 0, size = 0;
  for (std::int64_t t = 0; t < kTokens; ++t) {
    for (std::int64_t n = 0; n < kOuts; ++n) {
      double exact = 0;
      for (std::int64_t k = 0; k < kIns; ++k) exact += x[t * kIns + k] * w.value(n, k);
      const double found = static_cast<double>(y[t * kOuts + n]) * token_scales[t];
      error += std::pow(found - exact, 2);
      size += std::pow(exact, 2);
    }
  }
  // NVFP4 of Gaussian values has a relative RMS error of 0.095 (doc/quantisation.md), and so have
  // their products; swapped nibbles or scales of other blocks would make it more than 1.
  EXPECT_LT(std::sqrt(error / size), 0.2);
  EXPECT_GT(std::sqrt(error / size), 0.02);
}

TEST(CudaFp4Gemm, Speed) {
  cuda::Fp4Gemm gemm;
  const auto opened = gemm.open();
  if (!opened.done()) GTEST_SKIP() << cuda::message(opened);
  const DeviceArray<std::uint8_t> workspace{std::vector<std::uint8_t>(kWorkspaceBytes)};
  constexpr std::int64_t kOuts = 9728, kIns = 2560;  // Qwen3-4B's gate_proj
  const DeviceOperand w(Fp4Operand(random_source(), kOuts, kIns));
  std::printf("| block-scaled FP4, %lld x %lld | bytes | median | rate |\n|---|---|---|---|\n",
              static_cast<long long>(kOuts), static_cast<long long>(kIns));
  for (const std::int64_t tokens : {1, 128, 2048, 8192}) {
    const DeviceOperand x(Fp4Operand(random_source(), tokens, kIns));
    const DeviceArray<std::uint16_t> y(
        std::vector<std::uint16_t>(static_cast<std::size_t>(tokens * kOuts)));
    const double packed = static_cast<double>((kOuts + tokens) * kIns) * (0.5 + 1.0 / 16);
    report(("fp4_gemm, " + std::to_string(tokens) + " tokens").c_str(),
           packed + 2.0 * static_cast<double>(tokens * kOuts), [&] {
             const auto status =
                 gemm.run({x.view(), w.view(), 1}, reinterpret_cast<__nv_bfloat16*>(y.get()),
                          {workspace.get(), kWorkspaceBytes}, nullptr);
             ASSERT_TRUE(status.done()) << cuda::message(status);
           });
  }
}

}  // namespace
}  // namespace qf
