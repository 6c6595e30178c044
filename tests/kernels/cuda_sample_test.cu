// Sampling on the device against the CPU's choice, on fresh random data. Needs a GPU (label gpu).
#include <limits>
#include <string>

#include "cuda_support.h"
#include "qwen3fp4/kernels/cpu/sample.h"
#include "qwen3fp4/kernels/cuda/sample.h"
#include "sample_cases.h"

namespace qf {
namespace {

using cuda::SampleState;

// A sampler on the device, and what it reads.
class DeviceSampler {
 public:
  DeviceSampler(const SampleCase& c, const std::vector<double>& draws)
      : rule_(c.rule),
        logits_(c.logits),
        allowed_(c.allowed),
        repeated_(c.repeated),
        draws_(draws),
        state_(std::vector<SampleState>(1)),
        workspace_(std::vector<std::uint8_t>(static_cast<std::size_t>(cuda::sample_workspace_bytes(
                                                 static_cast<std::int64_t>(c.logits.size()))),
                                             0xA5)) {
    EXPECT_EQ(cudaMallocHost(&host_state_, sizeof(SampleState)), cudaSuccess);
    step_ = {logits_.get(),   static_cast<std::int64_t>(c.logits.size()),
             allowed_.get(),  repeated_.get(),
             draws_.get(),    static_cast<std::int64_t>(draws.size()),
             state_.get(),    host_state_,
             workspace_.get()};
  }
  ~DeviceSampler() { cudaFreeHost(host_state_); }
  cudaError_t launch() { return cuda::sample_token(rule_, step_, nullptr); }
  // The state as it arrived in pinned memory.
  SampleState run() {
    EXPECT_EQ(launch(), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaSuccess);
    return *host_state_;
  }
  SampleState state() const { return state_.host()[0]; }
  std::vector<std::uint32_t> repeated() const { return repeated_.host(); }
  SampleRule& rule() { return rule_; }
  cuda::SampleStep& step() { return step_; }

 private:
  SampleRule rule_;
  DeviceArray<float> logits_;
  DeviceArray<std::uint32_t> allowed_, repeated_;
  DeviceArray<double> draws_;
  DeviceArray<SampleState> state_;
  DeviceArray<std::uint8_t> workspace_;
  SampleState* host_state_ = nullptr;
  cuda::SampleStep step_{};
};

std::vector<double> random_draws(std::int64_t count) {
  std::mt19937_64 random(random_source()());
  std::vector<double> draws;
  for (std::int64_t i = 0; i < count; ++i) draws.push_back(draw_from_bits(random()));
  draws[0] = 0;
  draws[1] = 0x1.FFFFFFFFFFFFFp-1;
  return draws;
}

std::string text(const SampleRule& rule) {
  return "t " + std::to_string(rule.temperature) + ", k " + std::to_string(rule.top_k) + ", p " +
         std::to_string(rule.top_p) + ", min p " + std::to_string(rule.min_p) + ", penalty " +
         std::to_string(rule.repetition_penalty);
}

// Some steps on the same logits: the chosen tokens join the penalised ones, draws are used up.
void expect_the_cpus_choices(SampleCase c, int steps) {
  SCOPED_TRACE(text(c.rule) + ", vocab " + std::to_string(c.logits.size()));
  const auto draws = random_draws(steps + 2);
  DeviceSampler sampler(c, draws);
  std::vector<WeightedToken> tokens(c.logits.size());
  std::int64_t used = 0;
  for (int i = 0; i < steps; ++i) {
    const Survivors found = surviving_tokens(c.rule, c.view(), tokens.data());
    ASSERT_EQ(found.status, SampleStatus::kChosen);
    const std::int64_t expected =
        found.count == 1
            ? tokens[0].id
            : drawn_token(tokens.data(), found.count, draws[static_cast<std::size_t>(used++)]);
    c.repeated[static_cast<std::size_t>(expected / 32)] |= 1U << (expected % 32);
    const SampleState state = sampler.run();
    ASSERT_EQ(state.status, SampleStatus::kChosen);
    ASSERT_EQ(state.token, expected) << "step " << i << ", " << found.count << " candidates";
    ASSERT_EQ(state.draws_used, used);
  }
  EXPECT_EQ(sampler.repeated(), c.repeated);
}

TEST(CudaSample, ChoosesAsTheCpuDoes) {
  for (int i = 0; i < 400; ++i) {
    const auto vocab = static_cast<std::int64_t>(1 + random_source()() % 3000);
    expect_the_cpus_choices(random_sample_case(random_source(), vocab), 3);
    if (HasFatalFailure()) return;
  }
}

TEST(CudaSample, ChoosesAsTheCpuDoesAtTheEdgesOfSlices) {
  for (const std::int64_t vocab : {1, 2, 31, 32, 1023, 1024, 1025, 2048, 151936, 524288}) {
    expect_the_cpus_choices(random_sample_case(random_source(), vocab), 2);
    auto whole = random_sample_case(random_source(), vocab);
    whole.rule = {1, 0, 1, 0, 1};
    expect_the_cpus_choices(whole, 2);
    auto nucleus = random_sample_case(random_source(), vocab);
    nucleus.rule = {0.7, 20, 0.8, 0, 1.05F};
    expect_the_cpus_choices(nucleus, 2);
    if (HasFatalFailure()) return;
  }
}

TEST(CudaSample, GreedyTakesTheLowestOfEqualIds) {
  SampleCase c{std::vector<float>(5000, -1),
               std::vector<std::uint32_t>(157, 0xFFFFFFFFU),
               std::vector<std::uint32_t>(157),
               {0, 0, 1, 0, 1}};
  c.logits[4097] = c.logits[4098] = c.logits[1030] = 2;
  DeviceSampler sampler(c, {0.5});
  EXPECT_EQ(sampler.run().token, 1030U);
  EXPECT_EQ(sampler.run().draws_used, 0);
}

TEST(CudaSample, ReportsAndKeepsAnError) {
  for (const double temperature : {0.0, 1.0}) {
    SampleCase c = random_sample_case(random_source(), 3000);
    c.rule = {temperature, 0, 0.9, 0, 1};
    {
      SampleCase bad = c;
      bad.logits[2999] = std::numeric_limits<float>::quiet_NaN();
      DeviceSampler sampler(bad, random_draws(4));
      sampler.run();
      const SampleState state = sampler.run();
      EXPECT_EQ(state.status, SampleStatus::kNonFiniteLogits);
      EXPECT_EQ(state.draws_used, 0);
      EXPECT_EQ(sampler.repeated(), bad.repeated);
    }
    {
      SampleCase none = c;
      none.allowed.assign(none.allowed.size(), 0);
      EXPECT_EQ(DeviceSampler(none, random_draws(4)).run().status, SampleStatus::kNoTokenAllowed);
    }
  }
  SampleCase c{{1, 1}, {3}, {0}, {1, 0, 1, 0, 1}};
  DeviceSampler sampler(c, {0.25, 0.75});
  EXPECT_EQ(sampler.run().token, 0U);
  EXPECT_EQ(sampler.run().token, 1U);
  EXPECT_EQ(sampler.run().status, SampleStatus::kNoDrawLeft);
  EXPECT_EQ(sampler.run().draws_used, 2);
}

TEST(CudaSample, TakesNoSetsAsAllAndNone) {
  SampleCase c{{1, 5, 2}, {0}, {7}, {0, 0, 1, 0, 100}};
  DeviceSampler sampler(c, {0.5});
  sampler.step().allowed = nullptr;
  sampler.step().repeated = nullptr;
  EXPECT_EQ(sampler.run().token, 1U);
}

TEST(CudaSample, RefusesRulesOutOfRange) {
  const SampleCase c{{1, 2}, {3}, {0}, {1, 0, 1, 0, 1}};
  DeviceSampler sampler(c, {0.5});
  const auto refused = [&](const SampleRule& rule) {
    sampler.rule() = rule;
    return sampler.launch() == cudaErrorInvalidValue;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(refused({1, 0, 1, 0, 1}));
  EXPECT_TRUE(refused({-1, 0, 1, 0, 1}));
  EXPECT_TRUE(refused({nan, 0, 1, 0, 1}));
  EXPECT_TRUE(refused({1, -1, 1, 0, 1}));
  EXPECT_TRUE(refused({1, 0, 1.5, 0, 1}));
  EXPECT_TRUE(refused({1, 0, 1, -0.5, 1}));
  EXPECT_TRUE(refused({1, 0, 1, 0, 0}));
  sampler.step().vocab = 0;
  EXPECT_TRUE(refused({1, 0, 1, 0, 1}));
  sampler.step().vocab = kSampleMaxVocab + 1;
  EXPECT_TRUE(refused({1, 0, 1, 0, 1}));
}

TEST(CudaSample, Speed) {
  constexpr std::int64_t kVocab = 151936;  // Qwen3's
  SampleCase c{random_floats(kVocab),
               std::vector<std::uint32_t>(kVocab / 32, 0xFFFFFFFFU),
               std::vector<std::uint32_t>(kVocab / 32),
               {}};
  for (float& logit : c.logits) logit *= 3;
  const std::pair<const char*, SampleRule> rules[] = {
      {"greedy", {0, 0, 1, 0, 1}},
      {"temperature 0.7", {0.7, 0, 1, 0, 1}},
      {"temperature 0.7, top-k 20, top-p 0.8", {0.7, 20, 0.8, 0, 1}},
      {"temperature 0.7, top-p 0.95, penalty 1.05", {0.7, 0, 0.95, 0, 1.05F}}};
  std::printf(
      "| sample_token (vocab %lld) | bytes of logits | median | rate |\n|---|---|---|---|\n",
      static_cast<long long>(kVocab));
  for (const auto& [name, rule] : rules) {
    c.rule = rule;
    DeviceSampler sampler(c, random_draws(64));
    report(name, 4.0 * kVocab, [&] { ASSERT_EQ(sampler.launch(), cudaSuccess); });
    EXPECT_EQ(sampler.state().status, SampleStatus::kChosen);
  }
}

}  // namespace
}  // namespace qf
