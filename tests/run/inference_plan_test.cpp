#include "qwen3fp4/run/inference_plan.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "qwen3fp4/memory/host_cap.h"
#include "qwen3fp4/model/synthetic.h"
#include "qwen3fp4/quant/parallel.h"
#include "qwen3fp4/run/generator.h"

namespace qf {
namespace {

// Small enough for a sanitized build, large enough that tensors are what counts.
ModelConfig small_config() {
  ModelConfig config = qwen3_config("qwen3-0.6b");
  config.num_hidden_layers = 3;
  config.hidden_size = 256;
  config.intermediate_size = 768;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 64;
  config.vocab_size = 20000;
  return config;
}

struct PlannedRun {
  std::int64_t prompt;
  LinearMode linear = LinearMode::kW4A16;
  const char* backend = "cpu";
  KvCacheType kv_cache = KvCacheType::kAuto;
};
void PrintTo(const PlannedRun& run, std::ostream* out) {
  *out << run.backend << ", prompt of " << run.prompt << ", " << linear_mode_name(run.linear)
       << ", cache " << static_cast<int>(run.kv_cache);
}

class InferencePlan : public testing::TestWithParam<PlannedRun> {
 protected:
  InferencePlan() {
    install_host_cap();
    set_parallel_threads(2);
  }
  ~InferencePlan() override { set_parallel_threads(0); }
};

// What a run of the generator holds at its peak is what the plan says, within a twentieth.
TEST_P(InferencePlan, IsWhatARunHolds) {
  const std::int64_t prompt = GetParam().prompt;
  const KvCacheType kv_cache = GetParam().kv_cache;
  const ModelConfig config = small_config();
  const auto backend = make_backend(GetParam().backend, ComputeDtype::kF32, GetParam().linear);
  // A context that makes the cache count.
  const InferenceRun run{.context = prompt + 2000, .prompt = prompt, .kv_cache = kv_cache};
  const MemoryPlan plan =
      plan_inference(config, weight_bytes(config, WeightFormat::kNvfp4), *backend, run);

  const std::int64_t before = host_allocated();
  SyntheticWeights weights(config, WeightFormat::kNvfp4, 1);
  const Qwen3Model model = Qwen3Model::load(config, weights, *backend);
  EXPECT_NEAR(static_cast<double>(weight_bytes(config, WeightFormat::kNvfp4)),
              static_cast<double>(host_allocated() - before), 0.02 * 1e7);
  std::vector<std::int64_t> ids(static_cast<std::size_t>(prompt));
  std::iota(ids.begin(), ids.end(), 1);
  forget_host_peak();
  GeneratorOptions options;
  options.context = run.context;
  options.max_new_tokens = 2;
  options.kv_cache = kv_cache;
  Generator generator(model, nullptr, options);
  (void)generator.answer(ids, [](std::int64_t, std::string_view) {});
  const auto held = static_cast<double>(host_allocated_peak() - before);
  EXPECT_NEAR(static_cast<double>(plan.peak()), held, 0.05 * held);
}

INSTANTIATE_TEST_SUITE_P(
    Runs, InferencePlan,
    testing::Values(PlannedRun{2}, PlannedRun{500}, PlannedRun{1500},
                    PlannedRun{2, LinearMode::kW4A4}, PlannedRun{1500, LinearMode::kW4A4},
                    PlannedRun{2, LinearMode::kReference}, PlannedRun{1500, LinearMode::kReference},
                    PlannedRun{500, LinearMode::kW4A16, "reference"},
                    PlannedRun{2, LinearMode::kW4A16, "cpu", KvCacheType::kFp8},
                    PlannedRun{500, LinearMode::kW4A16, "cpu", KvCacheType::kBF16},
                    PlannedRun{1500, LinearMode::kW4A16, "cpu", KvCacheType::kFp8}));

}  // namespace
}  // namespace qf
