// Whole models in the paths that --linear selects, against ab-check's.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "qwen3fp4/backend/cuda.h"
#include "qwen3fp4/check/path.h"
#include "qwen3fp4/model/kv_cache.h"
#include "qwen3fp4/model/synthetic.h"
#include "qwen3fp4/run/generator.h"
#include "random_model.h"

namespace qf {
namespace {

using test::random_ids;
using test::RandomModel;

// f32 [T, vocab]: of a prompt and of two more tokens behind it.
at::Tensor logits_of(const Qwen3Model& model, const Backend& backend) {
  const Qwen3Model run = model.with_backend(backend);
  const auto ids = random_ids(model, 9, 5);
  const auto span = std::span(ids);
  KvCache cache(run.config(), 16, backend.cache_options());
  std::vector<at::Tensor> hidden{run.forward(span.first(7), cache)};
  hidden.push_back(run.forward(span.subspan(7, 1), cache));
  hidden.push_back(run.forward(span.subspan(8, 1), cache));
  return run.logits(at::cat(hidden));
}

at::Tensor logits_of(const Qwen3Model& model, LinearMode mode, ComputeDtype dtype) {
  return logits_of(model, *make_backend("cpu", dtype, mode));
}

TEST(LinearModeOfAModel, W4A4OnTheCpuIsAbChecksPathBitForBit) {
  for (const std::uint32_t seed : {1U, 2U, 3U, 4U}) {
    const Qwen3Model model = RandomModel{.seed = seed}.make();
    for (const ComputeDtype dtype : {ComputeDtype::kF32, ComputeDtype::kBF16}) {
      const auto path =
          make_backend(PathSpec{.backend = "cpu", .dtype = dtype, .linear = LinearMode::kW4A4});
      const auto got = logits_of(model, LinearMode::kW4A4, dtype);
      EXPECT_TRUE(at::equal(got, logits_of(model, *path))) << "seed " << seed;
      EXPECT_FALSE(at::equal(got, logits_of(model, LinearMode::kW4A16, dtype))) << "seed " << seed;
    }
  }
}

// A few tokens, which the cpu backend's other operations do not cut into pieces.
TEST(LinearModeOfAModel, ReferenceOnTheCpuIsTheReferenceBackendBitForBit) {
  bool differs = false;
  for (const WeightFormat format :
       {WeightFormat::kNvfp4, WeightFormat::kNf4, WeightFormat::kBF16}) {
    const Qwen3Model model = RandomModel{.seed = 7, .format = format}.make();
    const auto expected = logits_of(model, test::reference_backend());
    EXPECT_TRUE(at::equal(logits_of(model, LinearMode::kReference, ComputeDtype::kF32), expected))
        << weight_format_name(format);
    differs =
        differs || !at::equal(logits_of(model, LinearMode::kW4A16, ComputeDtype::kF32), expected);
  }
  EXPECT_TRUE(differs) << "w4a16 gives the same bits: this test cannot tell the two apart";
}

TEST(LinearModeOfAModel, OnAGpuReferenceTakesNeitherKernelNorGraph) {
  if (!no_cuda_reason().empty()) GTEST_SKIP() << no_cuda_reason();
  ModelConfig config = qwen3_config("qwen3-0.6b");
  config.num_hidden_layers = 1;
  config.hidden_size = 256;
  config.intermediate_size = 512;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 64;
  config.vocab_size = 1024;
  const auto decode = [&](LinearMode mode) {
    const auto backend = make_backend("cuda", ComputeDtype::kF16, mode);
    SyntheticWeights weights(config, WeightFormat::kNf4, 1);
    const Qwen3Model model = Qwen3Model::load(config, weights, *backend);
    GeneratorOptions options;
    options.context = 16;
    return Generator(model, nullptr, options).decode_description();
  };
  EXPECT_THAT(decode(LinearMode::kW4A16), testing::StartsWith("one "));
  EXPECT_THAT(decode(LinearMode::kReference),
              testing::AllOf(testing::StartsWith("operation by operation"),
                             testing::HasSubstr("not as reference")));
}

}  // namespace
}  // namespace qf
