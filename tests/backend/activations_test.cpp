// The kernels' W4A4 activations and the emulated backend's, which is written in tensor operations.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "qwen3fp4/backend/emulated.h"
#include "qwen3fp4/kernels/cpu/quantize_activations.h"

namespace qf {
namespace {

TEST(QuantisedActivations, AreTheKernelsBits) {
  at::manual_seed(1);
  constexpr std::int64_t kTokens = 130, kCols = 160, kBlocks = kCols / 16;
  auto x = at::randn({kTokens, kCols}) *
           at::exp2(at::randint(-20, 20, {kTokens, kCols / 16}).repeat_interleave(16, 1));
  x[3].zero_();
  x[4].mul_(1e-42);
  x[5][7] = std::numeric_limits<float>::infinity();
  x[6][159] = std::numeric_limits<float>::quiet_NaN();
  const QuantisedActivations expected(x);

  std::vector<std::uint8_t> codes(kTokens * kCols / 2);
  std::vector<std::uint8_t> tiles(static_cast<std::size_t>(scale_tiles_bytes(kTokens, kBlocks)));
  std::vector<std::uint8_t> scales(kTokens * kBlocks);
  std::vector<float> token_scales(kTokens);
  quantize_activations({x.const_data_ptr<float>(), kTokens, kCols},
                       {codes.data(), tiles.data(), token_scales.data()});
  from_scale_tiles(tiles.data(), kTokens, kBlocks, scales.data());

  const auto bytes = [](const std::vector<std::uint8_t>& values) {
    return at::tensor(at::ArrayRef<std::uint8_t>(values), at::kByte);
  };
  EXPECT_TRUE(at::equal(bytes(codes), expected.blocks.codes().flatten()));
  EXPECT_TRUE(at::equal(bytes(scales), expected.blocks.scales().flatten()));
  EXPECT_TRUE(at::allclose(at::tensor(token_scales), expected.scale_T1.flatten(), 0, 0,
                           /*equal_nan=*/true));
}

}  // namespace
}  // namespace qf
