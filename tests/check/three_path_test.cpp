// The first token by inference, with STE and without.
#include "qwen3fp4/check/three_path.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/model/kv_cache.h"
#include "random_model.h"

namespace qf {
namespace {

using test::random_ids;
using test::RandomModel;

constexpr WeightFormat kFormats[] = {WeightFormat::kNvfp4, WeightFormat::kNf4, WeightFormat::kF32,
                                     WeightFormat::kBF16};

AbSide side(const Qwen3Model& model, const PathSpec& path) {
  return {.model = &model, .path = path, .name = path_text(path)};
}

AbSide training(const Qwen3Model& model, Ste ste, ComputeDtype dtype = ComputeDtype::kF32) {
  return side(model, {.backend = "cpu", .dtype = dtype, .ste = ste});
}

TEST(ThreePath, AllInferenceAgreesWithTraining) {
  std::uint32_t seed = 100;
  for (const PathSpec& path : shipped_paths()) {
    // Activations in 4 bits differ by more than a test of rounding could tell; the chained bound
    // allows it, and that is checked where all paths are.
    if (path.trains() || path.linear == LinearMode::kW4A4) continue;
    const ComputeDtype dtype = ++seed % 2 == 0 ? ComputeDtype::kF32 : ComputeDtype::kBF16;
    const Qwen3Model model = RandomModel{.seed = seed, .format = kFormats[seed / 2 % 4]}.make();
    const auto ids = random_ids(model, 1 + seed % 9, seed);
    const auto report = three_path(
        {.inference = side(model, path), .ste = training(model, Ste::kOn, dtype)}, ids, {}, seed);
    EXPECT_TRUE(report.within()) << path_text(path) << " seed " << seed << " misfit "
                                 << report.misfit << (report.finding ? report.finding->module : "");
    EXPECT_GT(report.bound, 0);
    ASSERT_EQ(report.paths.size(), 2U);
    ASSERT_EQ(report.pairs.size(), 1U);
  }
}

// The oracle is the definition, written once more.
TEST(ThreePath, FiguresAreThoseOfTheLogits) {
  const Qwen3Model master = RandomModel{.seed = 3, .format = WeightFormat::kF32}.make();
  const Qwen3Model model = RandomModel{.seed = 3}.make();
  const auto ids = random_ids(model, 7, 3);
  const auto report = three_path({.inference = side(model, {.backend = "reference"}),
                                  .ste = training(model, Ste::kOn),
                                  .no_ste = training(master, Ste::kOff)},
                                 ids, {}, 0);
  const auto last_logits = [&](const Qwen3Model& of) {
    KvCache cache(of.config(), 7);
    return of.logits(of.forward(ids, cache).narrow(0, 6, 1)).view({-1}).to(at::kDouble);
  };
  const auto inference = last_logits(model);
  const auto unquantised = last_logits(master);

  ASSERT_EQ(report.paths.size(), 3U);
  EXPECT_EQ(report.paths[0].route, "inference");
  EXPECT_EQ(report.paths[1].route, "STE");
  EXPECT_EQ(report.paths[2].route, "no STE");
  const auto probabilities = at::softmax(inference, 0);
  ASSERT_EQ(std::ssize(report.paths[0].top), kTopTokens);
  for (std::size_t rank = 0; rank < report.paths[0].top.size(); ++rank) {
    const RankedToken& token = report.paths[0].top[rank];
    EXPECT_EQ((inference > inference[token.id]).sum().item<std::int64_t>(),
              static_cast<std::int64_t>(rank));
    EXPECT_NEAR(token.logit, inference[token.id].item<double>(), 1e-6);
    EXPECT_NEAR(token.probability, probabilities[token.id].item<double>(), 1e-9);
  }
  EXPECT_EQ(report.paths[0].chosen, report.paths[0].top[0].id);
  EXPECT_EQ(report.paths[2].chosen, unquantised.argmax().item<std::int64_t>());

  const auto p = at::softmax(inference, 0);
  const auto q = at::softmax(unquantised, 0);
  ASSERT_EQ(report.pairs.size(), 3U);
  const FirstTokenPair& pair = report.pairs[1];
  EXPECT_EQ(pair.first, 0U);
  EXPECT_EQ(pair.second, 2U);
  EXPECT_NEAR(pair.kl, (p * (p / q).log()).sum().item<double>(), 1e-6);
  EXPECT_NEAR(pair.kl_back, (q * (q / p).log()).sum().item<double>(), 1e-6);
  EXPECT_NE(pair.kl, pair.kl_back);
  EXPECT_NEAR(pair.relative_l2,
              ((inference - unquantised).norm() / unquantised.norm()).item<double>(), 1e-6);
  std::int64_t common = 0;
  for (const RankedToken& a : report.paths[0].top) {
    for (const RankedToken& b : report.paths[2].top) common += a.id == b.id ? 1 : 0;
  }
  EXPECT_EQ(pair.overlap, common);
  EXPECT_LT(common, kTopTokens);
  EXPECT_EQ(report.pairs[0].overlap, kTopTokens);
  EXPECT_NEAR(report.misfit, report.pairs[0].relative_l2 / report.bound, 1e-12);
  EXPECT_TRUE(report.within());
}

TEST(ThreePath, InferenceOfOtherWeightsDisagrees) {
  const Qwen3Model model = RandomModel{.seed = 4, .format = WeightFormat::kF32}.make();
  Qwen3Model other = model;
  other.replace_weight(1, "mlp.up_proj",
                       WeightMatrix::dense(model.weight(1, "mlp.up_proj").dequantize() * 1.01));
  const auto ids = random_ids(model, 6, 4);
  const auto report = three_path(
      {.inference = side(other, {.backend = "cpu"}), .ste = training(model, Ste::kOn)}, ids, {}, 0);
  EXPECT_FALSE(report.within());
  EXPECT_GT(report.misfit, 1);
  ASSERT_TRUE(report.finding);
  EXPECT_EQ(report.finding->module, "model.layers.1.mlp.up_proj");
  // Training without STE may differ as much as it likes.
  const auto informed = three_path({.inference = side(model, {.backend = "cpu"}),
                                    .ste = training(model, Ste::kOn),
                                    .no_ste = training(other, Ste::kOff)},
                                   ids, {}, 0);
  EXPECT_TRUE(informed.within());
  EXPECT_GT(informed.pairs[1].relative_l2, informed.bound);
}

TEST(ThreePath, OnlyWhatMayBeChosenIs) {
  const Qwen3Model model = RandomModel{.seed = 5}.make();
  const auto ids = random_ids(model, 5, 5);
  const ThreePaths paths{.inference = side(model, {.backend = "cpu"}),
                         .ste = training(model, Ste::kOn)};
  const auto free = three_path(paths, ids, {}, 0);
  std::vector<bool> allowed(static_cast<std::size_t>(model.config().vocab_size), true);
  allowed[static_cast<std::size_t>(free.paths[0].top[0].id)] = false;
  const auto bound = three_path(paths, ids, allowed, 0);
  EXPECT_EQ(bound.paths[0].top[0].id, free.paths[0].top[0].id);
  EXPECT_EQ(bound.paths[0].chosen, free.paths[0].top[1].id);
}

TEST(ThreePath, LogitsThatAreNotFiniteAreNoAgreement) {
  const Qwen3Model model = RandomModel{.seed = 6, .format = WeightFormat::kF32}.make();
  Qwen3Model broken = model;
  auto values = model.weight(0, "mlp.down_proj").dequantize().clone();
  values[1][1] = std::numeric_limits<float>::quiet_NaN();
  broken.replace_weight(0, "mlp.down_proj", WeightMatrix::dense(values));
  const auto ids = random_ids(model, 5, 6);
  const auto report =
      three_path({.inference = side(broken, {.backend = "cpu"}), .ste = training(model, Ste::kOn)},
                 ids, {}, 0);
  EXPECT_FALSE(report.within());
  EXPECT_FALSE(report.paths[0].finite);
  EXPECT_EQ(report.paths[0].chosen, -1);
  EXPECT_TRUE(report.paths[1].finite);
  EXPECT_TRUE(std::isnan(report.pairs[0].kl));
  ASSERT_TRUE(report.finding);
  EXPECT_EQ(report.finding->module, "model.layers.0.mlp.down_proj");
  try {
    (void)three_path(
        {.inference = side(broken, {.backend = "cpu"}), .ste = training(broken, Ste::kOn)}, ids, {},
        0);
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kNonFinite);
  }
}

}  // namespace
}  // namespace qf
