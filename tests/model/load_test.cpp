// What the loader refuses, and how it says so.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>

#include "golden.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/model/weights.h"
#include "state_dict.h"

namespace qf {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class Load : public ::testing::Test {
 protected:
  Load() : backend_(make_backend("reference")) {}

  std::string refusal(const StateDict& state, const ModelConfig& config) {
    try {
      (void)state.load(config, *backend_);
      return "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUnreadable);
      return error.what();
    }
  }

  std::unique_ptr<Backend> backend_;
  Golden golden_ = read_golden("qwen3_untied_mha");
  StateDict state_ = StateDict::read(kGoldenModels / "qwen3_untied_mha/model.dat");
};

TEST(Inventory, NamesEveryWeightOfTheRealModelOnce) {
  ModelConfig config = read_golden("qwen3_tied_gqa4").config;
  config.num_hidden_layers = 36;
  std::set<std::string> names;
  std::int64_t entries = 0;
  for_each_weight(config, true, [&](const WeightSpec& spec) {
    EXPECT_TRUE(names.insert(spec.name).second) << spec.name;
    entries += spec.kind == WeightKind::kLinear || spec.kind == WeightKind::kHead ? 2 : 1;
  });
  EXPECT_EQ(entries, 652) << "of Qwen3-4B's file with packed linears and head";
}

TEST_F(Load, AGapIsNamed) {
  state_.erase("model.layers.1.mlp.up_proj.weight");
  EXPECT_THAT(refusal(state_, golden_.config), AllOf(HasSubstr("model.layers.1.mlp.up_proj.weight"),
                                                     HasSubstr("missing"), HasSubstr("[48, 32]")));
}

TEST_F(Load, LeftoversAreCountedAndNamed) {
  state_.put("model.layers.2.input_layernorm.weight", at::rand({32}));
  state_.put("surplus", at::rand({1}));
  EXPECT_THAT(refusal(state_, golden_.config),
              AllOf(HasSubstr("2 entries"), HasSubstr("'surplus'")));
}

TEST_F(Load, AWrongShapeSaysBoth) {
  state_.put("model.norm.weight", at::rand({33}));
  EXPECT_THAT(refusal(state_, golden_.config), AllOf(HasSubstr("[32]"), HasSubstr("[33]")));
}

TEST_F(Load, IntegersAreNoWeights) {
  state_.put("model.norm.weight", at::zeros({32}, at::kByte));
  EXPECT_THAT(refusal(state_, golden_.config), HasSubstr("found u8"));
}

TEST_F(Load, AnUntiedModelNeedsItsHead) {
  state_.erase("lm_head.weight");
  EXPECT_THAT(refusal(state_, golden_.config), HasSubstr("lm_head.weight"));
}

TEST_F(Load, ATiedModelUsesAHeadThatItsFileHas) {
  ModelConfig tied = golden_.config;
  tied.tie_word_embeddings = true;
  const Qwen3Model with_head = state_.load(tied, *backend_);
  const Qwen3Model untied = state_.load(golden_.config, *backend_);
  EXPECT_TRUE(
      at::equal(all_logits(with_head, golden_.ids, 12), all_logits(untied, golden_.ids, 12)));
  state_.erase("lm_head.weight");
  const Qwen3Model without = state_.load(tied, *backend_);
  EXPECT_FALSE(
      at::equal(all_logits(without, golden_.ids, 12), all_logits(untied, golden_.ids, 12)));
}

TEST_F(Load, TokensOutsideTheVocabularyAreRefused) {
  const Qwen3Model model = state_.load(golden_.config, *backend_);
  KvCache cache(golden_.config, 4);
  for (const std::int64_t id : {-1, 96}) {
    EXPECT_THROW((void)model.forward(std::vector<std::int64_t>{id}, cache), Error);
  }
  EXPECT_THROW((void)model.forward(std::vector<std::int64_t>{}, cache), Error);
  EXPECT_THROW((void)model.forward(std::vector<std::int64_t>(5, 1), cache), Error);
  EXPECT_EQ(cache.length(), 0);
}

TEST_F(Load, BytesOfADecodedToken) {
  const Qwen3Model model = state_.load(golden_.config, *backend_);
  std::int64_t all = 0;
  for_each_weight(golden_.config, true,
                  [&](const WeightSpec& spec) { all += 4 * element_count(spec.shape); });
  EXPECT_EQ(model.weight_bytes(), all);
  EXPECT_EQ(model.decode_bytes(), all - 4 * 95 * 32);
}

}  // namespace
}  // namespace qf
