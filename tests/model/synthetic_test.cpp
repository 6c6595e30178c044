// Models whose weights are drawn at random.
#include "qwen3fp4/model/synthetic.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/model/qwen3_model.h"
#include "qwen3fp4/quant/parallel.h"

namespace qf {
namespace {

using ::testing::HasSubstr;

ModelConfig small_config(bool tied) {
  ModelConfig config = qwen3_config("qwen3-0.6b");
  config.vocab_size = 300;
  config.hidden_size = 128;
  config.intermediate_size = 192;
  config.num_hidden_layers = 3;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 32;
  config.tie_word_embeddings = tied;
  return config;
}

Qwen3Model draw(const ModelConfig& config, WeightFormat format, std::uint64_t seed,
                const Backend& backend) {
  SyntheticWeights weights(config, format, seed);
  return Qwen3Model::load(config, weights, backend);
}

at::Tensor logits_of(const Qwen3Model& model) {
  const std::vector<std::int64_t> ids{7, 0, 299, 42, 7, 11};
  KvCache cache(model.config(), std::ssize(ids));
  return model.logits(model.forward(ids, cache));
}

// The numbers of parameters that Hugging Face shows for the six, less the second copy of the
// embedding that the two smallest checkpoints store under the head's name.
TEST(Qwen3Config, HasAsManyParametersAsTheRealModels) {
  const std::vector<std::pair<std::string_view, std::int64_t>> expected{
      {"qwen3-0.6b", 751632384 - 151936 * 1024},
      {"qwen3-1.7b", 2031739904 - 151936 * 2048},
      {"qwen3-4b", 4022468096},
      {"qwen3-8b", 8190735360},
      {"qwen3-14b", 14768307200},
      {"qwen3-32b", 32762123264}};
  ASSERT_EQ(qwen3_names().size(), expected.size());
  for (const auto& [name, parameters] : expected) {
    const ModelConfig config = qwen3_config(name);
    std::int64_t count = 0;
    for_each_weight(config, !config.tie_word_embeddings,
                    [&](const WeightSpec& spec) { count += element_count(spec.shape); });
    EXPECT_EQ(count, parameters) << name;
  }
}

TEST(Qwen3Config, AnUnknownNameIsRefusedWithTheList) {
  try {
    (void)qwen3_config("qwen3-235b");
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    for (const auto name : qwen3_names()) {
      EXPECT_THAT(error.what(), HasSubstr(std::string(name)));
    }
  }
}

class Synthetic : public testing::TestWithParam<WeightFormat> {
 protected:
  std::unique_ptr<Backend> backend_ = make_backend("cpu");
};
INSTANTIATE_TEST_SUITE_P(Formats, Synthetic,
                         testing::Values(WeightFormat::kNvfp4, WeightFormat::kNf4,
                                         WeightFormat::kBF16),
                         [](const auto& instance) {
                           return std::string(weight_format_name(instance.param));
                         });

TEST_P(Synthetic, HasTheStatisticsThatItPromises) {
  constexpr std::int64_t kIn = 1024;
  const auto weight = synthetic_matrix(GetParam(), 256, kIn, 1);
  EXPECT_EQ(weight.format(), GetParam());
  const auto values = weight.dequantize().to(at::kDouble);
  // Of 2^18 independent values, mean and deviation are known to a few per mille.
  const double deviation = 1 / std::sqrt(static_cast<double>(kIn));
  // NF4's code book is lopsided: the mean of its 16 values is 0.0237, their root mean square
  // 0.5424.
  const double mean = GetParam() == WeightFormat::kNf4 ? deviation * 0.0234 / 0.5172 : 0;
  EXPECT_NEAR(values.mean().item<double>(), mean, 0.01 * deviation);
  EXPECT_NEAR(values.std().item<double>(), deviation, 0.01 * deviation);
  // Neighbours, and rows, have nothing to do with each other.
  for (const auto& shifted : {values.roll(1, 1), values.roll(1, 0)}) {
    EXPECT_NEAR((values * shifted).mean().item<double>(), 0, 0.01 * deviation * deviation);
  }
}

TEST_P(Synthetic, IsTheSameForASeedAndForEveryNumberOfThreads) {
  const auto matrix = [&](std::uint64_t seed) {
    // Codes that are no multiple of 8 bytes, and more than one task.
    return synthetic_matrix(GetParam(), 3001, 336, seed).dequantize();
  };
  set_parallel_threads(1);
  const auto alone = matrix(5);
  set_parallel_threads(3);
  EXPECT_TRUE(at::equal(matrix(5), alone));
  set_parallel_threads(0);
  EXPECT_FALSE(at::equal(matrix(6), alone));

  const auto logits = logits_of(draw(small_config(true), GetParam(), 5, *backend_));
  EXPECT_TRUE(at::equal(logits_of(draw(small_config(true), GetParam(), 5, *backend_)), logits));
  EXPECT_FALSE(at::equal(logits_of(draw(small_config(true), GetParam(), 6, *backend_)), logits));
}

TEST_P(Synthetic, EveryWeightOfAModelIsAnother) {
  const Qwen3Model model = draw(small_config(false), GetParam(), 0, *backend_);
  EXPECT_FALSE(at::equal(model.weight(0, "mlp.gate_proj").dequantize(),
                         model.weight(0, "mlp.up_proj").dequantize()));
  EXPECT_FALSE(at::equal(model.weight(0, "mlp.up_proj").dequantize(),
                         model.weight(1, "mlp.up_proj").dequantize()));
  EXPECT_FALSE(at::equal(model.layers()[0].input_layernorm, model.layers()[1].input_layernorm));
}

TEST_P(Synthetic, ActivationsAndLogitsAreOfOrderOne) {
  for (const bool tied : {true, false}) {
    const Qwen3Model model = draw(small_config(tied), GetParam(), 0, *backend_);
    KvCache cache(model.config(), 6);
    const std::vector<std::int64_t> ids{7, 0, 299, 42, 7, 11};
    (void)model.forward(ids, cache, [](std::string_view module, const at::Tensor& output) {
      // Rows of the embedding are the size of the head's, and only that.
      if (module == "model.embed_tokens") return output;
      EXPECT_TRUE(at::isfinite(output).all().item<bool>()) << module;
      const double size = output.square().mean().sqrt().item<double>();
      EXPECT_GT(size, 0.03) << module;
      EXPECT_LT(size, 10) << module;
      return output;
    });
    const double size = logits_of(model).square().mean().sqrt().item<double>();
    EXPECT_GT(size, 0.3);
    EXPECT_LT(size, 3);
  }
}

// As convert leaves them: packed formats pack a tied model's head beside its embedding.
TEST_P(Synthetic, HeadAndEmbeddingAreAsConvertWritesThem) {
  const Qwen3Model tied = draw(small_config(true), GetParam(), 0, *backend_);
  EXPECT_EQ(tied.embed_tokens().format(), WeightFormat::kBF16);
  EXPECT_EQ(tied.lm_head().format(), GetParam());
  EXPECT_EQ(&tied.lm_head() == &tied.embed_tokens(), GetParam() == WeightFormat::kBF16);
  const Qwen3Model untied = draw(small_config(false), GetParam(), 0, *backend_);
  EXPECT_EQ(untied.lm_head().format(), GetParam());
  EXPECT_NE(&untied.lm_head(), &untied.embed_tokens());
}

TEST_P(Synthetic, ProgressCountsEveryValue) {
  const ModelConfig config = small_config(true);
  std::int64_t last = 0;
  std::int64_t total = 0;
  SyntheticWeights weights(config, GetParam(), 0, [&](std::int64_t done, std::int64_t all) {
    EXPECT_GT(done, last);
    last = done;
    total = all;
  });
  (void)Qwen3Model::load(config, weights, *backend_);
  std::int64_t expected = 0;
  for_each_weight(config, GetParam() != WeightFormat::kBF16,
                  [&](const WeightSpec& spec) { expected += element_count(spec.shape); });
  EXPECT_EQ(last, expected);
  EXPECT_EQ(total, expected);
}

TEST(SyntheticFormats, OthersAreRefused) {
  for (const auto format : {WeightFormat::kF32, WeightFormat::kF16}) {
    EXPECT_THROW((void)synthetic_matrix(format, 2, 16, 0), Error);
    EXPECT_THROW(SyntheticWeights(small_config(true), format, 0), Error);
  }
  EXPECT_THROW((void)synthetic_matrix(WeightFormat::kNvfp4, 2, 24, 0), Error);
}

TEST(SyntheticFormats, CodesAreUniform) {
  for (const auto format : {WeightFormat::kNvfp4, WeightFormat::kNf4}) {
    const auto codes = synthetic_matrix(format, 256, 1024, 3).codes();
    for (const auto& nibbles : {codes.bitwise_and(15), codes.bitwise_right_shift(4)}) {
      const auto counts = at::bincount(nibbles.flatten().to(at::kLong), {}, 16);
      // 2^17 draws of 16 codes: 8192 each, give or take six deviations of 88.
      EXPECT_LT((counts - 8192).abs().max().item<std::int64_t>(), 6 * 88);
    }
  }
}

}  // namespace
}  // namespace qf
