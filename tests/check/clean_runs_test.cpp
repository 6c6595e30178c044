#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

#include "qwen3fp4/check/ab_check.h"
#include "random_model.h"

namespace qf {
namespace {

using test::random_ids;
using test::RandomModel;

constexpr WeightFormat kFormats[] = {WeightFormat::kNvfp4, WeightFormat::kNf4, WeightFormat::kF32,
                                     WeightFormat::kBF16};

std::string describe(const AbReport& report) {
  std::string text = report.finding ? report.finding->module + ": " + report.finding->evidence : "";
  for (const auto* taps : {&report.isolated, &report.chained}) {
    for (const TapResult& tap : *taps) {
      if (!tap.within()) {
        text += fmt::format("\n{} {} misfit {} relative L2 {} bound {}",
                            taps == &report.isolated ? "isolated" : "chained", tap.module,
                            tap.misfit, tap.statistics.relative_l2, tap.bound);
      }
    }
  }
  return text;
}

// A hundred runs each. Bounds are derived in doc/ab_check.md; nothing here was used to choose them.
class HundredCleanRuns : public ::testing::TestWithParam<std::uint32_t> {};

TEST_P(HundredCleanRuns, RaiseNoAlarm) {
  const auto paths = shipped_paths();
  std::mt19937 random(20261124 + GetParam());
  double worst_isolated = 0;
  double worst_chained = 0;
  for (std::uint32_t run = 100 * GetParam(); run < 100 * (GetParam() + 1); ++run) {
    const RandomModel random_model{.seed = run,
                                   .layers = 1 + static_cast<std::int64_t>(random() % 3),
                                   .format = kFormats[random() % 4]};
    const Qwen3Model model = random_model.make();
    const auto ids = random_ids(model, 1 + static_cast<std::int64_t>(random() % 9), run);
    const PathSpec& path = paths[run % paths.size()];
    const AbReport report = ab_check({.model = &model, .path = {.backend = "reference"}},
                                     {.model = &model, .path = path}, ids, {.seed = run});
    ASSERT_FALSE(report.finding) << "run " << run << ", " << path_text(path) << describe(report);
    ASSERT_FALSE(report.isolated.empty());
    ASSERT_EQ(report.isolated.size(), report.chained.size());
    for (const TapResult& tap : report.isolated) {
      worst_isolated = std::max(worst_isolated, tap.misfit);
    }
    for (const TapResult& tap : report.chained) worst_chained = std::max(worst_chained, tap.misfit);
  }
  RecordProperty("worst_isolated_misfit", std::to_string(worst_isolated));
  RecordProperty("worst_chained_misfit", std::to_string(worst_chained));
}

INSTANTIATE_TEST_SUITE_P(First, HundredCleanRuns, ::testing::Range(0U, 2U));
// The rest of a thousand: --gtest_also_run_disabled_tests, for who changes a bound.
INSTANTIATE_TEST_SUITE_P(DISABLED_Rest, HundredCleanRuns, ::testing::Range(2U, 10U));

TEST(CleanRuns, AnyPathMayBeTheReference) {
  const Qwen3Model model = RandomModel{.seed = 7, .layers = 2}.make();
  const auto ids = random_ids(model, 6, 7);
  const auto paths = shipped_paths();
  for (std::size_t a = 0; a < paths.size(); ++a) {
    for (const std::size_t distance : {1, 2, 5, 16}) {
      const PathSpec& b = paths[(a + distance) % paths.size()];
      const AbReport report =
          ab_check({.model = &model, .path = paths[a]}, {.model = &model, .path = b}, ids, {});
      EXPECT_FALSE(report.finding)
          << path_text(paths[a]) << " and " << path_text(b) << describe(report);
    }
  }
}

TEST(CleanRuns, TheSameModelInTwoFormatsDiffersByItsFormats) {
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    const Qwen3Model dense = RandomModel{.seed = seed, .format = WeightFormat::kF32}.make();
    const auto ids = random_ids(dense, 8, seed);
    for (const WeightFormat format : kFormats) {
      const Qwen3Model other = RandomModel{.seed = seed, .format = format}.make();
      const AbReport report = ab_check({.model = &dense, .path = {.backend = "reference"}},
                                       {.model = &other, .path = {.backend = "cpu"}}, ids, {});
      EXPECT_FALSE(report.finding) << weight_format_name(format) << describe(report);
    }
  }
}

// Training without STE, on the weights before they were quantised, against training with it and
// against inference.
TEST(CleanRuns, WithoutSteTrainingDiffersByTheFormat) {
  for (std::uint32_t seed = 0; seed < 12; ++seed) {
    const Qwen3Model master = RandomModel{.seed = seed, .format = WeightFormat::kF32}.make();
    const WeightFormat format = seed % 4 == 3 ? WeightFormat::kNf4 : WeightFormat::kNvfp4;
    const Qwen3Model packed = RandomModel{.seed = seed, .format = format}.make();
    const ComputeDtype dtype = seed % 2 == 0 ? ComputeDtype::kF32 : ComputeDtype::kBF16;
    const AbSide off{.model = &master,
                     .path = {.backend = "cpu", .dtype = dtype, .ste = Ste::kOff}};
    const AbSide on{.model = &packed, .path = {.backend = "cpu", .dtype = dtype, .ste = Ste::kOn}};
    const AbSide inference{.model = &packed, .path = {.backend = "reference"}};
    const auto ids = random_ids(packed, 1 + seed % 9, seed);
    for (const AbSide* a : {&on, &inference}) {
      const AbReport report = ab_check(*a, off, ids, {.seed = seed});
      EXPECT_FALSE(report.finding) << path_text(a->path) << describe(report);
    }
    // Other weights than those that were quantised.
    Qwen3Model other = master;
    other.replace_weight(1, "mlp.up_proj",
                         WeightMatrix::dense(other.weight(1, "mlp.up_proj").dequantize().flip(0)));
    const AbSide wrong{.model = &other, .path = off.path};
    const AbReport report = ab_check(on, wrong, ids, {.mode = AbMode::kIsolated});
    ASSERT_TRUE(report.finding);
    EXPECT_EQ(report.finding->module, "model.layers.1.mlp.up_proj");
  }
}

TEST(CleanRuns, NormsOfTwoTypesDifferByTheirRounding) {
  for (std::uint32_t seed = 0; seed < 5; ++seed) {
    const Qwen3Model wide = RandomModel{.seed = seed}.make();
    const Qwen3Model narrow = RandomModel{.seed = seed, .bf16_norms = true}.make();
    const auto ids = random_ids(wide, 8, seed);
    const AbSide a{.model = &wide, .path = {.backend = "reference"}};
    const AbSide b{.model = &narrow, .path = {.backend = "cpu"}};
    const AbReport report = ab_check(a, b, ids, {});
    EXPECT_FALSE(report.finding) << describe(report);
    const auto injection = parse_injection("norm-skipped:1:post_attention_layernorm", narrow, 0);
    const AbSide skipped{.model = &narrow, .path = {.backend = "cpu"}, .injection = &injection};
    const AbReport found = ab_check(a, skipped, ids, {.mode = AbMode::kIsolated});
    ASSERT_TRUE(found.finding);
    EXPECT_EQ(found.finding->module, "model.layers.1.post_attention_layernorm");
  }
}

}  // namespace
}  // namespace qf
