// The forward pass against transformers in fp32, over all backends and all golden models.
#include <gtest/gtest.h>

#include "golden.h"

namespace qf {
namespace {

// Two fp32 forwards that sum in different orders differ by rounding only: each of the 2 layers adds
// at most about (D + F + H*E) * 2^-24 relative to the largest activation, times the growth through
// norms and softmax (under 10 here): 2 * 150 * 6e-8 * 10 = 2e-4 at worst, and 1e-5 as rounding
// errors average out. A wrong eps, RoPE pairing or head mapping moves logits by 1e-2 and more.
constexpr double kBound = 1e-4;

struct Case {
  std::string model;
  std::string backend;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.model << '/' << c.backend; }

std::vector<Case> cases() {
  std::vector<Case> out;
  for (const std::string& model : golden_models()) {
    for (const std::string_view backend : backend_names()) {
      out.push_back({model, std::string(backend)});
    }
  }
  return out;
}

class Parity : public ::testing::TestWithParam<Case> {
 protected:
  Parity()
      : golden_(read_golden(GetParam().model)),
        backend_(make_backend(GetParam().backend)),
        model_(Qwen3Model::load(
            golden_.config, DatReader(kGoldenModels / GetParam().model / "model.dat"), *backend_)) {
  }

  double difference(const at::Tensor& logits) const {
    return ((logits - golden_.logits).abs().amax() / golden_.logits.abs().amax()).item<double>();
  }

  Golden golden_;
  std::unique_ptr<Backend> backend_;
  Qwen3Model model_;
};

TEST_P(Parity, LogitsOfThePromptInOnePiece) {
  EXPECT_LE(difference(all_logits(model_, golden_.ids, golden_.ids.size())), kBound);
}

TEST_P(Parity, LogitsTokenByTokenAndInUnevenPieces) {
  EXPECT_LE(difference(all_logits(model_, golden_.ids, 1)), kBound);
  EXPECT_LE(difference(all_logits(model_, golden_.ids, 5)), kBound);
}

TEST_P(Parity, FortyEightGreedyTokensWithTheCache) {
  KvCache cache(golden_.config, static_cast<std::int64_t>(golden_.ids.size()) + 48);
  std::vector<std::int64_t> next = golden_.ids;
  std::vector<std::int64_t> answer;
  for (int i = 0; i < 48; ++i) {
    const auto hidden = model_.forward(next, cache);
    answer.push_back(
        model_.logits(hidden.narrow(0, hidden.size(0) - 1, 1)).argmax().item<std::int64_t>());
    next = {answer.back()};
  }
  EXPECT_EQ(answer, golden_.greedy);
}

TEST_P(Parity, WithoutTheCacheTheAnswerIsTheSame) {
  std::vector<std::int64_t> sequence = golden_.ids;
  for (int i = 0; i < 8; ++i) {
    const auto logits = all_logits(model_, sequence, sequence.size());
    sequence.push_back(logits[-1].argmax().item<std::int64_t>());
    EXPECT_EQ(sequence.back(), golden_.greedy[static_cast<std::size_t>(i)]);
  }
}

TEST_P(Parity, TruncatingTheCacheForgets) {
  KvCache cache(golden_.config, 64);
  (void)model_.forward(std::vector<std::int64_t>{5, 6, 7, 8}, cache);
  cache.truncate(0);
  const auto logits = model_.logits(model_.forward(std::span(golden_.ids).first(4), cache));
  EXPECT_TRUE(
      at::equal(logits, all_logits(model_, {golden_.ids.begin(), golden_.ids.begin() + 4}, 4)));
}

TEST_P(Parity, TapsSeeEveryModuleInOrderAndChangeNothing) {
  std::vector<std::string> names;
  KvCache cache(golden_.config, 64);
  const auto tapped =
      model_.forward(golden_.ids, cache, [&](std::string_view name, const at::Tensor& output) {
        names.emplace_back(name);
        return output;
      });
  cache.truncate(0);
  EXPECT_TRUE(at::equal(tapped, model_.forward(golden_.ids, cache)));
  ASSERT_GE(names.size(), 32U);
  EXPECT_EQ(names.front(), "model.embed_tokens");
  EXPECT_EQ(names[1], "model.layers.0.input_layernorm");
  EXPECT_EQ(names.back(), "model.norm");
  EXPECT_EQ(std::ranges::count(names, "model.layers.1.self_attn.q_norm"), golden_.config.qk_norm);
}

INSTANTIATE_TEST_SUITE_P(Golden, Parity, ::testing::ValuesIn(cases()), [](const auto& golden) {
  return golden.param.model + "_" + golden.param.backend;
});

// More than kForwardTokens at once are that many and the rest, bit for bit; and with a tap, which
// takes them in one piece, the same but for rounding.
TEST(Forward, TakesALongPromptInPieces) {
  const Golden golden = read_golden("qwen3_tied_gqa4");
  const auto backend = make_backend("cpu");
  const auto model = Qwen3Model::load(
      golden.config, DatReader(kGoldenModels / "qwen3_tied_gqa4" / "model.dat"), *backend);
  constexpr std::int64_t kTokens = Qwen3Model::kForwardTokens + 37;
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < kTokens; ++i) {
    ids.push_back(golden.ids[static_cast<std::size_t>(i) % golden.ids.size()]);
  }
  const std::span<const std::int64_t> all(ids);
  KvCache whole(golden.config, kTokens), pieces(golden.config, kTokens);
  const auto hidden = model.forward(all, whole);
  ASSERT_EQ(hidden.size(0), kTokens);
  EXPECT_EQ(whole.length(), kTokens);
  (void)model.forward(all.first(Qwen3Model::kForwardTokens), pieces);
  const auto rest = model.forward(all.subspan(Qwen3Model::kForwardTokens), pieces);
  EXPECT_TRUE(at::equal(hidden.narrow(0, Qwen3Model::kForwardTokens, 37), rest));
  KvCache tapped(golden.config, kTokens);
  std::int64_t seen = 0;
  const auto with_tap =
      model.forward(all, tapped, [&](std::string_view module, const at::Tensor& output) {
        if (module == "model.norm") seen = output.size(0);
        return output;
      });
  EXPECT_EQ(seen, kTokens);
  EXPECT_LE(((with_tap - hidden).abs().amax() / hidden.abs().amax()).item<double>(), kBound);
}

}  // namespace
}  // namespace qf
