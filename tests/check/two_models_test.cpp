// What ab_check says about two models: weights that are not the same, and what both have wrong.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "qwen3fp4/check/ab_check.h"
#include "random_model.h"

namespace qf {
namespace {

using test::random_ids;
using test::RandomModel;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

const char* const kChanged = "mlp.down_proj";
const char* const kChangedTap = "model.layers.1.mlp.down_proj";

using Change = std::function<WeightMatrix(const WeightMatrix&)>;

Qwen3Model changed(const Qwen3Model& model, const Change& change) {
  Qwen3Model other = model;
  other.replace_weight(1, kChanged, change(model.weight(1, kChanged)));
  return other;
}

AbReport compare(const Qwen3Model& a, const Qwen3Model& b, const AbOptions& options = {}) {
  return ab_check({.model = &a, .path = {.backend = "reference"}},
                  {.model = &b, .path = {.backend = "cpu"}}, random_ids(a, 6, 3), options);
}

WeightMatrix with_scales(const WeightMatrix& weight, const at::Tensor& scales) {
  return WeightMatrix::nvfp4(weight.codes(), scales, weight.global_scale());
}

WeightMatrix with_codes(const WeightMatrix& weight, const at::Tensor& codes) {
  return WeightMatrix::nvfp4(codes, weight.scales(), weight.global_scale());
}

struct Damage {
  const char* evidence;
  Change change;
};

// All of them within what half a step of the format would allow, or nearly so.
const std::vector<Damage>& damages() {
  static const std::vector<Damage> kAll{
      {"1 of ",
       [](const WeightMatrix& w) {
         const auto scales = w.scales().clone();
         scales[2][1] = scales[2][1].item<int>() + 3;
         return with_scales(w, scales);
       }},
      {"tensor scale 1.2 times (",
       [](const WeightMatrix& w) {
         return WeightMatrix::nvfp4(w.codes(), w.scales(), w.global_scale() * 1.2F);
       }},
      {"block scales (first at [5, ",
       [](const WeightMatrix& w) {
         const auto scales = w.scales().clone();
         scales[5].fill_(0x7E);
         return with_scales(w, scales);
       }},
      {"block scales (first at ",
       [](const WeightMatrix& w) {
         return with_scales(w, w.scales().flatten().roll(16).view(w.scales().sizes()));
       }},
      {"1 of ",
       [](const WeightMatrix& w) {
         const auto codes = w.codes().clone();
         codes[4][3] = codes[4][3].item<int>() ^ 0x01;
         return with_codes(w, codes);
       }},
  };
  return kAll;
}

TEST(TwoModels, OfOneFormatDoNotPassWhateverTheDamage) {
  const Qwen3Model a = RandomModel{.seed = 4}.make();
  for (const Damage& damage : damages()) {
    const Qwen3Model b = changed(a, damage.change);
    for (const AbMode mode : {AbMode::kBoth, AbMode::kIsolated, AbMode::kChained}) {
      const AbReport report = compare(a, b, {.mode = mode});
      ASSERT_TRUE(report.finding) << damage.evidence;
      EXPECT_EQ(report.finding->module, kChangedTap);
      EXPECT_EQ(report.finding->layer, 1);
      EXPECT_THAT(report.finding->evidence,
                  HasSubstr(std::string("weights differ in ") + kChangedTap + ": "));
      EXPECT_THAT(report.finding->evidence, HasSubstr(damage.evidence));
      EXPECT_THAT(report.finding->evidence, HasSubstr("weights are of two models"));
      ASSERT_EQ(report.differing_weights.size(), 1U);
      EXPECT_EQ(report.differing_weights[0].module, kChangedTap);
      EXPECT_FALSE(report.differing_weights[0].allowed);
    }
  }
}

// Far below what rounding can show.
TEST(TwoModels, DoNotPassWhereThePromptShowsNoDifference) {
  const Qwen3Model a = RandomModel{.seed = 4, .format = WeightFormat::kF32}.make();
  const Qwen3Model b = changed(a, [](const WeightMatrix& w) {
    auto values = w.dequantize().clone();
    const float value = values[1][1].item<float>();
    values[1][1] = std::nextafter(value, 2 * value);
    return WeightMatrix::dense(values);
  });
  for (const AbMode mode : {AbMode::kIsolated, AbMode::kChained}) {
    const AbReport report = compare(a, b, {.mode = mode});
    for (const TapResult& tap : report.isolated) EXPECT_TRUE(tap.within()) << tap.module;
    ASSERT_TRUE(report.finding);
    EXPECT_EQ(report.finding->module, kChangedTap);
    EXPECT_EQ(report.finding->fault_class, FaultClass::kWeights);
    EXPECT_THAT(report.finding->evidence, ::testing::StartsWith("weights differ in "));
  }
  // In layers that are left out it is said, and does not decide.
  const AbReport elsewhere = compare(a, b, {.mode = AbMode::kIsolated, .layers = {0}});
  EXPECT_FALSE(elsewhere.finding);
  EXPECT_THAT(elsewhere.notices, Contains(HasSubstr(kChangedTap)));
}

TEST(TwoModels, OfTheSameValuesPassHoweverTheyAreStored) {
  const Qwen3Model a = RandomModel{.seed = 4}.make();
  const Qwen3Model b = changed(a, [](const WeightMatrix& w) {
    const auto is_zero = at::bitwise_and(w.codes(), 0x0F).eq(0);
    EXPECT_TRUE(is_zero.any().item<bool>());
    return with_codes(w, at::where(is_zero, at::bitwise_or(w.codes(), 0x08), w.codes()));  // -0
  });
  const AbReport report = compare(a, b);
  EXPECT_FALSE(report.finding);
  EXPECT_TRUE(report.differing_weights.empty());
  const AbReport same = compare(a, RandomModel{.seed = 4}.make());
  EXPECT_FALSE(same.finding);
  EXPECT_TRUE(same.differing_weights.empty());
  EXPECT_TRUE(same.notices.empty());
  EXPECT_GT(same.weights, 3 * 9);
}

TEST(TwoModels, OfTwoFormatsAreSaidToBe) {
  const Qwen3Model a = RandomModel{.seed = 4}.make();
  const Qwen3Model b = RandomModel{.seed = 4, .format = WeightFormat::kNf4}.make();
  const AbReport report = compare(a, b);
  EXPECT_FALSE(report.finding);
  EXPECT_GE(report.differing_weights.size(), 21U);
  EXPECT_THAT(report.notices, Contains(HasSubstr("weights are of other formats in b")));
  EXPECT_EQ(report.differing_weights[0].how, "nvfp4, in b nf4");
}

// The mistake is in b's folder: its path reads what is there.
TEST(TwoModels, AMistakeInAFolderIsNamed) {
  const Qwen3Model a = RandomModel{.seed = 4}.make();
  const auto swapped =
      compare(a, changed(a, [](const WeightMatrix& w) {
                return with_codes(w, at::bitwise_or(at::bitwise_left_shift(w.codes(), 4),
                                                    at::bitwise_right_shift(w.codes(), 4)));
              }));
  ASSERT_TRUE(swapped.finding);
  EXPECT_EQ(swapped.finding->fault_class, FaultClass::kNibbleOrder);
  const float gate_scale = a.weight(1, "mlp.gate_proj").global_scale();
  const auto one_scale = compare(a, changed(a, [&](const WeightMatrix& w) {
                                   return WeightMatrix::nvfp4(w.codes(), w.scales(), gate_scale);
                                 }));
  ASSERT_TRUE(one_scale.finding);
  EXPECT_THAT(one_scale.finding->evidence,
              HasSubstr("the weight had the tensor scale of mlp.gate_proj"));
  const auto zero = compare(a, changed(a, [](const WeightMatrix& w) {
                              return with_scales(w, at::zeros_like(w.scales()));
                            }));
  ASSERT_TRUE(zero.finding);
  EXPECT_THAT(zero.finding->evidence, Not(HasSubstr("plain integers")));
  EXPECT_THAT(zero.finding->evidence, HasSubstr("all of b's are 0"));
}

// Where b has a format of its own and its path misreads it.
TEST(TwoModels, AMistakeOfThePathIsNamed) {
  const Qwen3Model a = RandomModel{.seed = 4, .format = WeightFormat::kF32}.make();
  const Qwen3Model b = RandomModel{.seed = 4}.make();
  const auto injection = parse_injection("nibbles-swapped:1:mlp.down_proj", b, 0);
  const AbReport report =
      ab_check({.model = &a, .path = {.backend = "reference"}},
               {.model = &b, .path = {.backend = "cpu"}, .injection = &injection},
               random_ids(a, 6, 3), {.mode = AbMode::kIsolated});
  ASSERT_TRUE(report.finding);
  EXPECT_EQ(report.finding->module, kChangedTap);
  EXPECT_EQ(report.finding->fault_class, FaultClass::kNibbleOrder);
}

// Row 2 of a weight of layer 2 is NaN.
Qwen3Model with_nan(const char* module) {
  Qwen3Model model = RandomModel{.seed = 4}.make();
  const WeightMatrix& weight = model.weight(2, module);
  const auto scales = weight.scales().clone();
  scales[2][0] = 0x7F;
  model.replace_weight(2, module, with_scales(weight, scales));
  return model;
}

TEST(NonFinite, ValuesOfBothPathsAreNoAlarmAndSaid) {
  for (const char* module : {"mlp.gate_proj", "self_attn.v_proj"}) {
    const Qwen3Model model = with_nan(module);
    const std::string tap = std::string("model.layers.2.") + module;
    for (const PathSpec& path :
         {PathSpec{.backend = "cpu"}, PathSpec{.backend = "cpu", .schedule = Schedule::kToken},
          PathSpec{.backend = "cpu", .dtype = ComputeDtype::kBF16, .ste = Ste::kOn}}) {
      const AbReport report = ab_check({.model = &model, .path = path},
                                       {.model = &model, .path = {.backend = "reference"}},
                                       random_ids(model, 6, 3), {});
      EXPECT_FALSE(report.finding)
          << path_text(path) << " " << report.finding->module << " " << report.finding->evidence;
      EXPECT_FALSE(report.exploded);
      ASSERT_EQ(report.notices.size(), 1U);
      EXPECT_THAT(report.notices[0], HasSubstr("in both paths: first in " + tap +
                                               " (6 NaN, 0 infinite), output "
                                               "feature 2 for every token"));
      const auto found = std::ranges::find(report.isolated, tap, &TapResult::module);
      ASSERT_NE(found, report.isolated.end());
      EXPECT_TRUE(std::isfinite(found->bound));
      EXPECT_GT(found->bound, 0);
    }
  }
}

// The bound of the other rows is sharp.
TEST(NonFinite, ARowExcusesNoOther) {
  const Qwen3Model a = with_nan("mlp.gate_proj");
  Qwen3Model b = a;
  const WeightMatrix& weight = a.weight(2, "mlp.gate_proj");
  const auto codes = weight.codes().clone();
  codes[7][3] = codes[7][3].item<int>() ^ 0x01;
  b.replace_weight(2, "mlp.gate_proj", with_codes(weight, codes));
  const AbReport report = compare(a, b, {.mode = AbMode::kIsolated});
  ASSERT_TRUE(report.finding);
  EXPECT_THAT(report.finding->evidence, HasSubstr("output features of b deviate (7)"));
  ASSERT_EQ(report.differing_weights.size(), 1U);  // not the NaN
  EXPECT_THAT(report.differing_weights[0].how, ::testing::StartsWith("1 of "));
}

}  // namespace
}  // namespace qf
