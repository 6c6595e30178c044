#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <vector>

#include "../model/golden.h"
#include "../run/tiny_model.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/check/ab_check.h"
#include "qwen3fp4/run/dump.h"
#include "random_model.h"

namespace qf {
namespace {

using ::testing::HasSubstr;

// Against what transformers computed (tools/make_model_fixtures.py).
class ActivationFiles : public ::testing::TestWithParam<std::string> {
 protected:
  [[nodiscard]] std::filesystem::path taps() const {
    return kGoldenModels / GetParam() / "taps.safetensors";
  }
  [[nodiscard]] Qwen3Model load() const {
    const auto folder = kGoldenModels / GetParam();
    return Qwen3Model::load(ModelConfig::from_file(folder / "config.json"),
                            DatReader(folder / "model.dat"), test::reference_backend());
  }
};

TEST_P(ActivationFiles, OfTransformersCompareClean) {
  const Qwen3Model model = load();
  for (const PathSpec& path : shipped_paths()) {
    const AbReport report = ab_check_file({.model = &model, .path = path}, taps(), {});
    EXPECT_FALSE(report.finding) << path_text(path) << report.finding->module;
    EXPECT_GE(report.isolated.size(), 2U * 14 + 3);
    EXPECT_EQ(report.isolated.size(), report.chained.size());
    EXPECT_EQ(report.chained.back().module, "lm_head");
  }
}

TEST_P(ActivationFiles, NameTheLayerOfOneChangedWeight) {
  for (const std::int64_t layer : {0, 1}) {
    for (const std::string_view module : kLayerLinears) {
      Qwen3Model model = load();
      auto values = model.weight(layer, module).dequantize().clone();
      values[5][3] += 0.1;
      model.replace_weight(layer, module, WeightMatrix::dense(values));
      const AbReport report =
          ab_check_file({.model = &model, .path = {.backend = "cpu"}}, taps(), {});
      ASSERT_TRUE(report.finding);
      EXPECT_EQ(report.finding->module, fmt::format("model.layers.{}.{}", layer, module));
      EXPECT_EQ(report.finding->layer, layer);
      EXPECT_EQ(report.finding->fault_class, FaultClass::kWeights);
      EXPECT_THAT(report.finding->evidence, HasSubstr("output features deviate (5)"));
    }
  }
}

TEST_P(ActivationFiles, ThatLackTapsServeTheChainedModeOnly) {
  test::TemporaryFolder folder;
  const Qwen3Model model = load();
  const std::vector<std::int64_t> ids{1, 2, 3};
  NameFilter outputs("--taps", "module", R"(layers\.\d+$)");
  dump(model, ids, outputs, folder.path() / "outputs.safetensors");
  const AbSide side{.model = &model, .path = {.backend = "cpu", .schedule = Schedule::kToken}};
  const auto file = folder.path() / "outputs.safetensors";
  const AbReport report = ab_check_file(side, file, {.mode = AbMode::kChained});
  EXPECT_FALSE(report.finding);
  EXPECT_EQ(report.chained.size(), 3U);  // two layers and the logits
  try {
    (void)ab_check_file(side, file, {});
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("model.embed_tokens"));
    EXPECT_THAT(error.what(), HasSubstr("--mode chained"));
  }
}

TEST_P(ActivationFiles, ThatAreNoneAreRefused) {
  const Qwen3Model model = load();
  for (const char* name : {"expected.dat", "model.dat", "absent"}) {
    EXPECT_THROW((void)ab_check_file({.model = &model}, kGoldenModels / GetParam() / name, {}),
                 Error);
  }
}

INSTANTIATE_TEST_SUITE_P(Golden, ActivationFiles,
                         ::testing::Values("qwen3_tied_gqa4", "llama_tied_gqa3"));

}  // namespace
}  // namespace qf
