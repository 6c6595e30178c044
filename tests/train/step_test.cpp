// What a step promises besides its gradients: cuts that change nothing, sequences that do not see
// each other, frozen weights, clipping, errors by name, memory.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <utility>

#include "../model/counting_allocator.h"
#include "../run/tiny_model.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/quant/parallel.h"
#include "qwen3fp4/train/memory_plan.h"
#include "qwen3fp4/train/schedule.h"
#include "qwen3fp4/train/step_bench.h"
#include "training_model.h"

namespace qf {
namespace {

using test::random_sequence;
using test::RandomModel;
using test::RecordedModel;

// Cuts change the order of sums over at most 214 tokens or 110 head rows, which moves a sum by
// 214 * 2^-24 = 1.3e-5 of its magnitudes, those by less than 8 of the largest gradient.
constexpr double kOrderBound = 1e-4;

double worst_difference(const at::Tensor& found, const at::Tensor& expected) {
  return ((found - expected).abs().amax() / expected.abs().amax()).item<double>();
}

TrainBatch mixed_batch(const Qwen3Model& model) {
  return {random_sequence(model, 150, 1, 2), random_sequence(model, 1, 2),
          random_sequence(model, 23, 3), random_sequence(model, 40, 4, 7)};
}

TrainSettings unclipped() {
  TrainSettings settings;
  settings.clip = 0;
  return settings;
}

// A model after one step.
struct Stepped {
  Stepped(const Qwen3Model& start, const TrainSettings& settings, const TrainBatch& batch)
      : model(start), result(Trainer(model.weights, nullptr, settings).step(batch)) {}
  RecordedModel model;
  StepResult result;
};

void expect_close(const Stepped& found, const Stepped& expected) {
  EXPECT_NEAR(found.result.batch.loss, expected.result.batch.loss,
              kOrderBound * expected.result.batch.loss);
  EXPECT_NEAR(found.result.gradient_norm, expected.result.gradient_norm,
              kOrderBound * expected.result.gradient_norm);
  for (const auto& [name, weight] : expected.model.recorded) {
    EXPECT_LE(worst_difference(found.model.gradient(name), weight->gradient), kOrderBound) << name;
  }
}

void expect_equal_bits(const RecordedModel& found, const RecordedModel& expected) {
  for (const auto& [name, weight] : expected.recorded) {
    EXPECT_TRUE(at::equal(found.gradient(name), weight->gradient)) << name;
  }
}

TEST(Step, AnEmbeddingThatIsTheHeadDoesNotTrain) {
  int tied = 0;
  for (std::uint32_t seed = 1; seed < 9; ++seed) {
    const Qwen3Model model = RandomModel{.seed = seed}.make();
    ModelSource source(model);
    if (source.has("lm_head.weight")) continue;
    ++tied;
    try {
      (void)ModelWeights::load(model.config(), source, model.backend(),
                               [](const WeightSpec&, const WeightMatrix& start) {
                                 return std::make_unique<test::RecordedWeight>(start);
                               });
      ADD_FAILURE() << "it trains, seed " << seed;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), ::testing::HasSubstr("--train-embedding: expected a model with"));
    }
  }
  EXPECT_GT(tied, 0);
}

TEST(Step, FourMicroBatchesAreOneBatchOfFour) {
  const auto model = RandomModel{.seed = 2}.make();
  const auto batch = mixed_batch(model);
  auto settings = unclipped();
  const Stepped whole(model, settings, batch);
  settings.micro_batch_tokens = 1;
  const Stepped one_by_one(model, settings, batch);
  expect_close(one_by_one, whole);
  settings.micro_batch_tokens = 174;  // 150 + 1 + 23, 40
  expect_close(Stepped(model, settings, batch), whole);
  for (const auto& [name, weight] : one_by_one.model.recorded) {
    if (name == "lm_head.weight") continue;
    EXPECT_EQ(weight->calls, 1) << name;
  }
}

TEST(Step, ChunksOfRowsNeverChangeABit) {
  const auto model = RandomModel{.seed = 3}.make();
  const auto batch = mixed_batch(model);
  for (const std::int64_t micro_batch_tokens : {1, 8192}) {
    auto settings = unclipped();
    settings.micro_batch_tokens = micro_batch_tokens;
    const Stepped whole(model, settings, batch);
    for (const std::int64_t rows : {1, 7, 100000}) {
      settings.step_chunk_rows = rows;
      const Stepped cut(model, settings, batch);
      expect_equal_bits(cut.model, whole.model);
      EXPECT_EQ(cut.result.gradient_norm, whole.result.gradient_norm);
      const auto& up = *cut.model.recorded.at("model.layers.0.mlp.up_proj.weight");
      EXPECT_EQ(up.calls, (up.weight().out_features() + rows - 1) / rows);
      EXPECT_EQ(up.finished, 1);
    }
  }
}

TEST(Step, ChunksOfTheLossChangeOnlyTheOrderOfSums) {
  const auto model = RandomModel{.seed = 4}.make();
  const auto batch = mixed_batch(model);
  auto settings = unclipped();
  const Stepped whole(model, settings, batch);
  settings.loss_chunks = {.head_rows = 7, .tokens = 5};
  expect_close(Stepped(model, settings, batch), whole);
}

// Collects nothing.
struct NoSink final : BlockSink {
  void linear(Linear, const at::Tensor&, const at::Tensor&) override {}
  void norm(Norm, const at::Tensor&) override {}
};

TEST(Step, SequencesDoNotSeeEachOther) {
  const auto model = RandomModel{.seed = 5}.make();
  const RecordedModel recorded(model);
  RowPacker packer(model.config(), at::kCPU);
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(1);
  const auto first = test::random_ids(model, 70, 1);
  const auto dy = at::randn({110, model.config().hidden_size}, generator);
  // Output and input gradient of the first sequence's rows beside another sequence.
  const auto run = [&](std::uint32_t seed_of_other) {
    const auto other = test::random_ids(model, 40, seed_of_other);
    const std::vector<std::span<const std::int64_t>> ids{first, other};
    const auto rows = packer.pack(ids);
    const auto weights = recorded.weights.block(0, at::kFloat);
    const Block block{model.config(), model.backend(), weights, rows};
    const auto activations = block_activations(block, recorded.weights.embed(rows.ids));
    NoSink sink;
    return std::pair(block_output(block, activations).narrow(0, 0, 70).clone(),
                     block_backward(block, activations, dy, sink).narrow(0, 0, 70).clone());
  };
  const auto [y, dx] = run(2);
  const auto [y_beside_another, dx_beside_another] = run(3);
  EXPECT_TRUE(at::equal(y, y_beside_another));
  EXPECT_TRUE(at::equal(dx, dx_beside_another));
}

TEST(Step, TrainsOnlyWhatIsNotFrozen) {
  const auto model = RandomModel{.seed = 6}.make();
  const auto batch = mixed_batch(model);
  const Stepped all(model, unclipped(), batch);
  std::map<std::string, test::RecordedWeight*> recorded;
  ModelSource source(model);
  const auto weights = ModelWeights::load(
      model.config(), source, model.backend(),
      [&](const WeightSpec& spec, const WeightMatrix& start) -> std::unique_ptr<TrainedWeight> {
        if (!spec.name.starts_with("model.layers.2.mlp") && spec.name != "model.norm.weight") {
          return nullptr;
        }
        auto weight = std::make_unique<test::RecordedWeight>(start);
        recorded[spec.name] = weight.get();
        return weight;
      });
  EXPECT_EQ(weights.first_trained_layer(), 2);
  EXPECT_EQ(recorded.size(), 4U);
  Trainer trainer(weights, nullptr, unclipped());
  const auto result = trainer.step(batch);
  EXPECT_EQ(result.batch.loss, all.result.batch.loss);
  EXPECT_LT(result.gradient_norm, all.result.gradient_norm);
  for (const auto& [name, weight] : recorded) {
    EXPECT_TRUE(at::equal(weight->gradient, all.model.gradient(name))) << name;
  }
}

TEST(Step, ClipsByTheLastNormOrExactly) {
  const auto model = RandomModel{.seed = 7}.make();
  const TrainBatch first{random_sequence(model, 30, 1)};
  const TrainBatch second{random_sequence(model, 9, 2)};
  const double first_norm = Stepped(model, unclipped(), first).result.gradient_norm;
  const double second_norm = Stepped(model, unclipped(), second).result.gradient_norm;
  ASSERT_NE(first_norm, second_norm);
  for (const bool exact : {false, true}) {
    RecordedModel recorded(model);
    TrainSettings settings;
    settings.clip = 0.5 * std::min(first_norm, second_norm);
    settings.clip_exact = exact;
    Trainer trainer(recorded.weights, nullptr, settings);
    const auto one = trainer.step(first);
    EXPECT_DOUBLE_EQ(one.gradient_scale, settings.clip / first_norm);
    EXPECT_DOUBLE_EQ(one.gradient_norm, first_norm);
    const auto two = trainer.step(second);
    EXPECT_DOUBLE_EQ(two.gradient_scale, settings.clip / (exact ? second_norm : first_norm));
    EXPECT_DOUBLE_EQ(two.gradient_norm, second_norm);
    for (const auto& [name, weight] : recorded.recorded) {
      EXPECT_EQ(weight->step.gradient_scale, two.gradient_scale);
      EXPECT_EQ(weight->step.step, 2);
      EXPECT_EQ(weight->finished, 2) << name;
    }
  }
}

TEST(Step, DoesNotScaleUpSmallGradients) {
  const auto model = RandomModel{.seed = 7}.make();
  TrainSettings settings;
  settings.clip = 1e9;
  EXPECT_EQ(Stepped(model, settings, mixed_batch(model)).result.gradient_scale, 1);
}

TEST(Step, DecaysLinearsAndHeadButNotNorms) {
  const auto model = RandomModel{.seed = 1}.make();
  auto settings = unclipped();
  settings.weight_decay = 0.1;
  const Stepped stepped(model, settings, mixed_batch(model));
  for (const auto& [name, weight] : stepped.model.recorded) {
    EXPECT_EQ(weight->step.weight_decay, name.find("norm") == std::string::npos ? 0.1 : 0) << name;
  }
}

TEST(LearningSchedule, WarmsUpAndFalls) {
  LearningSchedule schedule{.peak = 2, .steps = 14, .warmup_steps = 4};
  EXPECT_DOUBLE_EQ(schedule.learning_rate(1), 0.5);
  EXPECT_DOUBLE_EQ(schedule.learning_rate(4), 2);
  EXPECT_DOUBLE_EQ(schedule.learning_rate(5), 2);
  EXPECT_DOUBLE_EQ(schedule.learning_rate(10), 1);  // half of the way down a cosine
  EXPECT_GT(schedule.learning_rate(14), 0);
  EXPECT_NEAR(schedule.learning_rate(15), 0, 1e-15);
  schedule.shape = ScheduleShape::kLinear;
  schedule.final = 1;
  EXPECT_DOUBLE_EQ(schedule.learning_rate(10), 1.5);
  EXPECT_DOUBLE_EQ(schedule.learning_rate(14), 1.1);
  schedule.shape = ScheduleShape::kConstant;
  EXPECT_DOUBLE_EQ(schedule.learning_rate(14), 2);
}

std::string failure_of(const Qwen3Model& model) {
  RecordedModel recorded(model);
  Trainer trainer(recorded.weights, nullptr, TrainSettings{});
  try {
    (void)trainer.step(mixed_batch(model));
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kNonFinite);
    return error.what();
  }
  return "no failure";
}

TEST(Step, NamesWhereTheForwardStopsBeingFinite) {
  auto model = RandomModel{.seed = 1}.make();
  auto up = model.weight(1, "mlp.up_proj").dequantize().clone();
  up[3][5] = std::numeric_limits<float>::quiet_NaN();
  model.replace_weight(1, "mlp.up_proj", WeightMatrix::dense(up));
  EXPECT_THAT(failure_of(model), testing::HasSubstr("model.layers.1.mlp.up_proj"));
}

TEST(Step, NamesTheFirstGradientThatIsNotFinite) {
  auto model = RandomModel{.seed = 1}.make();
  // The MLP of layer 1 puts out zeros, and its gradient overflows all the same.
  auto gate = at::zeros_like(model.weight(1, "mlp.gate_proj").dequantize());
  auto down = at::full_like(model.weight(1, "mlp.down_proj").dequantize(), 3e38);
  model.replace_weight(1, "mlp.gate_proj", WeightMatrix::dense(gate));
  model.replace_weight(1, "mlp.down_proj", WeightMatrix::dense(down));
  EXPECT_THAT(failure_of(model), testing::HasSubstr("model.layers.1.mlp.gate_proj.weight"));
}

TEST(Step, RefusesBatchesThatTeachNothing) {
  const auto model = RandomModel{.seed = 1}.make();
  const auto refuse = [&](const TrainBatch& batch, const char* sentence) {
    try {
      (void)Stepped(model, TrainSettings{}, batch);
      ADD_FAILURE() << sentence;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(sentence));
    }
  };
  refuse({}, "found none");
  refuse({random_sequence(model, 5, 1, 9)}, "found none");
  auto taught = random_sequence(model, 5, 1);
  taught.kind = TargetKind::kTeacher;
  refuse({taught}, "there is none (--teacher)");
  auto short_marks = random_sequence(model, 5, 1);
  short_marks.targets.pop_back();
  refuse({short_marks}, "expected as many target marks, found 4");
  auto wrong_id = random_sequence(model, 5, 1);
  wrong_id.ids[2] = model.config().vocab_size;
  refuse({wrong_id}, "expected token ids");
}

// Which tasks run at the same time must not decide what is measured.
class StepMemory : public ::testing::Test {
 protected:
  StepMemory() { set_parallel_threads(1); }
  ~StepMemory() override { set_parallel_threads(0); }
};

// Bytes that a step holds beside what was there before it.
std::int64_t step_peak(const Qwen3Model& model, const TrainSettings& settings,
                       const TrainBatch& batch) {
  const test::CountingAllocator counting;
  RecordedModel recorded(model);
  const auto before = counting.live();
  Trainer trainer(recorded.weights, nullptr, settings);
  (void)trainer.step(batch);
  return static_cast<std::int64_t>(counting.peak()) - static_cast<std::int64_t>(before);
}

TEST_F(StepMemory, GrowsWithTheLayersByTheirInputsOnly) {
  const auto shallow = RandomModel{.seed = 2, .layers = 2}.make();
  const auto deep = RandomModel{.seed = 2, .layers = 10}.make();
  const TrainBatch batch{random_sequence(shallow, 300, 1)};
  const std::int64_t input_bytes = 300 * shallow.config().hidden_size * 4;
  const std::int64_t growth =
      step_peak(deep, unclipped(), batch) - step_peak(shallow, unclipped(), batch);
  EXPECT_GT(growth, 7 * input_bytes);
  // The norms of the gradients are a number each.
  EXPECT_LE(growth, 8 * input_bytes + 8 * 11 * 64);
}

TEST_F(StepMemory, HoldsNoLogitsOfAllTokens) {
  const test::LoadedTiny tiny({.vocab_size = 20000, .tokenizer = false});
  TrainSettings settings = unclipped();
  settings.loss_chunks = {.head_rows = 512, .tokens = 64};
  const TrainBatch batch{random_sequence(tiny.model(), 512, 1)};
  EXPECT_LT(step_peak(tiny.model(), settings, batch), std::int64_t{511} * 20000 * 4 / 4);
}

// The plan counts what grows with tokens and layers; a step on the CPU also holds pieces of rows
// that its threads work on, which are less than a twentieth here.
TEST_F(StepMemory, IsWhatThePlanSays) {
  for (const std::int64_t micro_batch_tokens : {700, 8192}) {
    const auto model = RandomModel{.seed = 2}.make();
    TrainBatch batch;
    for (std::uint32_t i = 0; i < 20; ++i) batch.push_back(random_sequence(model, 200, i, 10));
    TrainSettings settings = unclipped();
    settings.micro_batch_tokens = micro_batch_tokens;
    const RecordedModel recorded(model);
    const auto plan = plan_memory(shapes_of(recorded.weights, nullptr), settings, {batch});
    const auto planned = static_cast<double>(plan.peak() - recorded.weights.weight_bytes());
    const auto held = static_cast<double>(step_peak(model, settings, batch));
    EXPECT_NEAR(planned, held, 0.05 * held) << micro_batch_tokens;
  }
}

TEST(StepBench, CountsWhatAStepDoes) {
  const Qwen3Model start = RandomModel{.seed = 4}.make();
  const RecordedModel model(start);
  std::vector<std::string> shown;
  const auto report = bench_steps(model.weights, {.batches = {{1, 5}, {3, 4}}, .repetitions = 2},
                                  [&](std::int64_t done, std::int64_t all, std::string_view test) {
                                    shown.push_back(fmt::format("{} {}/{}", test, done, all));
                                  });
  ASSERT_EQ(report.rows.size(), 2U);
  EXPECT_EQ(report.rows[1].test, "train3x4");
  EXPECT_EQ(report.rows[1].tokens, 12);
  EXPECT_EQ(report.rows[1].seconds.size(), 2U);
  std::int64_t weights = 0;
  model.weights.for_each([&](const ModelWeight& weight) {
    if (weight.spec().kind == WeightKind::kLinear || &weight == &model.weights.head()) {
      weights += weight.weight().out_features() * weight.weight().in_features();
    }
  });
  EXPECT_EQ(report.rows[1].flops, 8 * 12 * weights);
  EXPECT_EQ(report.rows[1].bytes, 3 * model.weights.weight_bytes());
  EXPECT_EQ(shown.back(), "train3x4 51/51");
  // A warm-up and two repetitions of each.
  for (const auto& [name, weight] : model.recorded) EXPECT_EQ(weight->step.step, 6) << name;
  EXPECT_THROW((void)bench_steps(model.weights, {.batches = {{1, 1}}}), Error);
}

}  // namespace
}  // namespace qf
