#include "qwen3fp4/train/calibration.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "../run/tiny_model.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/model/model_folder.h"
#include "training_model.h"

namespace qf {
namespace {

const std::filesystem::path kModels = std::filesystem::path(QF_TEST_DIR) / "golden" / "model";

class Calibrated : public ::testing::TestWithParam<const char*> {
 protected:
  Calibrated()
      : folder_(ModelFolder::open(kModels / GetParam())),
        model_(folder_.load_model(test::reference_backend())) {
    for (std::uint32_t i = 0; i < 5; ++i) {
      sequences_.push_back(test::random_sequence(model_, 7 + 4 * i, i));
    }
  }

  // The mean squares as an inference pass sees the modules in front of each linear.
  [[nodiscard]] std::map<std::string, at::Tensor> observed() const {
    std::map<std::string, at::Tensor> sums;
    double tokens = 0;
    for (const TrainSequence& sequence : sequences_) {
      KvCache cache(model_.config(), std::ssize(sequence.ids));
      tokens += static_cast<double>(sequence.ids.size());
      const Tap tap = [&](std::string_view module, const at::Tensor& output) {
        const auto added = output.to(at::kDouble).square().reshape({output.size(0), -1}).sum(0);
        auto& sum = sums[std::string(module)];
        sum = sum.defined() ? sum + added : added;
        return output;
      };
      (void)model_.forward(sequence.ids, cache, tap);
    }
    for (auto& [module, sum] : sums) sum = (sum / tokens).to(at::kFloat);
    return sums;
  }

  ModelFolder folder_;
  Qwen3Model model_;
  std::vector<TrainSequence> sequences_;
};

// Which module's output a linear multiplies.
std::string module_before(const std::string& weight) {
  if (weight == "lm_head.weight") return "model.norm";
  const auto layer = weight.substr(0, weight.find('.', std::string("model.layers.").size()));
  if (weight.ends_with("o_proj.weight")) return layer + ".self_attn.attention";
  if (weight.ends_with("down_proj.weight")) return layer + ".mlp.swiglu";
  return layer + (weight.find(".mlp.") != std::string::npos ? ".post_attention_layernorm"
                                                            : ".input_layernorm");
}

TEST_P(Calibrated, MeanSquaresAreThoseOfTheInferencePass) {
  const auto source = open_checkpoint(kModels / GetParam());
  const auto expected = observed();
  // Micro-batches of one sequence, of some, of all.
  for (const std::int64_t tokens : {1, 30, 1000}) {
    const auto found = mean_input_squares(*source, test::reference_backend(), sequences_, tokens);
    EXPECT_EQ(found.size(), static_cast<std::size_t>(7 * model_.config().num_hidden_layers + 1));
    for (const auto& [weight, mean] : found) {
      const auto& other = expected.at(module_before(weight));
      // Two orders of fp32 sums through the same few layers.
      EXPECT_TRUE(at::allclose(mean, other, 1e-4, 1e-7))
          << weight << ": " << (mean - other).abs().max().item<float>();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Calibrated,
                         ::testing::Values("llama_tied_gqa3", "qwen3_untied_gqa8", "qwen3_nf4"));

TEST(Calibration, ValuesThatAreNotFiniteAreNamed) {
  const test::TemporaryFolder folder;
  test::TinyModel{.nan_embedding_of = 7}.write(folder.path());
  const auto source = open_checkpoint(folder.path());
  const std::vector<TrainSequence> sequences{{.ids = {1, 2, 7}, .targets = {false, true, true}}};
  try {
    (void)mean_input_squares(*source, test::reference_backend(), sequences, 100);
    FAIL() << "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kNonFinite);
    EXPECT_NE(std::string(error.what()).find("model.layers.0.self_attn.q_proj.weight"),
              std::string::npos)
        << error.what();
  }
}

std::vector<std::size_t> lengths(const std::vector<TrainSequence>& sequences) {
  std::vector<std::size_t> out;
  for (const auto& sequence : sequences) out.push_back(sequence.ids.size());
  return out;
}

TEST(Calibration, SequencesAreTakenFromAllOverTheText) {
  std::vector<TrainSequence> sequences;
  for (std::int64_t length = 1; length <= 40; ++length) {
    const auto count = static_cast<std::size_t>(length);
    sequences.push_back({std::vector<std::int64_t>(count, 1), std::vector<bool>(count)});
  }
  EXPECT_EQ(lengths(spread(sequences, 0)).size(), 40U);
  EXPECT_EQ(lengths(spread(sequences, 820)).size(), 40U);  // their sum
  const auto some = lengths(spread(sequences, 205));
  std::size_t tokens = 0;
  std::size_t early = 0;
  for (const std::size_t length : some) {
    tokens += length;
    early += length <= 28 ? length : 0;  // the first half of the tokens
  }
  EXPECT_LE(tokens, 205U);
  EXPECT_GT(tokens, 205U - 40);
  EXPECT_NEAR(static_cast<double>(early), 102, 40);
  // One, however long, is better than none.
  EXPECT_EQ(lengths(spread({sequences.end() - 2, sequences.end()}, 5)),
            (std::vector<std::size_t>{39}));
}

}  // namespace
}  // namespace qf
