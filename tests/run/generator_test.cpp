#include "qwen3fp4/run/generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdint>
#include <string>
#include <vector>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/interrupt.h"
#include "tiny_model.h"

namespace qf {
namespace {

using test::kEndOfText;
using test::kTurnEnd;
using test::LoadedTiny;
using test::script_of;
using test::TinyModel;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Ids = std::vector<std::int64_t>;

GeneratorOptions options_for(const LoadedTiny& loaded) {
  GeneratorOptions options;
  options.end_tokens = loaded.files().end_tokens();
  options.context = 256;
  return options;
}

Generator generator_for(const LoadedTiny& loaded, const GeneratorOptions& options) {
  const auto& tokenizer = loaded.files().tokenizer;
  return {loaded.model(), tokenizer ? &*tokenizer : nullptr, options};
}

const TokenCallback kQuiet = [](std::int64_t, std::string_view) {};

TinyModel scripted(std::string_view text) {
  TinyModel tiny;
  tiny.script = script_of('#', text);
  return tiny;
}
const Ids kPrompt{'Q', '#'};

TEST(Generator, AnswersUntilTheEndToken) {
  const LoadedTiny loaded(scripted("Hi, you."));
  auto generator = generator_for(loaded, options_for(loaded));
  std::string streamed;
  Ids tokens;
  const auto answer = generator.answer(kPrompt, [&](std::int64_t id, std::string_view text) {
    tokens.push_back(id);
    streamed += text;
  });
  EXPECT_EQ(answer.text, "Hi, you.");
  EXPECT_EQ(streamed, answer.text);
  EXPECT_EQ(answer.stop_reason, StopReason::kEndToken);
  EXPECT_EQ(answer.ids.size(), 9U);
  EXPECT_EQ(answer.ids.back(), kTurnEnd);
  EXPECT_EQ(tokens, answer.ids);
  EXPECT_EQ(answer.timing.prefill_tokens, 2);
  EXPECT_EQ(answer.timing.decode_tokens, 8);
  EXPECT_GE(answer.timing.decode_bytes, 8 * loaded.model().decode_bytes());
  // The last token was chosen, not run.
  EXPECT_EQ(generator.sequence().size(), 11U);
  EXPECT_EQ(generator.cache().length(), 10);
}

TEST(Generator, StopsAtTheLongestAnswerAndAtTheContext) {
  const LoadedTiny loaded(scripted("abcdefgh"));
  auto options = options_for(loaded);
  options.max_new_tokens = 3;
  const auto cut = generator_for(loaded, options).answer(kPrompt, kQuiet);
  EXPECT_EQ(cut.text, "abc");
  EXPECT_EQ(cut.stop_reason, StopReason::kLength);

  options.max_new_tokens = 100;
  options.context = 5;
  auto generator = generator_for(loaded, options);
  const auto full = generator.answer(kPrompt, kQuiet);
  EXPECT_EQ(full.text, "abcd");  // the fourth is chosen after 5 tokens in the cache
  EXPECT_EQ(full.stop_reason, StopReason::kContext);
  EXPECT_EQ(generator.cache().length(), 5);

  options.context = 1;
  auto short_one = generator_for(loaded, options);
  try {
    (void)short_one.answer(kPrompt, kQuiet);
    FAIL() << "a prompt longer than the context was accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("--context"));
  }
}

TEST(Generator, ShowsNothingOfAStopString) {
  const LoadedTiny loaded(scripted("abcSTOxy"));
  auto options = options_for(loaded);
  options.stop = {"STOx"};
  std::vector<std::string> pieces;
  const auto answer =
      generator_for(loaded, options).answer(kPrompt, [&](std::int64_t, std::string_view text) {
        pieces.emplace_back(text);
      });
  EXPECT_EQ(answer.text, "abc");
  EXPECT_EQ(answer.stop_reason, StopReason::kStopString);
  EXPECT_THAT(pieces, ElementsAre("a", "b", "c", "", "", "", ""));

  options.stop = {"STOP"};  // begins, but does not come
  const auto whole = generator_for(loaded, options).answer(kPrompt, kQuiet);
  EXPECT_EQ(whole.text, "abcSTOxy");
  EXPECT_EQ(whole.stop_reason, StopReason::kEndToken);
}

TEST(Generator, StreamsWholeCharacters) {
  const LoadedTiny loaded(
      scripted("a\xE2\x82\xAC-\xF0\x9F\x98\x80"));  // a, euro, -, emoji: 1 token a byte
  std::vector<std::string> pieces;
  const auto answer =
      generator_for(loaded, options_for(loaded))
          .answer(kPrompt, [&](std::int64_t, std::string_view text) { pieces.emplace_back(text); });
  EXPECT_THAT(pieces,
              ElementsAre("a", "", "", "\xE2\x82\xAC", "-", "", "", "", "\xF0\x9F\x98\x80", ""));
  EXPECT_EQ(answer.text, "a\xE2\x82\xAC-\xF0\x9F\x98\x80");
}

TEST(Generator, AnUnfinishedCharacterBecomesAReplacement) {
  const LoadedTiny loaded(scripted("a\xE2\x82"));
  EXPECT_EQ(generator_for(loaded, options_for(loaded)).answer(kPrompt, kQuiet).text,
            "a\xEF\xBF\xBD");
}

TEST(Generator, SameAnswerWithAndWithoutCacheAndByEitherPrefill) {
  const LoadedTiny loaded(TinyModel{});
  auto options = options_for(loaded);
  options.end_tokens = {};
  options.max_new_tokens = 10;
  const Ids prompt{72, 101, 108, 108, 111, 32, 119, 111};
  const auto expected = generator_for(loaded, options).answer(prompt, kQuiet).ids;
  ASSERT_EQ(expected.size(), 10U);
  for (const bool cached : {true, false}) {
    for (const auto prefill : {PrefillMode::kWhole, PrefillMode::kToken}) {
      options.use_kv_cache = cached;
      options.prefill = prefill;
      EXPECT_EQ(generator_for(loaded, options).answer(prompt, kQuiet).ids, expected) << cached;
    }
  }
}

TEST(Generator, EveryTypeOfCacheAnswersTheSameHoweverThePromptComes) {
  const LoadedTiny loaded(TinyModel{});
  auto options = options_for(loaded);
  options.end_tokens = {};
  options.max_new_tokens = 10;
  const Ids prompt{72, 101, 108, 108, 111, 32, 119, 111, 114, 108, 100};
  const auto f32 = generator_for(loaded, options).answer(prompt, kQuiet);
  for (const auto type : {KvCacheType::kF16, KvCacheType::kBF16, KvCacheType::kFp8}) {
    options.kv_cache = type;
    options.prefill = PrefillMode::kWhole;
    const auto whole = generator_for(loaded, options).answer(prompt, kQuiet);
    EXPECT_NE(whole.logits_hash, f32.logits_hash) << "nothing was rounded";
    options.prefill = PrefillMode::kToken;
    EXPECT_EQ(generator_for(loaded, options).answer(prompt, kQuiet).ids, whole.ids);
    // Three tokens at a time.
    KvCache cache(loaded.model().config(), 64, at::kFloat, type);
    at::Tensor hidden;
    for (auto rest = std::span(prompt); !rest.empty();) {
      const auto piece = rest.first(std::min<std::size_t>(3, rest.size()));
      hidden = loaded.model().forward(piece, cache);
      rest = rest.subspan(piece.size());
    }
    Ids ids;
    while (ids.size() < whole.ids.size()) {
      const auto logits = loaded.model().logits(hidden.narrow(0, hidden.size(0) - 1, 1));
      ids.push_back(logits.narrow(1, 0, 259).argmax().item<std::int64_t>());
      hidden = loaded.model().forward(std::span(ids).last(1), cache);
    }
    EXPECT_EQ(ids, whole.ids);
  }
}

TEST(Generator, LaterTurnsRunOnlyTheirOwnTokens) {
  const LoadedTiny loaded(TinyModel{});
  auto options = options_for(loaded);
  options.end_tokens = {};
  options.max_new_tokens = 6;
  auto generator = generator_for(loaded, options);
  const Ids first{65, 66, 67};
  const Ids second{68, 69};
  const auto one = generator.answer(first, kQuiet);
  EXPECT_EQ(generator.sequence().size(), 9U);
  generator.close_turn(kTurnEnd);
  const auto two = generator.answer(second, kQuiet);
  // The last token of the answer and the end token had not run yet.
  EXPECT_EQ(two.timing.prefill_tokens, 4);
  EXPECT_EQ(generator.sequence().size(), 9U + 1 + 2 + 6);

  // One piece says the same.
  Ids whole = first;
  whole.insert(whole.end(), one.ids.begin(), one.ids.end());
  whole.push_back(kTurnEnd);
  whole.insert(whole.end(), second.begin(), second.end());
  EXPECT_EQ(generator_for(loaded, options).answer(whole, kQuiet).ids, two.ids);
}

TEST(Generator, ARestartedOneAnswersAsANewOne) {
  const LoadedTiny loaded(TinyModel{});
  auto options = options_for(loaded);
  options.end_tokens = {};
  options.max_new_tokens = 12;
  options.sampling = {.temperature = 5, .repetition_penalty = 1.3, .seed = 8};
  const Ids first{65, 66, 67};
  const Ids second{72, 101};
  auto generator = generator_for(loaded, options);
  const auto before = generator.answer(second, kQuiet);
  (void)generator.answer(first, kQuiet);
  generator.restart(8);
  const auto again = generator.answer(second, kQuiet);
  EXPECT_EQ(again.ids, before.ids);
  EXPECT_EQ(again.logits_hash, before.logits_hash);
  EXPECT_EQ(generator.sequence().size(), 14U);
  generator.restart(9);
  EXPECT_NE(generator.answer(second, kQuiet).ids, before.ids);
}

TEST(Generator, ClosesATurnWithTheTemplatesEndToken) {
  auto tiny = scripted("ab");
  (*tiny.script)['b'] = kEndOfText;
  const LoadedTiny loaded(tiny);
  auto options = options_for(loaded);
  auto generator = generator_for(loaded, options);
  EXPECT_EQ(generator.answer(kPrompt, kQuiet).stop_reason, StopReason::kEndToken);
  generator.close_turn(kTurnEnd);
  EXPECT_EQ(generator.sequence(), (Ids{'Q', '#', 'a', 'b', kTurnEnd}));
  generator.close_turn(kTurnEnd);
  EXPECT_EQ(generator.sequence().size(), 5U);
}

TEST(Generator, NeverSamplesAnIdWithoutToken) {
  auto tiny = scripted("a");
  (*tiny.script)['#'] = 265;  // the model's favourite has no token
  const LoadedTiny loaded(tiny);
  auto options = options_for(loaded);
  options.max_new_tokens = 3;
  const auto answer = generator_for(loaded, options).answer(kPrompt, kQuiet);
  for (const auto id : answer.ids) EXPECT_LT(id, 259);

  tiny.tokenizer = false;
  const LoadedTiny bare(tiny);
  EXPECT_EQ(generator_for(bare, options).answer(kPrompt, kQuiet).ids.front(), 265);
}

TEST(Generator, NamesTheModuleAndPositionOfNonFiniteValues) {
  for (const auto* name : {"model.layers.1.mlp.down_proj", "model.layers.0.self_attn.k_proj"}) {
    TinyModel tiny;
    tiny.nan_scale_in = std::string(name) + ".weight";
    const LoadedTiny loaded(tiny);
    for (const auto& [cached, type] : {std::pair{true, KvCacheType::kAuto},
                                       {false, KvCacheType::kAuto},
                                       {true, KvCacheType::kFp8}}) {
      auto options = options_for(loaded);
      options.use_kv_cache = cached;
      options.kv_cache = type;
      try {
        (void)generator_for(loaded, options).answer(kPrompt, kQuiet);
        FAIL() << "NaN went unnoticed";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::kNonFinite);
        EXPECT_THAT(error.what(), HasSubstr(std::string(name) + " "));
        EXPECT_THAT(error.what(), HasSubstr("position 0"));
      }
    }
  }
}

TEST(Generator, NamesThePositionWhereTheAnswerBroke) {
  auto tiny = scripted("abc");
  tiny.nan_embedding_of = 'b';
  const LoadedTiny loaded(tiny);
  auto options = options_for(loaded);
  options.context = 4;  // no room to run the four tokens twice
  for (const bool cached : {true, false}) {
    options.use_kv_cache = cached;
    try {
      (void)generator_for(loaded, options).answer(kPrompt, kQuiet);
      FAIL() << "NaN went unnoticed";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kNonFinite);
      EXPECT_THAT(error.what(), HasSubstr("logits at position 3: model.embed_tokens is"));
      EXPECT_THAT(error.what(), HasSubstr("at position 3;"));
    }
  }
}

TEST(Generator, WithoutCacheEveryTurnReplaysEverything) {
  const LoadedTiny loaded(scripted("ab"));
  auto options = options_for(loaded);
  options.use_kv_cache = false;
  auto generator = generator_for(loaded, options);
  EXPECT_EQ(generator.answer(kPrompt, kQuiet).timing.prefill_tokens, 2);
  EXPECT_EQ(generator.answer(kPrompt, kQuiet).timing.prefill_tokens, 7);
}

TEST(Generator, NamesTheHeadWhenOnlyLogitsAreNonFinite) {
  TinyModel tiny;
  tiny.nan_scale_in = "lm_head.weight";
  const LoadedTiny loaded(tiny);
  try {
    (void)generator_for(loaded, options_for(loaded)).answer(kPrompt, kQuiet);
    FAIL() << "NaN went unnoticed";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("lm_head"));
  }
}

TEST(Generator, RefusesAnAnswerOfNothingButTokenZero) {
  TinyModel tiny;
  tiny.script = {{{'#', 0}, {0, 0}}};
  const LoadedTiny loaded(tiny);
  auto options = options_for(loaded);
  for (const std::int64_t longest : {4, 100}) {
    options.max_new_tokens = longest;
    try {
      (void)generator_for(loaded, options).answer(kPrompt, kQuiet);
      FAIL() << "a collapsed answer passed";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kNonFinite);
      EXPECT_THAT(error.what(), HasSubstr("[0; 0; 0; 0"));
      EXPECT_THAT(error.what(), HasSubstr("inspect"));
    }
  }
  options.max_new_tokens = 3;  // too short to judge
  EXPECT_EQ(generator_for(loaded, options).answer(kPrompt, kQuiet).ids, (Ids{0, 0, 0}));
}

TEST(Generator, ZerosAfterAnotherTokenAreNoCollapse) {
  TinyModel tiny;
  tiny.script = {{{'#', 'x'}, {'x', 0}, {0, 0}}};
  const LoadedTiny loaded(tiny);
  auto options = options_for(loaded);
  options.max_new_tokens = 20;
  EXPECT_EQ(generator_for(loaded, options).answer(kPrompt, kQuiet).ids.size(), 20U);
}

TEST(Generator, AnInterruptEndsTheAnswerAfterItsToken) {
  const LoadedTiny loaded(scripted("abcdefgh"));
  const InterruptGuard guard;
  auto generator = generator_for(loaded, options_for(loaded));
  const auto answer = generator.answer(kPrompt, [](std::int64_t id, std::string_view) {
    if (id == 'b') std::raise(SIGINT);
  });
  EXPECT_EQ(answer.stop_reason, StopReason::kInterrupted);
  EXPECT_EQ(answer.text, "abc");
  EXPECT_THROW(check_interrupted(), Error);
}

TEST(Generator, HashesTheLastLogits) {
  const LoadedTiny loaded(TinyModel{});
  auto options = options_for(loaded);
  options.max_new_tokens = 5;
  const auto one = generator_for(loaded, options).answer(kPrompt, kQuiet).logits_hash;
  EXPECT_EQ(generator_for(loaded, options).answer(kPrompt, kQuiet).logits_hash, one);
  options.max_new_tokens = 6;
  EXPECT_NE(generator_for(loaded, options).answer(kPrompt, kQuiet).logits_hash, one);
}

TEST(Generator, RefusesIdsOutsideTheVocabulary) {
  const LoadedTiny loaded(TinyModel{});
  auto generator = generator_for(loaded, options_for(loaded));
  EXPECT_THROW((void)generator.answer(Ids{test::kTinyVocab}, kQuiet), Error);
  EXPECT_THROW((void)generator.answer(Ids{-1}, kQuiet), Error);
  EXPECT_THROW((void)generator.answer(Ids{}, kQuiet), Error);
}

}  // namespace
}  // namespace qf
