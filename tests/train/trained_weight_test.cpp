// Weights that are being trained: what steps do to codes and states.
#include "qwen3fp4/train/trained_weight.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/quant/parallel.h"
#include "qwen3fp4/quant/quantize.h"

namespace qf {
namespace {

constexpr TrainProfile kProfiles[] = {TrainProfile::kFp32, TrainProfile::kExact,
                                      TrainProfile::kDefault, TrainProfile::kMin};

// Qwen3's size of weights.
at::Tensor random_weight(std::int64_t rows, std::int64_t cols) {
  at::manual_seed(1);
  return at::randn({rows, cols}) * 0.02;
}
WeightMatrix quantised(const at::Tensor& weight) {
  return quantize_nvfp4(weight, Nvfp4Options{.search = true});
}
std::unique_ptr<TrainedWeight> trained(const at::Tensor& weight, TrainProfile profile) {
  return make_trained_weight(quantised(weight), {.profile = profile, .tensor = 3});
}

void run_step(TrainedWeight& weight, const at::Tensor& gradient, const AdamStep& step,
              std::int64_t chunk) {
  for (std::int64_t first = 0; first < gradient.size(0); first += chunk) {
    weight.step_rows(first, gradient.narrow(0, first, std::min(chunk, gradient.size(0) - first)),
                     step, {});
  }
  weight.finish_step(step);
}
void run_step(TrainedWeight& weight, const at::Tensor& gradient, const AdamStep& step) {
  run_step(weight, gradient, step, gradient.size(0));
}

std::map<std::string, at::Tensor> states(TrainedWeight& weight) {
  std::map<std::string, at::Tensor> out;
  weight.visit_states(
      [&](const std::string& name, at::Tensor& t) { out.emplace(name, t.clone()); });
  return out;
}
void expect_same(TrainedWeight& a, TrainedWeight& b) {
  const auto all = states(a);
  EXPECT_EQ(all.size(), states(b).size());
  for (const auto& [name, tensor] : states(b)) {
    EXPECT_TRUE(at::equal(all.at(name), tensor)) << name;
  }
}

// ---- The drift that reaches the exported codes ----

constexpr std::int64_t kSteps = 100;
constexpr double kRate = 1e-5;

// The share of the way that 100 steps of one sign, each as long as the learning rate, should go.
double share_of_drift(TrainedWeight& weight) {
  const auto before = weight.weight().dequantize();
  const auto sign = at::randn(before.sizes()).sign();
  for (std::int64_t i = 1; i <= kSteps; ++i) {
    run_step(weight, sign * 1e-3, {.learning_rate = kRate, .step = i, .seed = 5});
  }
  const auto moved = (weight.weight().dequantize() - before) * sign;
  return -moved.sum().item<double>() / static_cast<double>(before.numel()) / (kSteps * kRate);
}

// 32768 weights whose codes are about .0045 apart: 1e-3 flips a fifth, with a standard deviation of
// 1 % of the share by chance; min, which draws at each step, flips to and fro: 1.2 %.
TEST(TrainedWeight, DriftFromADitheredStartReachesTheCodes) {
  for (const TrainProfile profile : kProfiles) {
    const auto weight = trained(random_weight(64, 512), profile);
    const double share = share_of_drift(*weight);
    EXPECT_NEAR(share, 1.0, 0.1) << train_profile_name(profile);
  }
}

// The search leaves few weights near the edges of their cells, so they have further to go: with any
// master.
TEST(TrainedWeight, DriftFromOriginalWeightsReachesTheCodes) {
  const auto original = random_weight(64, 512);
  for (const TrainProfile profile :
       {TrainProfile::kFp32, TrainProfile::kExact, TrainProfile::kDefault}) {
    const auto weight = make_trained_weight(quantised(original),
                                            {.profile = profile, .tensor = 3, .master = original});
    const double share = share_of_drift(*weight);
    EXPECT_GT(share, 0.4) << train_profile_name(profile);
    EXPECT_LT(share, 0.95) << train_profile_name(profile);
  }
}

// What this room is for: rounding updated 4-bit weights to the nearest code loses every step.
TEST(TrainedWeight, DriftIsLostWithoutAMaster) {
  const auto start = quantised(random_weight(64, 128));
  auto values = start.dequantize();
  const auto sign = at::randn(values.sizes()).sign();
  const auto scale = (start.scales().view(at::kFloat8_e4m3fn).to(at::kFloat) * start.global_scale())
                         .repeat_interleave(16, 1);
  const auto grid =
      at::tensor({-6., -4., -3., -2., -1.5, -1., -.5, 0., .5, 1., 1.5, 2., 3., 4., 6.}, at::kFloat);
  for (std::int64_t i = 0; i < kSteps; ++i) {
    const auto y = (values - kRate * sign) / scale;
    const auto nearest = (y.unsqueeze(-1) - grid).abs().argmin(-1);
    values = grid.index_select(0, nearest.flatten()).view(y.sizes()) * scale;
  }
  // To the rounding of scale * value; the next code would be at least a fifth away.
  EXPECT_TRUE(at::allclose(values, start.dequantize(), 1e-6, 0));
}

// ---- Cuts, threads, checkpoints ----

TEST(TrainedWeight, GivesTheSameBitsForEveryCutAndNumberOfThreads) {
  const auto original = random_weight(100, 144);
  const auto gradient = (at::randn({3, 100, 144}) * 1e-3).to(at::kBFloat16);
  const auto run = [&](TrainProfile profile, std::int64_t chunk, at::ScalarType type) {
    auto weight = trained(original, profile);
    for (std::int64_t i = 0; i < 3; ++i) {
      run_step(*weight, gradient[i].to(type), {.learning_rate = 1e-3, .step = i + 1, .seed = 9},
               chunk);
    }
    return weight;
  };
  const int threads = parallel_threads();
  for (const TrainProfile profile : kProfiles) {
    const auto whole = run(profile, 100, at::kFloat);
    EXPECT_FALSE(at::equal(whole->weight().codes(), quantised(original).codes()));
    for (const std::int64_t chunk : {1, 7, 64, 99}) {
      expect_same(*whole, *run(profile, chunk, at::kFloat));
    }
    set_parallel_threads(1);
    expect_same(*whole, *run(profile, 100, at::kBFloat16));
    set_parallel_threads(threads);
  }
}

TEST(TrainedWeight, GoesOnFromItsStatesAsIfNothingHadHappened) {
  const auto gradient = at::randn({4, 64, 80}) * 1e-3;
  const auto step = [&](TrainedWeight& weight, std::int64_t i) {
    run_step(weight, gradient[i], {.learning_rate = 1e-3, .step = i + 1, .seed = 9});
  };
  for (const TrainProfile profile : kProfiles) {
    const auto whole = trained(random_weight(64, 80), profile);
    for (std::int64_t i = 0; i < 4; ++i) step(*whole, i);
    const auto half = trained(random_weight(64, 80), profile);
    for (std::int64_t i = 0; i < 2; ++i) step(*half, i);
    const auto saved = states(*half);
    // Of other contents, until they are loaded.
    const auto resumed = trained(random_weight(64, 80) * -1, profile);
    const auto scales = half->weight().scales();
    ASSERT_TRUE(at::equal(resumed->weight().scales(), scales));
    resumed->visit_states([&](const std::string& name, at::Tensor& t) { t.copy_(saved.at(name)); });
    for (std::int64_t i = 2; i < 4; ++i) step(*resumed, i);
    expect_same(*whole, *resumed);
    EXPECT_TRUE(at::equal(whole->weight().dequantize(), resumed->weight().dequantize()));
  }
}

TEST(TrainedWeight, StartsWithTheCodesThatItWasGiven) {
  const auto original = random_weight(64, 96);
  const auto start = quantised(original);
  for (const TrainProfile profile : kProfiles) {
    for (const at::Tensor& master : {at::Tensor(), original, original.to(at::kBFloat16)}) {
      const auto weight = make_trained_weight(start, {.profile = profile, .master = master});
      EXPECT_TRUE(at::equal(weight->weight().dequantize(), start.dequantize()));
      EXPECT_TRUE(
          at::equal(weight->dequantize_rows(3, 10, at::kFloat), start.dequantize_rows(3, 10)));
      EXPECT_TRUE(at::equal(weight->dequantize_rows(3, 10, at::kBFloat16),
                            start.dequantize_rows(3, 10).to(at::kBFloat16)));
      // Steps leave the weight that it was made of alone.
      run_step(*weight, at::ones({64, 96}), {.learning_rate = 1e-2});
      EXPECT_FALSE(at::equal(weight->weight().dequantize(), start.dequantize()));
      EXPECT_TRUE(at::equal(start.codes(), quantised(original).codes()));
    }
  }
}

TEST(TrainedWeight, HasStatesOfTheSizeThatItsProfileSays) {
  constexpr std::int64_t kRows = 64, kCols = 576, kCount = kRows * kCols;
  constexpr std::int64_t kScales = 4 * kRows * 5;  // groups of 128: 4.5 a row
  const auto bytes = [](TrainProfile profile) {
    return trained(random_weight(kRows, kCols), profile)->state_bytes();
  };
  EXPECT_EQ(bytes(TrainProfile::kFp32), 12 * kCount);
  EXPECT_EQ(bytes(TrainProfile::kExact), kCount * 3 / 2 + 2 * kCount + 2 * kScales);
  EXPECT_EQ(bytes(TrainProfile::kDefault), 2 * kCount + 2 * kScales);
  EXPECT_EQ(bytes(TrainProfile::kMin), kCount / 2 + kScales + 4 * kRows + 4 * 4 * kCols);
  // Tensors under 4096 elements keep f32 states.
  EXPECT_EQ(trained(random_weight(31, 128), TrainProfile::kDefault)->state_bytes(), 12 * 31 * 128);
}

// ---- Dense weights and norms ----

TEST(TrainedWeight, OfDenseValuesKeepsAnF32Master) {
  const auto values = random_weight(8, 24);
  const auto gradient = at::randn({8, 24});
  for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const auto weight = make_trained_weight(WeightMatrix::dense(values.to(type)), {});
    auto expected = values.to(type).to(at::kDouble);
    // The first step of Adam is as long as the learning rate, whatever the gradient; 50 of 1e-5 are
    // less than half of bf16's steps of 1.2e-4 for most of the weights, one at a time.
    for (std::int64_t i = 1; i <= 50; ++i) {
      run_step(*weight, gradient.to(at::kBFloat16), {.learning_rate = 1e-5, .step = i}, 3);
    }
    expected -= 50 * 1e-5 * gradient.sign();
    EXPECT_TRUE(at::allclose(weight->weight().dequantize().to(at::kDouble), expected,
                             type == at::kFloat ? 1e-6 : 0x1p-8, 1e-7));
    EXPECT_EQ(weight->state_bytes(), 8 * 24 * (type == at::kFloat ? 8 : 12));
  }
}

// As norms are trained: a row of f32 values.
TEST(TrainedWeight, OfF32StepsAsAdamIsDefined) {
  at::manual_seed(2);
  const auto start = at::randn({1, 300});
  const auto weight = make_trained_weight(WeightMatrix::dense(start.clone()), {});
  auto w = start.to(at::kDouble);
  auto m = at::zeros_like(w);
  auto v = at::zeros_like(w);
  for (std::int64_t i = 1; i <= 5; ++i) {
    const auto gradient = at::randn({1, 300});
    run_step(*weight, gradient,
             {.learning_rate = 1e-3,
              .beta1 = 0.9,
              .beta2 = 0.95,
              .epsilon = 1e-10,
              .weight_decay = 0.1,
              .gradient_scale = 0.5,
              .step = i});
    const auto g = gradient.to(at::kDouble) * 0.5;
    m = 0.9 * m + 0.1 * g;
    v = 0.95 * v + 0.05 * g * g;
    const auto root = (v / (1 - std::pow(0.95, i))).sqrt();
    w = w * (1 - 1e-4) - 1e-3 * (m / (1 - std::pow(0.9, i))) / (root + 1e-10);
  }
  // A few roundings of values up to 4 a step.
  EXPECT_TRUE(at::allclose(weight->weight().dense_values().to(at::kDouble), w, 0, 5 * 0x1p-20));
}

// ---- What is refused ----

void expect_error(const std::function<void()>& run, const std::string& part) {
  try {
    run();
    ADD_FAILURE() << "expected an error about " << part;
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(TrainedWeight, RefusesWhatItCannotTrain) {
  const auto original = random_weight(64, 64);
  expect_error([&] { (void)make_trained_weight(quantize_nf4(original), {}); },
               "nvfp4, f32, f16 or bf16");
  const auto weight = quantised(original);
  const auto f32_scales = WeightMatrix::nvfp4(weight.codes(), at::ones({64, 4}), 1.0F);
  expect_error([&] { (void)make_trained_weight(f32_scales, {}); }, "f32 scales");
  const auto nan = WeightMatrix::nvfp4(weight.codes(), at::full({64, 4}, 0xFF, at::kByte), 1.0F);
  expect_error([&] { (void)make_trained_weight(nan, {}); }, "NaN");
  expect_error(
      [&] {
        (void)make_trained_weight(weight, {.master = at::zeros({64, 32})});
      },
      "[64, 32]");
  expect_error([&] { (void)train_profile("best"); }, "exact");
  EXPECT_EQ(train_profile("min"), TrainProfile::kMin);

  const auto trained = make_trained_weight(weight, {});
  expect_error([&] { trained->step_rows(0, at::zeros({64, 32}), {}, {}); }, "[64, 32]");
  expect_error([&] { trained->step_rows(0, at::zeros({64, 64}).to(at::kHalf), {}, {}); }, "bf16");
  expect_error([&] { trained->step_rows(8, at::zeros({8, 64}), {}, {}); }, "rows from 0");
  expect_error([&] { trained->step_rows(0, at::zeros({8, 64}), {}, at::zeros({8, 2})); }, "[8, 1]");
  trained->step_rows(0, at::zeros({8, 64}), {}, {});
  expect_error([&] { trained->finish_step({}); }, "64 rows");
}

}  // namespace
}  // namespace qf
