// Runs with real optimisers: resuming, exporting, learning.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "../run/tiny_model.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/formats/dat.h"
#include "qwen3fp4/run/convert.h"
#include "qwen3fp4/train/checkpoint.h"
#include "qwen3fp4/train/export.h"
#include "qwen3fp4/train/forward.h"
#include "qwen3fp4/train/masters.h"
#include "qwen3fp4/train/memory_plan.h"
#include "qwen3fp4/train/start.h"
#include "training_model.h"

namespace qf {
namespace {

using test::TemporaryFolder;
using test::TinyModel;

constexpr auto kSettings = R"({"lr": 0.001, "steps": 6})";

// A tiny model in NVFP4, in a folder with its tokenizer.
class Folder {
 public:
  Folder() {
    TinyModel{.seed = 3}.write(temporary_.path() / "dense");
    const auto source = open_checkpoint(temporary_.path() / "dense");
    convert_checkpoint(*source, path(), {});
    folder_.emplace(ModelFolder::open(path()));
  }
  [[nodiscard]] std::filesystem::path path() const { return temporary_.path() / "nvfp4"; }
  [[nodiscard]] std::filesystem::path beside(const char* name) const {
    return temporary_.path() / name;
  }
  [[nodiscard]] const ModelFolder& folder() const { return *folder_; }
  [[nodiscard]] ModelWeights load(const TrainStart& start) const {
    const DatReader file(path() / "model.dat");
    const auto source = make_weight_source(file, {});
    return ModelWeights::load(folder_->config, *source, test::reference_backend(),
                              make_trained(folder_->config, start));
  }

 private:
  TemporaryFolder temporary_;
  std::optional<ModelFolder> folder_;
};

TrainBatch batch_of(std::int64_t step) {
  TrainBatch batch;
  for (std::uint32_t i = 0; i < 3; ++i) {
    std::mt19937 random(static_cast<std::uint32_t>(step) * 3 + i);
    TrainSequence sequence;
    for (std::int64_t t = 0; t < 20; ++t) {
      sequence.ids.push_back(static_cast<std::int64_t>(random()) % 50);
      sequence.targets.push_back(t > 3);
    }
    if (i == 2) sequence.kind = TargetKind::kTeacher;
    batch.push_back(sequence);
  }
  return batch;
}

// One run's objects.
struct Session {
  Session(const Folder& folder, const TrainStart& start, std::int64_t chunk_rows = 0,
          double clip = TrainSettings{}.clip)
      : model(folder.load(start)), begin(model.frozen_copy()), trainer(model, &begin, [&] {
          TrainSettings settings;
          settings.schedule = {.peak = 1e-3, .steps = 6, .warmup_steps = 2};
          settings.weight_decay = 0.01;
          settings.step_chunk_rows = chunk_rows;
          settings.clip = clip;
          settings.seed = 5;
          return settings;
        }()) {}
  void steps(std::int64_t until) {
    while (trainer.progress().steps_done < until) {
      last = trainer.step(batch_of(trainer.progress().steps_done + 1));
    }
  }
  ModelWeights model, begin;
  Trainer trainer;
  StepResult last;
};

class Profiles : public ::testing::TestWithParam<TrainProfile> {
 protected:
  TrainStart start_{.profile = GetParam(), .seed = 11};
  Folder folder_;
};

TEST_P(Profiles, HalfAndResumeIsTheWholeRun) {
  Session whole(folder_, start_);
  const auto before = state_hash(whole.model);
  whole.steps(6);
  EXPECT_NE(state_hash(whole.model), before);

  const auto checkpoint = folder_.beside("half.dat");
  std::string half_hash;
  {
    Session half(folder_, start_);
    half.steps(3);
    save_checkpoint(checkpoint, half.model, half.trainer.progress(), kSettings);
    half_hash = state_hash(half.model);
    EXPECT_NE(half_hash, state_hash(whole.model));
  }
  Session resumed(folder_, start_);
  resumed.trainer.resume(load_checkpoint(checkpoint, resumed.model, kSettings));
  EXPECT_EQ(state_hash(resumed.model), half_hash);
  resumed.steps(6);
  EXPECT_EQ(state_hash(resumed.model), state_hash(whole.model));
  EXPECT_EQ(resumed.last.batch.loss, whole.last.batch.loss);
  EXPECT_EQ(resumed.last.gradient_norm, whole.last.gradient_norm);
}

// A request to stop (the memory guard's) ends a step before anything changed: what is there can be
// saved, and goes on as if nothing had been.
TEST_P(Profiles, AStepThatIsStoppedChangesNothing) {
  Session whole(folder_, start_);
  whole.steps(4);
  Session stopped(folder_, start_);
  stopped.steps(2);
  const auto before = state_hash(stopped.model);
  request_stop(ExitCode::kGuardStopped, "full");
  try {
    stopped.steps(3);
    ADD_FAILURE() << "the step was done";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kGuardStopped);
  }
  forget_stop_request();
  EXPECT_TRUE(stopped.trainer.whole());
  EXPECT_EQ(state_hash(stopped.model), before);
  EXPECT_EQ(stopped.trainer.progress().steps_done, 2);
  stopped.steps(4);
  EXPECT_EQ(state_hash(stopped.model), state_hash(whole.model));
}

TEST_P(Profiles, TheEmbeddingTrainsWhenAskedTo) {
  const auto values = [&](const ModelWeights& model) { return model.embedding().rows(at::kFloat); };
  Session without(folder_, start_);
  without.steps(4);
  EXPECT_TRUE(at::equal(values(without.model), values(without.begin)));

  start_.embedding = true;
  Session whole(folder_, start_);
  whole.steps(4);
  const auto changed = values(whole.model).ne(values(whole.begin)).any(1);
  EXPECT_TRUE(changed.narrow(0, 0, 50).all().item<bool>()) << "rows of the batches' tokens";
  // What else trains starts and draws as it does without.
  Session first(folder_, start_);
  first.steps(1);
  Session first_without(folder_, {.profile = GetParam(), .seed = 11});
  first_without.steps(1);
  EXPECT_TRUE(
      at::equal(first.model.head().rows(at::kFloat), first_without.model.head().rows(at::kFloat)));

  const auto checkpoint = folder_.beside("half.dat");
  {
    Session half(folder_, start_, /*chunk_rows=*/37);
    half.steps(2);
    save_checkpoint(checkpoint, half.model, half.trainer.progress(), kSettings);
  }
  Session resumed(folder_, start_);
  resumed.trainer.resume(load_checkpoint(checkpoint, resumed.model, kSettings));
  resumed.steps(4);
  EXPECT_EQ(state_hash(resumed.model), state_hash(whole.model));

  const auto out = folder_.beside("trained");
  export_model(whole.model, folder_.path(), out, {});
  const auto exported = ModelFolder::open(out).load_model(test::reference_backend());
  EXPECT_TRUE(at::equal(exported.embed_tokens().dequantize(), values(whole.model)));
}

TEST_P(Profiles, APlanFromHeadersCountsWhatALoadedModelHolds) {
  const DatReader file(folder_.path() / "model.dat");
  for (const auto& [last_layers, embedding] : {std::pair{0, false}, {1, false}, {0, true}}) {
    start_.last_layers = last_layers;
    start_.embedding = embedding;
    const Session session(folder_, start_);
    const auto loaded = shapes_of(session.model, &session.begin);
    const auto planned = shapes_of(file, folder_.folder().config, start_, /*on_device=*/false,
                                   /*keeps_copy=*/true);
    EXPECT_EQ(planned.states, loaded.states);
    EXPECT_EQ(planned.first_trained_layer, loaded.first_trained_layer);
    EXPECT_NEAR(static_cast<double>(planned.weights), static_cast<double>(loaded.weights),
                0.01 * static_cast<double>(loaded.weights));
    EXPECT_NEAR(static_cast<double>(planned.teacher), static_cast<double>(loaded.teacher),
                0.01 * static_cast<double>(loaded.teacher));
  }
}

TEST_P(Profiles, ChunksOfRowsNeverChangeABit) {
  Session whole(folder_, start_);
  whole.steps(3);
  for (const std::int64_t rows : {1, 37}) {
    Session cut(folder_, start_, rows);
    cut.steps(3);
    EXPECT_EQ(state_hash(cut.model), state_hash(whole.model)) << rows;
    EXPECT_EQ(cut.last.gradient_norm, whole.last.gradient_norm) << rows;
  }
}

// The first step measures the gradient, for clipping, before it applies it; the step then tells the
// norm from sums of its own.
TEST_P(Profiles, AStepTellsTheNormThatMeasuringFinds) {
  constexpr double kClip = 1e-4;
  Session run(folder_, start_, 0, kClip);
  run.steps(1);
  ASSERT_LT(run.last.gradient_scale, 1);
  EXPECT_NEAR(run.last.gradient_norm * run.last.gradient_scale / kClip, 1, 1e-5);
}

TEST_P(Profiles, ExportsWhatWasTrained) {
  Session run(folder_, start_);
  run.steps(4);
  const auto out = folder_.beside("trained");
  export_model(run.model, folder_.path(), out, {});
  const auto exported = ModelFolder::open(out);
  ASSERT_TRUE(exported.tokenizer.has_value());
  const auto model = exported.load_model(test::reference_backend());
  std::set<std::string> changed;
  const auto original = folder_.folder().load_model(test::reference_backend());
  ModelSource trained(model);
  ModelSource start(original);
  run.model.for_each([&](const ModelWeight& weight) {
    const WeightSpec& spec = weight.spec();
    const auto values = weight.rows(at::kFloat);
    const bool norm = spec.kind == WeightKind::kNorm;
    const auto loaded = norm ? trained.norm(spec) : trained.matrix(spec).dequantize();
    const auto before = norm ? start.norm(spec) : start.matrix(spec).dequantize();
    EXPECT_TRUE(at::equal(loaded.view(values.sizes()), values)) << spec.name;
    if (!at::equal(loaded, before)) changed.insert(spec.name);
  });
  EXPECT_FALSE(changed.contains("model.embed_tokens.weight"));
  EXPECT_TRUE(changed.contains("model.norm.weight"));
  EXPECT_TRUE(changed.contains("lm_head.weight"));
  EXPECT_TRUE(changed.contains("model.layers.0.self_attn.q_norm.weight"));
  EXPECT_TRUE(changed.contains("model.layers.1.mlp.down_proj.weight"));

  // The training forward's own evaluation is that of the loaded model.
  const auto batch = TrainBatch{batch_of(9)[0]};
  KvCache cache(model.config(), 32);
  const auto logits = model.logits(model.forward(batch[0].ids, cache)).to(at::kDouble);
  double loss = 0;
  for (std::int64_t i = 4; i < 20; ++i) {
    loss -=
        at::log_softmax(logits[i - 1], 0)[batch[0].ids[static_cast<std::size_t>(i)]].item<double>();
  }
  EXPECT_NEAR(run.trainer.evaluate(batch).loss, loss / 16, 1e-5 * loss);
}

INSTANTIATE_TEST_SUITE_P(All, Profiles,
                         ::testing::Values(TrainProfile::kFp32, TrainProfile::kExact,
                                           TrainProfile::kDefault, TrainProfile::kMin),
                         [](const auto& profile) {
                           return std::string(train_profile_name(profile.param));
                         });

TEST(TrainRun, LearnsOneBatchByHeart) {
  const Folder folder;
  auto model = folder.load({.profile = TrainProfile::kDefault});
  TrainSettings settings;
  settings.schedule = {.shape = ScheduleShape::kConstant, .peak = 0.01, .steps = 60};
  Trainer trainer(model, nullptr, settings);
  const TrainBatch batch{batch_of(1)[0], batch_of(1)[1]};
  const double before = trainer.evaluate(batch).loss;
  for (int i = 0; i < 60; ++i) (void)trainer.step(batch);
  EXPECT_GT(before, 5);
  EXPECT_LT(trainer.evaluate(batch).loss, 0.5);
}

TEST(TrainRun, TheStartModelStaysWhatItWas) {
  const Folder folder;
  Session run(folder, {.profile = TrainProfile::kDefault});
  auto taught = batch_of(1)[2];
  EXPECT_NEAR(run.trainer.evaluate({taught}).kl, 0, 1e-5);
  run.steps(5);
  EXPECT_GT(run.trainer.evaluate({taught}).kl, 1e-3);
}

TEST(TrainRun, FreezesByNameAndLayer) {
  const Folder folder;
  const auto trained = [&](const TrainStart& start) {
    std::set<std::string> names;
    folder.load(start).for_each([&](const ModelWeight& weight) {
      if (weight.trained() != nullptr) names.insert(weight.spec().name);
    });
    return names;
  };
  EXPECT_EQ(trained({}).size(), 2U * 11 + 2);
  const auto last = trained({.last_layers = 1});
  EXPECT_EQ(last.size(), 11U + 2);
  EXPECT_FALSE(last.contains("model.layers.0.mlp.up_proj.weight"));
  const auto without = trained({.freeze = "norm|lm_head"});
  EXPECT_EQ(without.size(), 2U * 7);
  EXPECT_THROW((void)trained({.freeze = "("}), Error);
  EXPECT_THROW((void)trained({.last_layers = 3}), Error);
}

TEST(TrainRun, MastersStartAtTheOriginalWeights) {
  const Folder folder;
  const auto original = open_checkpoint(folder.beside("dense"));
  const auto model = folder.load({.profile = TrainProfile::kFp32, .master = original.get()});
  const auto dithered = folder.load({.profile = TrainProfile::kFp32});
  EXPECT_NE(state_hash(model), state_hash(dithered));
  // Codes are the file's either way.
  std::vector<at::Tensor> codes;
  for (const ModelWeights* one : {&model, &dithered}) {
    codes.push_back(one->layer(1)[Linear::kUp].weight().codes());
  }
  EXPECT_TRUE(at::equal(codes[0], codes[1]));
}

std::string refusal(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(TrainRun, RefusesCheckpointsOfOtherRuns) {
  const Folder folder;
  Session run(folder, {.profile = TrainProfile::kDefault});
  run.steps(1);
  const auto checkpoint = folder.beside("one.dat");
  save_checkpoint(checkpoint, run.model, run.trainer.progress(), kSettings);
  EXPECT_THAT(
      refusal([&] { (void)load_checkpoint(checkpoint, run.model, R"({"lr": 0.1, "steps": 6})"); }),
      testing::HasSubstr("was written with lr = 0.001, this run has 0.1"));
  const auto exact = folder.load({.profile = TrainProfile::kExact});
  EXPECT_THAT(refusal([&] { (void)load_checkpoint(checkpoint, exact, kSettings); }),
              testing::HasSubstr("model.layers.0.self_attn.q_proj.weight/"));
  const auto fewer = folder.load({.profile = TrainProfile::kDefault, .last_layers = 1});
  EXPECT_THAT(refusal([&] { (void)load_checkpoint(checkpoint, fewer, kSettings); }),
              testing::HasSubstr("entries for the weights that this run trains"));
  EXPECT_THAT(
      refusal([&] { (void)load_checkpoint(folder.path() / "model.dat", run.model, kSettings); }),
      testing::HasSubstr("expected a training checkpoint"));
  std::filesystem::resize_file(checkpoint, std::filesystem::file_size(checkpoint) - 1);
  EXPECT_NE(refusal([&] { (void)load_checkpoint(checkpoint, run.model, kSettings); }), "accepted");
}

TEST(TrainRun, RefusesToExportOverItsOwnSource) {
  const Folder folder;
  const auto model = folder.load({});
  EXPECT_THAT(
      refusal([&] { export_model(model, folder.path(), folder.path(), {.replace = true}); }),
      testing::HasSubstr("does not hold the source"));
}

// What ab-check compares is what the loss is made of, in either type, of weights that train as of
// frozen ones.
TEST(TrainingPasses, GiveTheLogitsOfTheLoss) {
  const Folder folder;
  const auto trained = folder.load({.profile = TrainProfile::kDefault, .seed = 4});
  const auto frozen = trained.frozen_copy();
  const TrainSequence sequence = batch_of(1).front();
  const std::vector<std::span<const std::int64_t>> ids{sequence.ids};
  const auto rows = RowPacker(trained.config(), at::kCPU).pack(ids);
  for (const ComputeDtype compute : {ComputeDtype::kF32, ComputeDtype::kBF16}) {
    const auto log_probabilities = [&](const ModelWeights& model) {
      const TrainingPass pass(model, rows, scalar_type(compute));
      const auto x_ND = run_blocks(model, rows, scalar_type(compute));
      return at::log_softmax(pass.logits(pass.final_norm(x_ND)).to(at::kDouble), 1);
    };
    const auto log_p = log_probabilities(trained);
    EXPECT_TRUE(at::equal(log_p, log_probabilities(frozen)));
    double sum = 0;
    for (std::int64_t i = 4; i < 20; ++i) {
      sum -= log_p[i - 1][sequence.ids[static_cast<std::size_t>(i)]].item<double>();
    }
    TrainSettings settings;
    settings.compute = compute;
    const BatchLoss loss = Trainer(trained, nullptr, settings).evaluate({sequence});
    EXPECT_EQ(loss.token_targets, 16);
    EXPECT_NEAR(sum / 16, loss.cross_entropy, 1e-6 * loss.cross_entropy) << dtype_name(compute);
  }
}

TEST(Masters, AreThePackedWeightsBeforeTheyWereQuantised) {
  const Folder folder;
  const auto packed = folder.folder().load_model(test::reference_backend());
  const auto source = open_checkpoint(folder.beside("dense"));
  const auto masters = with_masters(packed, *source, "--master");
  const auto dense =
      ModelFolder::open(folder.beside("dense")).load_model(test::reference_backend());
  EXPECT_EQ(first_packed_weight(packed), "model.layers.0.self_attn.q_proj.weight");
  EXPECT_EQ(first_packed_weight(masters), "");
  for (std::int64_t layer = 0; layer < 2; ++layer) {
    for (const std::string_view module : kLayerLinears) {
      EXPECT_EQ(masters.weight(layer, module).format(), WeightFormat::kF32);
      EXPECT_TRUE(at::equal(masters.weight(layer, module).dense_values(),
                            dense.weight(layer, module).dense_values()))
          << layer << " " << module;
    }
  }
  EXPECT_TRUE(at::equal(masters.lm_head().dense_values(), dense.lm_head().dense_values()));
  // What is not packed is shared.
  EXPECT_TRUE(masters.norm().is_same(packed.norm()));
  EXPECT_TRUE(masters.embed_tokens().dense_values().is_same(packed.embed_tokens().dense_values()));
}

TEST(Masters, OfAnotherShapeAreRefusedByName) {
  const Folder folder;
  const auto packed = folder.folder().load_model(test::reference_backend());
  TinyModel{.vocab_size = 300}.write(folder.beside("larger"));
  const auto source = open_checkpoint(folder.beside("larger"));
  try {
    (void)with_masters(packed, *source, "--master");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::HasSubstr("lm_head.weight: expected "));
    EXPECT_THAT(error.what(), ::testing::HasSubstr("(--master)"));
  }
}

}  // namespace
}  // namespace qf
