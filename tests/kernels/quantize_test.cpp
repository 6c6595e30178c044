#include "qwen3fp4/kernels/cpu/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "golden.h"
#include "isas.h"
#include "qwen3fp4/kernels/cpu/dequantize.h"
#include "qwen3fp4/kernels/fp4.h"

namespace qf {
namespace {

struct Quantised {
  std::vector<std::uint8_t> codes, scales;
};

Quantised quantise(const DenseView& weight, const Nvfp4Rule& rule, CpuIsa isa) {
  const auto count = static_cast<std::size_t>(weight.rows * weight.cols);
  Quantised q{std::vector<std::uint8_t>(count / 2), std::vector<std::uint8_t>(count / 16)};
  quantize_nvfp4(weight, rule, {q.codes.data(), q.scales.data()}, isa);
  return q;
}

float tensor_amax(const std::vector<float>& weight, CpuIsa isa) {
  return absolute_max(weight.data(), static_cast<std::int64_t>(weight.size()), isa);
}

class Quantise : public testing::TestWithParam<CpuIsa> {};
INSTANTIATE_TEST_SUITE_P(Isa, Quantise, testing::ValuesIn(supported_isas()), isa_test_name);

TEST_P(Quantise, PlainTwoLevelNvfp4EqualsTorchaoBitForBit) {
  const auto cases = golden_nvfp4();
  ASSERT_GE(cases.size(), 20U);
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    const float scale = nvfp4_global_scale(tensor_amax(c.weight, GetParam()));
    EXPECT_EQ(scale, c.global_scale);
    const auto q = quantise({c.weight.data(), c.rows, c.cols}, {scale, false, nullptr}, GetParam());
    EXPECT_EQ(q.scales, c.scales);
    EXPECT_EQ(q.codes, c.codes);
  }
}

TEST_P(Quantise, PlainSingleLevelNvfp4EqualsTorchaoBitForBit) {
  for (const auto& c : golden_nvfp4()) {
    SCOPED_TRACE(c.name);
    const auto q = quantise({c.weight.data(), c.rows, c.cols}, {1.0F, false, nullptr}, GetParam());
    EXPECT_EQ(q.scales, c.single_scales);
    EXPECT_EQ(q.codes, c.single_codes);
    std::vector<float> dequantised(c.weight.size());
    dequantize_nvfp4({q.codes.data(), q.scales.data(), nullptr, 1.0F, c.rows, c.cols}, {0, c.rows},
                     dequantised.data(), GetParam());
    EXPECT_EQ(bits_of(dequantised), bits_of(c.single_dequantised));
  }
}

TEST_P(Quantise, Nf4EqualsBitsandbytesBitForBit) {
  const auto cases = golden_nf4();
  ASSERT_GE(cases.size(), 30U);
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name + ", " + std::to_string(c.rows) + " rows");
    const auto count = static_cast<std::int64_t>(c.weight.size());
    std::vector<std::uint8_t> codes(c.weight.size() / 2);
    std::vector<float> absmax(c.absmax.size());
    quantize_nf4(c.weight.data(), count, codes.data(), absmax.data(), GetParam());
    EXPECT_EQ(codes, c.codes);
    EXPECT_EQ(bits_of(absmax), bits_of(c.absmax));

    std::vector<float> book(16);
    for (unsigned i = 0; i < 16; ++i) book[i] = nf4_to_float(i);
    std::vector<float> dequantised(c.weight.size());
    dequantize_nf4({codes.data(), absmax.data(), book.data(), kNf4Block, c.rows, c.cols},
                   {0, c.rows}, dequantised.data());
    EXPECT_EQ(bits_of(dequantised), bits_of(c.dequantised));
  }
}

}  // namespace
}  // namespace qf
