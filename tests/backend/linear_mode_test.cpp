// What --linear selects: which products a backend computes, and that they are the ones it names.
// Shapes in this file: T tokens, I/O the linear's input and output features.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "qwen3fp4/backend/cuda.h"
#include "qwen3fp4/backend/emulated.h"
#include "qwen3fp4/backend/reference.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/kernels/cpu/quantize_activations.h"
#include "qwen3fp4/quant/quantize.h"
#include "qwen3fp4/quant/scale_tiles.h"

namespace qf {
namespace {

constexpr double kEps = std::numeric_limits<float>::epsilon();
constexpr LinearMode kModes[] = {LinearMode::kW4A16, LinearMode::kW4A4, LinearMode::kReference};

std::vector<WeightMatrix> weights_of_every_format(std::int64_t outputs, std::int64_t inputs) {
  const auto dense_OI = at::randn({outputs, inputs}) * 0.05;
  const auto packed = quantize_nvfp4(dense_OI, {});
  return {packed,
          WeightMatrix::nvfp4(packed.codes(), at::rand({outputs, inputs / 16}), 0.3F),
          quantize_nf4(dense_OI),
          WeightMatrix::dense(dense_OI),
          WeightMatrix::dense(dense_OI.to(at::kHalf)),
          WeightMatrix::dense(dense_OI.to(at::kBFloat16))};
}

// |x| |w|^T: what an error of one rounding each is relative to.
at::Tensor magnitudes(const at::Tensor& x_TI, const at::Tensor& w_OI) {
  return at::mm(x_TI.abs().to(at::kDouble), w_OI.abs().to(at::kDouble).t());
}

TEST(LinearMode, IsTheBackendsAndHasTheNameOfItsOption) {
  for (const LinearMode mode : kModes) {
    EXPECT_EQ(make_backend("cpu", ComputeDtype::kF32, mode)->linear_mode(), mode);
    EXPECT_EQ(make_backend("cpu", ComputeDtype::kBF16, mode)->linear_mode(), mode);
  }
  EXPECT_EQ(make_backend("reference")->linear_mode(), LinearMode::kReference);
  EXPECT_EQ(make_backend("reference", ComputeDtype::kF32, LinearMode::kW4A4)->linear_mode(),
            LinearMode::kW4A4);
  EXPECT_EQ(linear_mode_name(LinearMode::kW4A16), "w4a16");
  EXPECT_EQ(linear_mode_name(LinearMode::kW4A4), "w4a4");
  EXPECT_EQ(linear_mode_name(LinearMode::kReference), "reference");
}

TEST(LinearMode, IsInTheDescription) {
  const auto description = [](LinearMode mode) {
    return make_backend("cpu", ComputeDtype::kF32, mode)->description();
  };
  EXPECT_THAT(description(LinearMode::kW4A16), testing::HasSubstr("straight from packed weights"));
  EXPECT_THAT(description(LinearMode::kW4A4),
              testing::AllOf(testing::HasSubstr("emulated"), testing::HasSubstr("w4a4")));
  EXPECT_THAT(description(LinearMode::kReference),
              testing::AllOf(testing::StartsWith("cpu: "), testing::HasSubstr("the reference's")));
}

TEST(LinearMode, ReferenceOnTheCpuIsTheReferenceBackendsProductBitForBit) {
  at::manual_seed(2);
  const ReferenceBackend reference;
  const auto cpu = make_backend("cpu", ComputeDtype::kF32, LinearMode::kReference);
  const auto fused = make_backend("cpu");
  bool differs = false;
  for (const WeightMatrix& weight : weights_of_every_format(136, 96)) {
    for (const std::int64_t tokens : {1, 4, 33}) {
      const auto x_TI = at::randn({tokens, 96});
      EXPECT_TRUE(at::equal(cpu->linear(x_TI, weight), reference.linear(x_TI, weight)))
          << weight_format_name(weight.format()) << ", " << tokens << " tokens";
      differs = differs || !at::equal(fused->linear(x_TI, weight), reference.linear(x_TI, weight));
    }
  }
  EXPECT_TRUE(differs) << "w4a16 sums in the same order: this test cannot tell the two apart";
}

TEST(LinearMode, W4A4QuantisesForNvfp4WeightsOnly) {
  at::manual_seed(3);
  const auto plain = make_backend("cpu");
  const auto w4a4 = make_backend("cpu", ComputeDtype::kF32, LinearMode::kW4A4);
  const auto x_TI = at::randn({3, 96});
  const auto quantised_TI = QuantisedActivations(x_TI).dequantize();
  for (const WeightMatrix& weight : weights_of_every_format(40, 96)) {
    const bool nvfp4 = weight.format() == WeightFormat::kNvfp4;
    EXPECT_TRUE(
        at::equal(w4a4->linear(x_TI, weight), plain->linear(nvfp4 ? quantised_TI : x_TI, weight)))
        << weight_format_name(weight.format());
    EXPECT_EQ(at::equal(w4a4->linear(x_TI, weight), plain->linear(x_TI, weight)), !nvfp4);
  }
}

// The bytes that the `cuda` backend gives to cuBLASLt, multiplied here: codes, tiles of both
// operands, alpha, and the tokens' scales on the result. In whatever order, sums of n products err
// by n eps of their magnitudes at most, here and in the emulated product.
TEST(LinearMode, TheBytesOfADevicesW4A4GiveTheEmulatedProduct) {
  at::manual_seed(4);
  constexpr std::int64_t kTokens = 133, kInputs = 160, kOutputs = 200;
  const auto weight = quantize_nvfp4(at::randn({kOutputs, kInputs}) * 0.02, {});
  const auto tiled = WeightMatrix::nvfp4_tiled(weight.codes(), scale_tiles(weight.scales()),
                                               weight.global_scale());
  const auto x_TI = at::randn({kTokens, kInputs}) * at::exp2(at::randint(-9, 9, {kTokens, 1}));
  std::vector<std::uint8_t> codes(kTokens * kInputs / 2);
  std::vector<std::uint8_t> tiles(
      static_cast<std::size_t>(scale_tiles_bytes(kTokens, kInputs / 16)), 0x7F);
  std::vector<float> token_scales(kTokens);
  quantize_activations({x_TI.const_data_ptr<float>(), kTokens, kInputs},
                       {codes.data(), tiles.data(), token_scales.data()});
  auto y_TO = at::empty({kTokens, kOutputs});
  fp4_gemm_f32({{codes.data(), tiles.data(), kTokens, kInputs},
                tiled.scaled_fp4_view(),
                tiled.global_scale()},
               y_TO.mutable_data_ptr<float>());
  y_TO = y_TO * at::tensor(token_scales).unsqueeze(1);

  const auto emulated = make_backend("cpu", ComputeDtype::kF32, LinearMode::kW4A4);
  const auto bound = magnitudes(QuantisedActivations(x_TI).dequantize(), weight.dequantize()) *
                     (2 * (kInputs + 2) * kEps);
  EXPECT_TRUE(((emulated->linear(x_TI, weight) - y_TO).abs() <= bound).all().item<bool>());
}

bool has_cuda() { return no_cuda_reason().empty(); }

// What make_backend() says of w4a4 on this machine's GPU; empty where it has FP4 tensor cores.
std::string w4a4_refusal() {
  try {
    (void)make_backend("cuda", ComputeDtype::kF16, LinearMode::kW4A4);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    return error.what();
  }
  return "";
}

TEST(LinearModeOnAGpu, W4A4OnAnOlderDeviceSaysWhatItIsAndWhatItTakes) {
  if (!has_cuda()) GTEST_SKIP() << no_cuda_reason();
  const std::string refusal = w4a4_refusal();
  if (refusal.empty()) GTEST_SKIP() << "this device has FP4 tensor cores";
  const auto description = make_backend("cuda")->description();  // "cuda: NAME (compute ..."
  const auto name = description.substr(6, description.find(" (compute") - 6);
  EXPECT_THAT(refusal, testing::AllOf(testing::StartsWith("--linear w4a4 on " + name + ": "),
                                      testing::HasSubstr("10.0 or newer"),
                                      testing::HasSubstr("auto, w4a16 and reference")));
}

TEST(LinearModeOnAGpu, W4A4IsTheEmulatedProduct) {
  if (!has_cuda()) GTEST_SKIP() << no_cuda_reason();
  const std::string refusal = w4a4_refusal();
  if (!refusal.empty()) GTEST_SKIP() << refusal;
  at::manual_seed(5);
  const auto emulated = make_backend("cpu", ComputeDtype::kF32, LinearMode::kW4A4);
  for (const ComputeDtype dtype : {ComputeDtype::kF32, ComputeDtype::kBF16, ComputeDtype::kF16}) {
    const auto cuda = make_backend("cuda", dtype, LinearMode::kW4A4);
    EXPECT_EQ(cuda->linear_mode(), LinearMode::kW4A4);
    EXPECT_THAT(cuda->description(), testing::HasSubstr("w4a4"));
    // Of 16-bit results half a step of the type.
    const double step = dtype == ComputeDtype::kF32   ? 0
                        : dtype == ComputeDtype::kF16 ? 0x1p-11
                                                      : 0x1p-8;
    const auto weight = quantize_nvfp4(at::randn({264, 160}) * 0.05, {});
    const auto placed = cuda->place(weight);
    for (const std::int64_t tokens : {1, 3, 130}) {
      SCOPED_TRACE(std::string(dtype_name(dtype)) + ", " + std::to_string(tokens));
      const auto x_TI = at::randn({tokens, 160});
      const auto expected = emulated->linear(x_TI, weight);
      const auto bound = magnitudes(QuantisedActivations(x_TI).dequantize(), weight.dequantize()) *
                             (2 * 162 * kEps) +
                         expected.abs() * step;
      const auto on_device = x_TI.to(cuda->device());
      const auto both = cuda->linears(on_device, {&placed, &placed});
      for (const auto& y_TO :
           {cuda->linear(on_device, placed), both[0], both[1], cuda->logits(on_device, placed)}) {
        EXPECT_TRUE(((y_TO.to(at::kCPU, at::kFloat) - expected).abs() <= bound).all().item<bool>());
      }
    }
    const auto ids = at::tensor({0, 129, 263}, at::kLong);
    EXPECT_TRUE(at::equal(cuda->embed(ids, placed).cpu(), weight.gather_rows(ids)));
  }
}

TEST(LinearModeOnAGpu, ReferenceMultipliesUnpackedWeightsInFp32) {
  if (!has_cuda()) GTEST_SKIP() << no_cuda_reason();
  at::manual_seed(6);
  for (const ComputeDtype dtype : {ComputeDtype::kF32, ComputeDtype::kBF16, ComputeDtype::kF16}) {
    const auto cuda = make_backend("cuda", dtype, LinearMode::kReference);
    EXPECT_EQ(cuda->linear_mode(), LinearMode::kReference);
    for (const WeightMatrix& weight : weights_of_every_format(264, 192)) {
      const auto placed = cuda->place(weight);
      for (const std::int64_t tokens : {1, 8, 130}) {
        const auto x_TI = at::randn({tokens, 192});
        // logits() of f32 activations is in f32 whatever the type of the others' results.
        const auto y_TO = cuda->logits(x_TI.to(cuda->device()), placed).cpu();
        const auto exact = at::mm(x_TI.to(at::kDouble), weight.dequantize().to(at::kDouble).t());
        const auto bound = magnitudes(x_TI, weight.dequantize()) * (192 * kEps);
        EXPECT_TRUE(((y_TO.to(at::kDouble) - exact).abs() <= bound).all().item<bool>())
            << weight_format_name(weight.format()) << ", " << tokens << " tokens, "
            << dtype_name(dtype);
      }
    }
  }
}

}  // namespace
}  // namespace qf
