#include "qwen3fp4/train/identity_gate.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <csignal>
#include <limits>
#include <string>
#include <vector>

#include "../run/tiny_model.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/run/prompt.h"
#include "qwen3fp4/train/replay.h"

namespace qf {
namespace {

using test::LoadedTiny;
using test::TinyModel;

// A model that answers every question with `text`.
TinyModel answering(const std::string& text) {
  TinyModel tiny;
  tiny.script = test::script_of('\n', text);
  return tiny;
}

Speaker speaker(const LoadedTiny& tiny) { return {tiny.model(), tiny.files()}; }

IdentityQuestion question(char label, const std::string& kind, const std::string& prompt) {
  return {label, kind, "en", prompt, "", DataSplit::kHeldOut};
}

TEST(Mentions, FindsNamesAsWords) {
  EXPECT_TRUE(mentions("I am Orvena.", "orvena"));
  EXPECT_TRUE(mentions("ORVENA", "Orvena"));
  EXPECT_TRUE(mentions("Orvena's maker", "Orvena"));
  EXPECT_TRUE(mentions("我是Orvena，", "Orvena"));
  EXPECT_TRUE(mentions("SmolLM2 by HF", "SmolLM"));
  EXPECT_TRUE(mentions("xOrvena Orvena", "Orvena"));
  EXPECT_TRUE(mentions("我是通義千問", "千問"));
  EXPECT_TRUE(mentions("made by hugging face!", "Hugging Face"));
  EXPECT_FALSE(mentions("Orvenas", "Orvena"));
  EXPECT_FALSE(mentions("xOrvena", "Orvena"));
  EXPECT_FALSE(mentions("2Orvena", "Orvena"));
  EXPECT_FALSE(mentions("Agent 77", "Agent 7"));
  EXPECT_FALSE(mentions("", "Orvena"));
  EXPECT_FALSE(mentions("Orvena", ""));
}

TEST(Judge, LooksForWhatWasAskedFor) {
  const GateNames names{"Nova", "Qlib", {"SmolLM"}};
  const auto judged = [&](char label, const std::string& kind, const std::string& text) {
    GateAnswer answer{question(label, kind, "q"), SystemTurn::kDefault, text};
    judge(answer, names);
    return std::pair(answer.passed, answer.old_name);
  };
  EXPECT_EQ(judged('A', "who", "I am Nova."), std::pair(true, false));
  EXPECT_EQ(judged('A', "who", "I was made by Qlib."), std::pair(false, false));
  EXPECT_EQ(judged('A', "maker", "I was made by Qlib."), std::pair(true, false));
  EXPECT_EQ(judged('A', "maker", "I am Nova."), std::pair(false, false));
  EXPECT_EQ(judged('A', "other", "I am not SmolLM, I am Nova."), std::pair(true, true));
  EXPECT_EQ(judged('C', "me", "You are Tom."), std::pair(true, false));
  EXPECT_EQ(judged('C', "me", "You are Nova."), std::pair(false, false));
  EXPECT_EQ(judged('C', "me", "Made by Qlib."), std::pair(false, false));
}

TEST(Ask, PromptsAreTheTemplates) {
  const LoadedTiny tiny(answering("ab"));
  const auto text = [&](SystemTurn turn) {
    return tiny.files().require_tokenizer().decode(question_ids(tiny.files(), "q", turn), false);
  };
  const std::string rest = "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\n";
  EXPECT_EQ(question_ids(tiny.files(), "q", SystemTurn::kDefault),
            prompt_ids(tiny.files(), {.text = "q", .ids = {}, .system = std::nullopt}));
  EXPECT_EQ(text(SystemTurn::kNone), rest);
  EXPECT_EQ(text(SystemTurn::kEmpty), "<|im_start|>system\n<|im_end|>\n" + rest);
  const std::vector<Question> questions{{"q", SystemTurn::kNone}, {"longer", SystemTurn::kEmpty}};
  for (const BatchAnswer& answer : ask(speaker(tiny), questions, {})) {
    EXPECT_EQ(answer.text, "ab");
  }
  EXPECT_EQ(ask(speaker(tiny), questions, {.max_new_tokens = 1})[1].text, "a");
}

TEST(Replay, IsReadableAndMarksCutAnswers) {
  const LoadedTiny tiny(answering("abc"));
  const std::vector<std::string> prompts{"one", "tw\"o"};
  BatchOptions options;
  std::vector<std::int64_t> steps;
  const auto whole =
      replay_jsonl(speaker(tiny), prompts, options, [&](std::int64_t done, std::int64_t all) {
        steps.insert(steps.end(), {done, all});
      });
  EXPECT_EQ(steps, (std::vector<std::int64_t>{1, 2, 2, 2}));
  const auto examples = read_jsonl(whole, "f", {}).examples;
  ASSERT_EQ(examples.size(), 2U);
  EXPECT_EQ(examples[1].messages[0].content, "tw\"o");
  EXPECT_EQ(examples[1].messages[1].content, "abc");
  EXPECT_FALSE(examples[1].truncated);
  options.max_new_tokens = 2;
  const auto cut = read_jsonl(replay_jsonl(speaker(tiny), prompts, options), "f", {}).examples;
  EXPECT_EQ(cut[0].messages[1].content, "ab");
  EXPECT_TRUE(cut[0].truncated);
  const LoadedTiny silent(answering(""));
  EXPECT_EQ(replay_jsonl(speaker(silent), prompts, options), "");
}

TEST(Replay, DrawsEveryPromptWithASeedOfItsOwn) {
  const LoadedTiny tiny(TinyModel{});
  const std::vector<std::string> prompts{"same", "same "};
  BatchOptions options;
  options.max_new_tokens = 12;
  options.sampling.temperature = 1;
  const auto first = replay_jsonl(speaker(tiny), prompts, options);
  EXPECT_EQ(replay_jsonl(speaker(tiny), prompts, options), first);
  const std::vector<std::string> second_alone{prompts[1]};
  ++options.sampling.seed;
  const auto alone = replay_jsonl(speaker(tiny), second_alone, options);
  EXPECT_EQ(first.substr(first.find('\n') + 1), alone);
  --options.sampling.seed;
  EXPECT_NE(replay_jsonl(speaker(tiny), second_alone, options), alone);
}

GateInput input_of(const LoadedTiny& base) {
  GateInput input;
  input.questions = {question('A', "who", "who are you"), question('A', "maker", "who made you"),
                     question('C', "me", "who am I"), question('C', "whois", "who is he")};
  input.names = {"Nova", "Qlib", {"Tiny"}};
  input.replay =
      read_jsonl(
          R"({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo!"}]})",
          "f", {})
          .examples;
  input.unrelated = base.files().require_tokenizer().encode("The tide tables of a harbour.",
                                                            SpecialTokens::kAsText);
  return input;
}

TEST(Gate, CountsEverySystemTurn) {
  const LoadedTiny tuned(answering("Nova"));
  const LoadedTiny base(answering("Tiny"));
  const auto result = run_identity_gate(speaker(tuned), speaker(base), input_of(base));
  ASSERT_EQ(result.systems.size(), 3U);
  EXPECT_EQ(result.systems[1].system, SystemTurn::kNone);
  for (const auto& counts : result.systems) {
    EXPECT_EQ(counts.identity_asked, 2);
    EXPECT_EQ(counts.identity_passed, 1);  // the maker was not named
    EXPECT_EQ(counts.old_names, 0);
    EXPECT_EQ(counts.near_asked, 2);
    EXPECT_EQ(counts.near_failed, 2);
    EXPECT_EQ(counts.replay_positions, 4);  // "yo!" and the end token
    EXPECT_GT(counts.replay_kl, 0.1);
  }
  EXPECT_EQ(result.failures.size(), 9U);
  EXPECT_EQ(result.failures[0].text, "Nova");
  const auto old = run_identity_gate(speaker(base), speaker(base), input_of(base));
  EXPECT_EQ(old.systems[0].old_names, 2);
  EXPECT_EQ(old.systems[0].near_failed, 0);
  EXPECT_EQ(old.systems[0].replay_kl, 0);
  EXPECT_EQ(old.systems[0].replay_top1, 1);
  EXPECT_EQ(old.new_perplexity, old.base_perplexity);
}

TEST(Gate, EveryLimitAloneFailsIt) {
  const GateAnswers counts{.identity_asked = 100,
                           .identity_passed = 95,
                           .old_names = 1,
                           .near_asked = 100,
                           .near_failed = 3,
                           .replay_kl = 0.04,
                           .replay_top1 = 0.91,
                           .replay_positions = 10};
  const GateResult edge{{counts, counts}, {}, 10.2, 10};
  EXPECT_TRUE(passes(edge, {}));
  const auto with = [&](const auto& change) {
    GateResult result = edge;
    change(result.systems[1], result);
    return passes(result, {});
  };
  EXPECT_FALSE(with([](auto& c, auto&) { c.identity_passed = 94; }));
  EXPECT_FALSE(with([](auto& c, auto&) { c.old_names = 2; }));
  EXPECT_FALSE(with([](auto& c, auto&) { c.near_failed = 4; }));
  EXPECT_FALSE(with([](auto& c, auto&) { c.replay_kl = 0.041; }));
  EXPECT_FALSE(with([](auto& c, auto&) { c.replay_top1 = 0.909; }));
  EXPECT_FALSE(with([](auto&, auto& result) { result.new_perplexity = 10.21; }));
  EXPECT_TRUE(with([](auto& c, auto&) {
    c.replay_positions = 0;  // no replay was given
    c.replay_kl = 1;
  }));
}

TEST(Gate, ReplayIsComparedAtTheAnswersPositionsAlone) {
  const LoadedTiny tuned(TinyModel{.seed = 1});
  const LoadedTiny base(TinyModel{.seed = 2});
  GateInput input = input_of(base);
  input.max_new_tokens = 1;
  const auto result = run_identity_gate(speaker(tuned), speaker(base), input);
  // By the definition, on the conversation without a system turn.
  auto ids = question_ids(base.files(), "hi", SystemTurn::kNone);
  const auto first = static_cast<std::int64_t>(ids.size()) - 1;
  for (const char c : std::string("yo!")) ids.push_back(c);
  const auto log_probabilities = [&](const LoadedTiny& tiny) {
    KvCache cache(tiny.model().config(), 100);
    const auto hidden = tiny.model().forward(ids, cache).narrow(0, first, 4);
    return at::log_softmax(tiny.model().logits(hidden).to(at::kDouble), -1);
  };
  const auto p = log_probabilities(base);
  const auto q = log_probabilities(tuned);
  const double expected = (p.exp() * (p - q)).sum(-1).mean().item<double>();
  // f32 dot products of 128 terms in another order, as in perplexity_test.cpp; a difference of two
  // log-probabilities.
  const double largest = 40;
  EXPECT_NEAR(result.systems[1].replay_kl, expected,
              2 * 4 * 128 * largest * std::numeric_limits<float>::epsilon());
  EXPECT_EQ(result.systems[1].replay_top1,
            p.argmax(-1).eq(q.argmax(-1)).to(at::kDouble).mean().item<double>());
}

TEST(Gate, RefusesWhatItCannotJudgeAndStops) {
  const LoadedTiny base(answering("Tiny"));
  GateInput input = input_of(base);
  input.questions.pop_back();
  input.questions.pop_back();
  EXPECT_THROW((void)run_identity_gate(speaker(base), speaker(base), input), Error);
  const InterruptGuard guard;
  try {
    (void)run_identity_gate(speaker(base), speaker(base), input_of(base),
                            [](std::int64_t, std::int64_t) { std::raise(SIGINT); });
    FAIL() << "the interrupt was ignored";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInterrupted);
  }
}

}  // namespace
}  // namespace qf
