// Shapes in this file: T tokens, I/O the linear's input and output features.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "qwen3fp4/backend/cpu.h"
#include "qwen3fp4/backend/reference.h"
#include "qwen3fp4/quant/parallel.h"
#include "qwen3fp4/quant/quantize.h"

namespace qf {
namespace {

struct Implementation {
  std::string name;
  std::shared_ptr<Backend> backend;
};
void PrintTo(const Implementation& implementation, std::ostream* out) {
  *out << implementation.name;
}

std::vector<Implementation> implementations() {
  std::vector<Implementation> all{{"Reference", std::make_shared<ReferenceBackend>()}};
  if (cpu_supports(CpuIsa::kPortable)) {
    all.push_back({"CpuPortable", std::make_shared<CpuBackend>(CpuIsa::kPortable)});
  }
  if (cpu_supports(CpuIsa::kAvx2)) {
    all.push_back({"CpuAvx2", std::make_shared<CpuBackend>(CpuIsa::kAvx2)});
  }
  if (cpu_supports(CpuIsa::kAvx512)) {
    all.push_back({"CpuAvx512", std::make_shared<CpuBackend>(CpuIsa::kAvx512)});
  }
  return all;
}

at::Tensor random(at::IntArrayRef shape, std::int64_t seed) {
  return at::randn(shape,
                   at::make_generator<at::CPUGeneratorImpl>(static_cast<std::uint64_t>(seed)),
                   at::kFloat);
}

// A weight in every format that can hold the shape.
std::vector<WeightMatrix> weights(std::int64_t outputs, std::int64_t inputs) {
  const auto dense_OI = random({outputs, inputs}, outputs * 1000 + inputs) * 0.05;
  std::vector<WeightMatrix> all{WeightMatrix::dense(dense_OI),
                                WeightMatrix::dense(dense_OI.to(at::kHalf)),
                                WeightMatrix::dense(dense_OI.to(at::kBFloat16))};
  if (outputs * inputs % 2 == 0) all.push_back(quantize_nf4(dense_OI));
  if (inputs % 16 == 0) {
    all.push_back(quantize_nvfp4(dense_OI, {}));
    all.push_back(quantize_nvfp4(dense_OI, {.search = false, .two_level = false}));
    const auto packed = quantize_nvfp4(dense_OI, {});
    const auto scales = at::rand({outputs, inputs / 16}) - 0.5;  // real scales, signs and all
    all.push_back(WeightMatrix::nvfp4(packed.codes(), scales, 0.3F));
  }
  return all;
}

// NF4 in blocks other than 64, which end anywhere in a row.
WeightMatrix nf4_in_blocks(std::int64_t outputs, std::int64_t inputs, std::int64_t block) {
  const std::int64_t count = outputs * inputs;
  return WeightMatrix::nf4(at::randint(256, {count / 2}, at::kByte),
                           at::rand({(count + block - 1) / block}), at::randn({16}), outputs,
                           inputs, block);
}

// Summing n products in fp32, in any order, errs by at most n * eps * sum |x_i w_i|: twice what the
// sum itself needs, which leaves room for applying the scales after it.
void expect_product(const at::Tensor& y_TO, const at::Tensor& x_TI, const WeightMatrix& weight) {
  const auto x = x_TI.to(at::kDouble);
  const auto w = weight.dequantize().to(at::kDouble).t();
  const auto bound = at::mm(x.abs(), w.abs()) * static_cast<double>(weight.in_features()) *
                     static_cast<double>(std::numeric_limits<float>::epsilon());
  const auto error = (y_TO.to(at::kDouble) - at::mm(x, w)).abs();
  EXPECT_TRUE((error <= bound).all().item<bool>())
      << weight_format_name(weight.format()) << " [" << weight.out_features() << ", "
      << weight.in_features() << "] with " << x_TI.size(0) << " tokens: largest error is "
      << (error / bound).max().item<double>() << " of the bound";
}

class LinearTest : public testing::TestWithParam<Implementation> {};
INSTANTIATE_TEST_SUITE_P(Backends, LinearTest, testing::ValuesIn(implementations()),
                         [](const auto& instance) { return instance.param.name; });

constexpr std::int64_t kTokens[] = {1, 2, 3, 4, 5, 8, 65};

TEST_P(LinearTest, IsTheProductWithTheDequantisedWeight) {
  for (const std::int64_t outputs : {1, 7, 33}) {
    for (const std::int64_t inputs : {16, 48, 64, 112, 128, 144, 320, 1040}) {
      for (const auto& weight : weights(outputs, inputs)) {
        for (const std::int64_t tokens : kTokens) {
          const auto x_TI = random({tokens, inputs}, tokens);
          const auto y_TO = GetParam().backend->linear(x_TI, weight);
          ASSERT_EQ(y_TO.sizes(), at::IntArrayRef({tokens, outputs}));
          expect_product(y_TO, x_TI, weight);
        }
      }
    }
  }
}

TEST_P(LinearTest, TakesMoreRowsThanATileOrATaskHolds) {
  for (const auto& weight : weights(300, 544)) {
    for (const std::int64_t tokens : {2, 9}) {
      const auto x_TI = random({tokens, 544}, tokens);
      expect_product(GetParam().backend->linear(x_TI, weight), x_TI, weight);
    }
  }
}

TEST_P(LinearTest, TakesColumnsThatFillNoVector) {
  for (const std::int64_t inputs : {1, 2, 6, 15, 17, 31, 66, 130}) {
    for (const auto& weight : weights(4, inputs)) {
      for (const std::int64_t tokens : kTokens) {
        const auto x_TI = random({tokens, inputs}, tokens);
        expect_product(GetParam().backend->linear(x_TI, weight), x_TI, weight);
      }
    }
  }
}

TEST_P(LinearTest, TakesNf4BlocksOfEverySize) {
  for (const std::int64_t block : {2, 32, 64, 128, 256, 4096}) {
    for (const std::int64_t inputs : {32, 64, 96, 192, 256, 320}) {
      const auto weight = nf4_in_blocks(5, inputs, block);
      for (const std::int64_t tokens : {1, 4, 5}) {
        const auto x_TI = random({tokens, inputs}, tokens);
        expect_product(GetParam().backend->linear(x_TI, weight), x_TI, weight);
      }
    }
  }
}

TEST_P(LinearTest, ReadsEveryCodeAndEveryScaleByte) {
  // Row r has the scale byte r; its 16 columns hold every code. One-hot x reads one weight exactly.
  const auto codes = at::tensor({0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE}, at::kByte);
  const auto weight = WeightMatrix::nvfp4(codes.expand({256, 8}).contiguous(),
                                          at::arange(256, at::kByte).view({256, 1}), 0.5F);
  const auto finite = at::ones({256}, at::kBool);
  finite[0x7F] = false;
  finite[0xFF] = false;
  const auto dense_OI = weight.dequantize();
  for (std::int64_t i = 0; i < 16; ++i) {
    const auto x_TI = at::zeros({1, 16});
    x_TI[0][i] = 1.0F;
    const auto y_O = GetParam().backend->linear(x_TI, weight)[0];
    EXPECT_TRUE(at::equal(y_O.index({finite}), dense_OI.select(1, i).index({finite}))) << i;
    EXPECT_TRUE(y_O.index({finite.logical_not()}).isnan().all().item<bool>()) << i;
  }
}

TEST_P(LinearTest, TakesStridedInputsAndInferenceMode) {
  for (const auto& weight : weights(10, 64)) {
    for (const std::int64_t tokens : {3, 6}) {
      const auto x_TI = random({64, tokens}, 2).t();
      expect_product(GetParam().backend->linear(x_TI, weight), x_TI, weight);
      const c10::InferenceMode inference;
      const auto made_here_TI = x_TI * 2;
      expect_product(GetParam().backend->linear(made_here_TI, weight), made_here_TI, weight);
    }
  }
}

TEST_P(LinearTest, TakesNoTokens) {
  for (const auto& weight : weights(10, 64)) {
    const auto y_TO = GetParam().backend->linear(at::zeros({0, 64}), weight);
    EXPECT_EQ(y_TO.sizes(), at::IntArrayRef({0, 10}));
  }
}

TEST_P(LinearTest, RefusesAnInputOfAnotherShapeOrType) {
  const auto weight = quantize_nf4(random({10, 64}, 1));
  const auto& backend = *GetParam().backend;
  EXPECT_THROW(static_cast<void>(backend.linear(at::zeros({1, 63}), weight)), c10::Error);
  EXPECT_THROW(static_cast<void>(backend.linear(at::zeros({64}), weight)), c10::Error);
  EXPECT_THROW(static_cast<void>(backend.linear(at::zeros({1, 64}, at::kDouble), weight)),
               c10::Error);
}

class CpuThreadsTest : public LinearTest {
 protected:
  ~CpuThreadsTest() override { set_parallel_threads(threads_); }

 private:
  int threads_ = parallel_threads();
};
std::vector<Implementation> cpu_implementations() {
  auto all = implementations();
  all.erase(all.begin());
  return all;
}
INSTANTIATE_TEST_SUITE_P(Backends, CpuThreadsTest, testing::ValuesIn(cpu_implementations()),
                         [](const auto& instance) { return instance.param.name; });

TEST_P(CpuThreadsTest, TheNumberOfThreadsChangesNoBit) {
  for (const auto& weight : weights(517, 512)) {
    for (const std::int64_t tokens : {1, 4, 65}) {
      const auto x_TI = random({tokens, 512}, tokens);
      set_parallel_threads(1);
      const auto alone = GetParam().backend->linear(x_TI, weight);
      for (const int threads : {2, 3, 7}) {
        set_parallel_threads(threads);
        EXPECT_TRUE(at::equal(GetParam().backend->linear(x_TI, weight), alone))
            << weight_format_name(weight.format()) << ", " << tokens << " tokens, " << threads
            << " threads";
      }
    }
  }
}

}  // namespace
}  // namespace qf
