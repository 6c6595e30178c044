// What ab_check says about deviations that no injected fault makes, and about its options.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/check/ab_check.h"
#include "qwen3fp4/check/scale_check.h"
#include "random_model.h"

namespace qf {
namespace {

using test::random_ids;
using test::RandomModel;
using ::testing::HasSubstr;

// b's weight of layer 1's up_proj is what `change` makes of a's.
template <class Change>
AbReport compare_changed(const Change& change) {
  const Qwen3Model a = RandomModel{.seed = 5, .format = WeightFormat::kF32}.make();
  Qwen3Model b = a;
  auto values = b.weight(1, "mlp.up_proj").dequantize().clone();
  b.replace_weight(1, "mlp.up_proj", WeightMatrix::dense(change(values)));
  // Formats alike and values not: half a unit of f32 is all that is allowed.
  return ab_check({.model = &a, .path = {.backend = "reference"}},
                  {.model = &b, .path = {.backend = "cpu"}}, random_ids(a, 7, 5), {});
}

void expect_finding(const AbReport& report, FaultClass fault_class, const char* evidence) {
  ASSERT_TRUE(report.finding);
  EXPECT_EQ(report.finding->module, "model.layers.1.mlp.up_proj");
  EXPECT_EQ(report.finding->layer, 1);
  EXPECT_EQ(fault_class_name(report.finding->fault_class), fault_class_name(fault_class));
  EXPECT_THAT(report.finding->evidence, HasSubstr(evidence));
}

TEST(Judgement, AFactorThatNobodyKnowsIsAScaleFactor) {
  expect_finding(compare_changed([](const at::Tensor& w) { return w * 1.01; }),
                 FaultClass::kScaleFactor, "b is 1.01 times what it should be");
}

TEST(Judgement, RowsInAnotherOrderAreAPermutation) {
  expect_finding(compare_changed([](const at::Tensor& w) { return w.flip(0); }),
                 FaultClass::kLayoutPermutation, "in another order");
}

TEST(Judgement, OtherWeightsAreOtherWeights) {
  expect_finding(
      compare_changed([](const at::Tensor& w) { return w + 0.1 * at::randn(w.sizes()); }),
      FaultClass::kWeights, "no known mistake");
}

TEST(Judgement, AnInfiniteWeightIsNotMistakenForAnOverflow) {
  const auto report = compare_changed([](at::Tensor w) {
    w[3][2] = std::numeric_limits<float>::infinity();
    return w;
  });
  ASSERT_TRUE(report.finding);
  EXPECT_EQ(report.finding->module, "model.layers.1.mlp.up_proj");
  EXPECT_NE(report.finding->fault_class, FaultClass::kDtype);
}

// Weights a and b that hold these values at [3, 2] and [4, 5] of layer 1's up_proj.
AbReport compare_non_finite(float a_first, float a_second, float b_first, float b_second) {
  Qwen3Model a = RandomModel{.seed = 5, .format = WeightFormat::kF32}.make();
  Qwen3Model b = a;
  const auto put = [](Qwen3Model& model, float first, float second) {
    auto values = model.weight(1, "mlp.up_proj").dequantize().clone();
    values[3][2] = first;
    values[4][5] = second;
    model.replace_weight(1, "mlp.up_proj", WeightMatrix::dense(values));
  };
  put(a, a_first, a_second);
  put(b, b_first, b_second);
  return ab_check({.model = &a, .path = {.backend = "reference"}},
                  {.model = &b, .path = {.backend = "reference"}}, random_ids(a, 7, 5),
                  {.mode = AbMode::kIsolated});
}

TEST(Judgement, AsManyNonFiniteValuesElsewhereAreNotTheSame) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  EXPECT_FALSE(compare_non_finite(kNan, 1, kNan, 1).finding);
  EXPECT_FALSE(compare_non_finite(kInf, 1, kInf, 1).finding);
  EXPECT_TRUE(compare_non_finite(kNan, 1, 1, kNan).finding);   // another place
  EXPECT_TRUE(compare_non_finite(kInf, 1, -kInf, 1).finding);  // another sign
  EXPECT_TRUE(compare_non_finite(kNan, 1, kInf, 1).finding);   // infinite only where a is NaN
}

TEST(Judgement, AReferenceThatIsNotFiniteIsSaidToBe) {
  Qwen3Model a = RandomModel{.seed = 5, .format = WeightFormat::kF32}.make();
  const Qwen3Model b = a;
  auto values = a.weight(1, "mlp.up_proj").dequantize().clone();
  values[3][2] = std::nanf("");
  a.replace_weight(1, "mlp.up_proj", WeightMatrix::dense(values));
  const AbReport report =
      ab_check({.model = &a, .path = {.backend = "reference"}},
               {.model = &b, .path = {.backend = "cpu"}}, random_ids(a, 7, 5), {});
  expect_finding(report, FaultClass::kUnknown,
                 "expected 7 NaN and 0 infinite values, b has 0 and 0");
}

TEST(Judgement, StatisticsAreWhatTheySay) {
  const auto report = compare_changed([](const at::Tensor& w) { return w * 2; });
  const auto tap =
      std::ranges::find(report.isolated, "model.layers.1.mlp.up_proj", &TapResult::module);
  ASSERT_NE(tap, report.isolated.end());
  EXPECT_NEAR(tap->statistics.scale, 2, 1e-6);
  EXPECT_NEAR(tap->statistics.cosine, 1, 1e-9);
  EXPECT_NEAR(tap->statistics.relative_l2, 1, 1e-6);
  EXPECT_NEAR(tap->statistics.max_got, 2 * tap->statistics.max_ref, 1e-5);
  EXPECT_NEAR(tap->statistics.max_diff, tap->statistics.max_ref, 1e-5);
  EXPECT_FALSE(tap->within());
  EXPECT_EQ(tap->shape.size(), 2U);
}

TEST(Judgement, LayersAndCallsLimitWhatIsCompared) {
  const Qwen3Model model = RandomModel{.seed = 9}.make();
  const auto ids = random_ids(model, 4, 9);
  const AbSide side{.model = &model, .path = {.backend = "cpu"}};
  const AbReport one = ab_check(side, side, ids, {.layers = {1}});
  ASSERT_FALSE(one.isolated.empty());
  for (const TapResult& tap : one.isolated) EXPECT_EQ(tap.layer, 1);
  const AbReport five = ab_check(side, side, ids, {.max_calls = 5});
  EXPECT_EQ(five.isolated.size(), 5U);
  EXPECT_EQ(five.chained.size(), 5U);
  EXPECT_TRUE(five.stopped_early);
  EXPECT_THROW((void)ab_check(side, side, ids, {.layers = {3}}), Error);
  EXPECT_TRUE(ab_check(side, side, ids, {.mode = AbMode::kIsolated}).chained.empty());
  EXPECT_TRUE(ab_check(side, side, ids, {.mode = AbMode::kChained}).isolated.empty());
}

TEST(Judgement, TheLastTokenAloneIsCompared) {
  const Qwen3Model model = RandomModel{.seed = 9}.make();
  const auto ids = random_ids(model, 4, 9);
  const AbSide a{.model = &model, .path = {.backend = "reference"}};
  const AbSide b{.model = &model, .path = {.backend = "cpu", .dtype = ComputeDtype::kBF16}};
  const AbReport all = ab_check(a, b, ids, {});
  const AbReport last = ab_check(a, b, ids, {.last_token = true});
  ASSERT_EQ(last.isolated.size(), all.isolated.size());
  ASSERT_EQ(last.chained.size(), all.chained.size());
  for (std::size_t i = 0; i < all.isolated.size(); ++i) {
    EXPECT_EQ(all.isolated[i].shape[0], 4);
    EXPECT_EQ(last.isolated[i].shape[0], 1);
    EXPECT_LE(last.isolated[i].statistics.max_ref, all.isolated[i].statistics.max_ref);
    EXPECT_EQ(last.chained[i].shape[0], 1);
  }
  EXPECT_NE(last.chained.back().bound, all.chained.back().bound);
  EXPECT_FALSE(last.finding);
}

TEST(Judgement, AnExplosionEndsTheChainedComparison) {
  const Qwen3Model model = RandomModel{.seed = 9}.make();
  const auto ids = random_ids(model, 4, 9);
  const auto injection = parse_injection("tensor-scale-dropped:0:self_attn.v_proj", model, 0);
  const AbReport report =
      ab_check({.model = &model, .path = {.backend = "reference"}},
               {.model = &model, .path = {.backend = "cpu"}, .injection = &injection}, ids,
               {.explosion_rel = 10});
  EXPECT_TRUE(report.exploded);
  EXPECT_EQ(report.chained.back().module, "model.layers.0.self_attn.v_proj");
  EXPECT_GT(report.isolated.size(), report.chained.size());
}

TEST(Judgement, ChainedAloneSaysWhereToLook) {
  const Qwen3Model model = RandomModel{.seed = 9}.make();
  const auto injection = parse_injection("nibbles-swapped:1:mlp.down_proj", model, 0);
  const AbReport report =
      ab_check({.model = &model, .path = {.backend = "reference"}},
               {.model = &model, .path = {.backend = "cpu"}, .injection = &injection},
               random_ids(model, 4, 9), {.mode = AbMode::kChained});
  ASSERT_TRUE(report.finding);
  EXPECT_EQ(report.finding->module, "model.layers.1.mlp.down_proj");
  EXPECT_THAT(report.finding->evidence, HasSubstr("--mode isolated"));
}

// Of values near 0, or all 0, the relative error is huge and means nothing.
TEST(Judgement, ABranchOfNoWeightExcusesNoLayerBehindIt) {
  for (const double factor : {0.0, 1e-38}) {
    Qwen3Model model = RandomModel{.seed = 9}.make();
    model.replace_weight(0, "mlp.up_proj",
                         WeightMatrix::dense(model.weight(0, "mlp.up_proj").dequantize() * factor));
    const auto injection = parse_injection("nibbles-swapped:1:mlp.down_proj", model, 0);
    const AbReport report =
        ab_check({.model = &model, .path = {.backend = "reference"}},
                 {.model = &model, .path = {.backend = "cpu"}, .injection = &injection},
                 random_ids(model, 4, 9), {.mode = AbMode::kChained});
    ASSERT_TRUE(report.finding) << factor;
    EXPECT_EQ(report.finding->module, "model.layers.1.mlp.down_proj") << factor;
  }
}

// Squares of keys overflow, so that no bound of attention can be derived.
TEST(Judgement, WhatHasNoBoundMustBeEqual) {
  std::uint32_t seed = 1;
  while (RandomModel{.seed = seed}.make().config().qk_norm) ++seed;  // it would shrink the keys
  Qwen3Model model = RandomModel{.seed = seed}.make();
  model.replace_weight(
      1, "self_attn.k_proj",
      WeightMatrix::dense(model.weight(1, "self_attn.k_proj").dequantize() * 1e20));
  const auto ids = random_ids(model, 6, 9);
  const auto injection = parse_injection("cache-late:1", model, 0);
  const AbSide a{.model = &model, .path = {.backend = "reference"}};
  const AbSide b{.model = &model, .path = {.backend = "cpu"}};
  const AbSide late{.model = &model, .path = {.backend = "cpu"}, .injection = &injection};
  EXPECT_FALSE(ab_check(a, b, ids, {.mode = AbMode::kIsolated}).finding);
  const AbReport report = ab_check(a, late, ids, {.mode = AbMode::kIsolated});
  ASSERT_TRUE(report.finding);
  EXPECT_EQ(report.finding->module, "model.layers.1.self_attn.attention");
  EXPECT_EQ(report.finding->fault_class, FaultClass::kAttention);
}

TEST(Judgement, TheSideThatIsWrongIsNamed) {
  const Qwen3Model model = RandomModel{.seed = 9}.make();
  const auto injection = parse_injection("nibbles-swapped:1:mlp.up_proj", model, 0);
  const AbSide right{.model = &model, .path = {.backend = "cpu"}};
  const AbSide wrong{.model = &model, .path = {.backend = "cpu"}, .injection = &injection};
  const auto ids = random_ids(model, 4, 9);
  const AbReport a_wrong = ab_check(wrong, right, ids, {.mode = AbMode::kIsolated});
  const AbReport b_wrong = ab_check(right, wrong, ids, {.mode = AbMode::kIsolated});
  for (const AbReport* report : {&a_wrong, &b_wrong}) {
    ASSERT_TRUE(report->finding);
    EXPECT_EQ(report->finding->module, "model.layers.1.mlp.up_proj");
    EXPECT_EQ(report->finding->fault_class, FaultClass::kNibbleOrder);
  }
  EXPECT_THAT(a_wrong.finding->evidence, ::testing::StartsWith("a computes as if"));
  EXPECT_THAT(b_wrong.finding->evidence, ::testing::StartsWith("b computes as if"));
}

TEST(Judgement, QuantisedActivationsOnBothSidesExcuseNothing) {
  // Tensor scales so near each other that quantised activations would hide the exchange.
  const auto ratio = [](const Qwen3Model& of) {
    return of.weight(1, "mlp.up_proj").global_scale() /
           of.weight(1, "mlp.gate_proj").global_scale();
  };
  RandomModel random{.seed = 9};
  while (std::abs(ratio(random.make()) - 1) > 0.03) ++random.seed;
  const Qwen3Model model = random.make();
  const auto injection = parse_injection("gate-up-one-scale:1:mlp.up_proj", model, 0);
  const PathSpec quantised{.backend = "cpu", .linear = LinearMode::kW4A4};
  const AbSide right{.model = &model, .path = quantised};
  const AbSide wrong{.model = &model, .path = quantised, .injection = &injection};
  const auto ids = random_ids(model, 4, 9);
  const AbReport a_wrong = ab_check(wrong, right, ids, {.mode = AbMode::kIsolated});
  const AbReport b_wrong = ab_check(right, wrong, ids, {.mode = AbMode::kIsolated});
  for (const AbReport* report : {&a_wrong, &b_wrong}) {
    ASSERT_TRUE(report->finding);
    EXPECT_EQ(report->finding->module, "model.layers.1.mlp.up_proj");
    EXPECT_EQ(report->finding->fault_class, FaultClass::kScaleFactor);
  }
  EXPECT_THAT(a_wrong.finding->evidence, ::testing::StartsWith("a computes as if"));
  EXPECT_THAT(b_wrong.finding->evidence, ::testing::StartsWith("b computes as if"));
}

TEST(Judgement, WithLayersLeftOutNoneOfThemIsCleared) {
  const Qwen3Model model = RandomModel{.seed = 9}.make();
  const auto injection = parse_injection("nibbles-swapped:1:mlp.down_proj", model, 0);
  const AbReport report =
      ab_check({.model = &model, .path = {.backend = "reference"}},
               {.model = &model, .path = {.backend = "cpu"}, .injection = &injection},
               random_ids(model, 4, 9), {.layers = {2}});
  ASSERT_TRUE(report.finding);
  EXPECT_THAT(report.finding->evidence, HasSubstr("was not compared (--layers)"));
}

TEST(Judgement, TinyNumbersHaveBoundsToo) {
  const Qwen3Model a = RandomModel{.seed = 5, .format = WeightFormat::kF32}.make();
  Qwen3Model tiny = a;
  tiny.replace_weight(1, "mlp.up_proj",
                      WeightMatrix::dense(a.weight(1, "mlp.up_proj").dequantize() * 1e-20));
  const AbReport report =
      ab_check({.model = &tiny, .path = {.backend = "reference"}},
               {.model = &tiny, .path = {.backend = "cpu", .schedule = Schedule::kToken}},
               random_ids(a, 7, 5), {});
  EXPECT_FALSE(report.finding) << report.finding->module;
}

TEST(Paths, AreReadAsTheyAreWritten) {
  for (const PathSpec& path : shipped_paths()) EXPECT_EQ(parse_path(path_text(path), "--a"), path);
  EXPECT_EQ(parse_path("cpu,cache=off,prefill=whole", "--a").schedule, Schedule::kReplay);
  const auto off = parse_path("reference,dtype=bf16,ste=off", "--a");
  EXPECT_EQ(off,
            (PathSpec{.backend = "reference", .dtype = ComputeDtype::kBF16, .ste = Ste::kOff}));
  EXPECT_EQ(parse_path(path_text(off), "--a"), off);
  for (const char* wrong :
       {"", "gpu", "cpu,", "cpu,prefill=all", "cpu,,cache=off", "cpu,dtype=fp8",
        "cpu,dtype=bf16,dtype=fp32", "cpu,ste=yes", "cpu,ste=on,ste=off", "cpu,ste=on,dtype=fp16",
        "cpu,ste=on,cache=on", "cpu,prefill=token,ste=on", "cpu,linear=w4a4,ste=off"}) {
    try {
      (void)parse_path(wrong, "--a");
      ADD_FAILURE() << wrong;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUsage) << wrong;
      EXPECT_THAT(error.what(), HasSubstr("--a: "));
    }
  }
}

TEST(Paths, OfTrainingAreShippedWithEveryBackend) {
  const auto paths = shipped_paths();
  for (const std::string_view backend : backend_names()) {
    for (const ComputeDtype dtype : {ComputeDtype::kF32, ComputeDtype::kBF16}) {
      const PathSpec path{.backend = std::string(backend), .dtype = dtype, .ste = Ste::kOn};
      EXPECT_EQ(std::ranges::count(paths, path), 1) << path_text(path);
    }
  }
}

// In bf16 a training path rounds what inference in fp32 does not: bounds must know it, and it must
// be really done.
TEST(Paths, OfTrainingInBF16RoundWhatOperationsHandOn) {
  const Qwen3Model model = RandomModel{.seed = 1}.make();
  ASSERT_TRUE(model.config().qk_norm);
  const auto compare = [&](ComputeDtype dtype) {
    return ab_check({.model = &model, .path = {.backend = "reference"}},
                    {.model = &model, .path = {.backend = "cpu", .dtype = dtype, .ste = Ste::kOn}},
                    random_ids(model, 8, 9), {.mode = AbMode::kIsolated});
  };
  const AbReport exact = compare(ComputeDtype::kF32);
  const AbReport rounded = compare(ComputeDtype::kBF16);
  EXPECT_FALSE(exact.finding);
  EXPECT_FALSE(rounded.finding);
  ASSERT_EQ(exact.isolated.size(), rounded.isolated.size());
  for (std::size_t i = 0; i < exact.isolated.size(); ++i) {
    const TapResult& tap = rounded.isolated[i];
    EXPECT_LT(exact.isolated[i].statistics.relative_l2, 1e-6) << tap.module;
    // These read and give f32.
    const bool in_f32 =
        tap.module.ends_with(".post_attention_layernorm") || tap.module.ends_with("_rope");
    if (!in_f32) {
      EXPECT_GT(tap.statistics.relative_l2, 5e-4) << tap.module;
    } else {
      EXPECT_LT(tap.statistics.relative_l2, 1e-6) << tap.module;
    }
  }
}

TEST(Injections, AreRefusedWhereTheyCannotStrike) {
  const Qwen3Model dense = RandomModel{.seed = 2, .format = WeightFormat::kBF16}.make();
  for (const char* wrong : {"no-such-fault", "nibbles-swapped", "rope-base:3", "rope-base:-1",
                            "rope-base:x", "rope-base:0:mlp.up_proj", "", "norm-skipped:0:mlp"}) {
    EXPECT_THROW((void)parse_injection(wrong, dense, 0), Error) << wrong;
  }
  const auto drawn = parse_injection("rope-base", dense, 17);
  EXPECT_EQ(drawn.layer, parse_injection("rope-base", dense, 17).layer);
  EXPECT_EQ(parse_injection("rope-base::self_attn.k_rope", dense, 1).module, "self_attn.k_rope");
}

TEST(ScaleCheck, PassesForEveryBackendAndFormat) {
  const auto rows = scale_check(RandomModel{.seed = 3}.make());
  for (const ScaleCheckRow& row : rows) EXPECT_TRUE(row.passed()) << row.what << " " << row.max_abs;
  EXPECT_GE(rows.size(), 3 * 7 * 2U + 2 * 2 * 10U);
}

// A backend that reads every weight wrongly in one way.
class Misreader final : public Backend {
 public:
  explicit Misreader(std::string_view how) : how_(how) {}
  [[nodiscard]] std::string_view name() const override { return how_; }
  [[nodiscard]] std::string description() const override { return "wrong"; }
  [[nodiscard]] at::Tensor linear(const at::Tensor& x, const WeightMatrix& weight) const override {
    return at::mm(x, misread(weight).t());
  }

 private:
  [[nodiscard]] at::Tensor misread(const WeightMatrix& weight) const {
    if (weight.format() != WeightFormat::kNvfp4) return weight.dequantize();
    const auto& scales = weight.scales();
    const auto with = [&](const at::Tensor& other) {
      return WeightMatrix::nvfp4(weight.codes(), other, weight.global_scale()).dequantize();
    };
    if (how_ == "integers") return with(scales.to(at::kFloat));
    if (how_ == "no subnormals") return with(scales.masked_fill(scales < 8, 0));
    if (how_ == "exponent 15") return with(scales.masked_fill(scales >= 0x78, 0x7F));
    if (how_ == "one scale a row")
      return with(scales.narrow(1, 0, 1).expand_as(scales).contiguous());
    return weight.dequantize() * (how_ == "twice" ? 2 : 1);
  }
  std::string_view how_;
};

TEST(ScaleCheck, KnownLayersTellMisreadersApart) {
  const auto failed = [](std::string_view how) {
    std::int64_t count = 0;
    for (const auto& row : check_known_layers(Misreader(how))) count += row.passed() ? 0 : 1;
    return count;
  };
  EXPECT_EQ(failed("none"), 0);
  EXPECT_EQ(failed("integers"), 2 * 8);  // all but the scale 0
  EXPECT_EQ(failed("no subnormals"), 2 * 2);
  EXPECT_EQ(failed("exponent 15"), 2 * 2);
  EXPECT_EQ(failed("one scale a row"), 2 * 2);  // the two rows of unlike blocks
  EXPECT_EQ(failed("twice"), 2 * 8);
}

}  // namespace
}  // namespace qf
