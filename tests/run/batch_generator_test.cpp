#include "qwen3fp4/run/batch_generator.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdint>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/interrupt.h"
#include "tiny_model.h"

namespace qf {
namespace {

using test::kTurnEnd;
using test::LoadedTiny;
using test::script_of;
using test::TinyModel;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Ids = std::vector<std::int64_t>;

// More than run at a time, of 1 to 40 tokens.
std::vector<BatchPrompt> random_prompts(std::size_t count) {
  std::mt19937 random(7);
  std::vector<BatchPrompt> prompts(count);
  for (BatchPrompt& prompt : prompts) {
    prompt.ids.resize(1 + random() % 40);
    for (auto& id : prompt.ids) id = static_cast<std::int64_t>(random() % 256);
    prompt.seed = random();
  }
  return prompts;
}

Answer alone(const Qwen3Model& model, const Tokenizer& tokenizer, const BatchPrompt& prompt,
             const BatchOptions& options) {
  GeneratorOptions one;
  one.sampling = options.sampling;
  one.sampling.seed = prompt.seed;
  one.end_tokens = options.end_tokens;
  one.max_new_tokens = options.max_new_tokens;
  one.context = model.config().max_position_embeddings;
  return Generator(model, &tokenizer, one).answer(prompt.ids, [](std::int64_t, std::string_view) {
  });
}

void expect_answers_of_generators(const Qwen3Model& model, const LoadedTiny& loaded,
                                  const BatchOptions& options) {
  const Tokenizer& tokenizer = loaded.files().require_tokenizer();
  const auto prompts = random_prompts(70);
  const auto answers = answer_prompts(model, &tokenizer, prompts, options);
  ASSERT_EQ(answers.size(), prompts.size());
  std::set<std::size_t> lengths;
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const Answer expected = alone(model, tokenizer, prompts[i], options);
    EXPECT_EQ(answers[i].ids, expected.ids) << "prompt " << i;
    EXPECT_EQ(answers[i].text, expected.text);
    EXPECT_EQ(answers[i].stop_reason, expected.stop_reason);
    lengths.insert(answers[i].ids.size());
  }
  EXPECT_GT(lengths.size(), 5U) << "answers that end at different times";
}

// About one token in seven ends an answer.
BatchOptions random_ends() {
  BatchOptions options{.max_new_tokens = 24};
  for (std::int64_t id = 3; id < 259; id += 7) options.end_tokens.push_back(id);
  return options;
}

TEST(BatchGenerator, AnswersAsGeneratorsDo) {
  for (const std::string backend : {"reference", "cpu"}) {
    SCOPED_TRACE(backend);
    const LoadedTiny loaded(TinyModel{.seed = 3});
    const auto other = make_backend(backend);
    const Qwen3Model model = loaded.model().with_backend(*other);
    expect_answers_of_generators(model, loaded, random_ends());
    BatchOptions drawn = random_ends();
    drawn.sampling.temperature = 0.8;
    drawn.sampling.top_p = 0.9;
    drawn.sampling.repetition_penalty = 1.1;
    expect_answers_of_generators(model, loaded, drawn);
  }
}

TEST(BatchGenerator, StopsAtTheModelsLastPosition) {
  const LoadedTiny loaded(TinyModel{.max_position_embeddings = 12});
  const std::vector<BatchPrompt> prompts{{Ids(12, 'a')}, {Ids(3, 'b')}};
  const auto answers = answer_prompts(loaded.model(), nullptr, prompts, {.max_new_tokens = 100});
  EXPECT_EQ(answers[0].ids.size(), 1U);
  EXPECT_EQ(answers[1].ids.size(), 10U);
  EXPECT_EQ(answers[0].stop_reason, StopReason::kContext);
  EXPECT_EQ(answers[1].stop_reason, StopReason::kContext);
  try {
    (void)answer_prompts(loaded.model(), nullptr,
                         std::vector<BatchPrompt>{{Ids(1, 'a')}, {Ids(13, 'a')}},
                         {.max_new_tokens = std::numeric_limits<std::int64_t>::max()});
    FAIL() << "a prompt beyond the last position was answered";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(),
                HasSubstr("prompt 2 of 2 has 13 tokens, expected 1 to the model's 12"));
  }
}

TEST(BatchGenerator, EndsWithTheEndTokenAndReportsProgress) {
  TinyModel tiny;
  tiny.script = script_of('#', "ok");
  const LoadedTiny loaded(tiny);
  std::vector<std::int64_t> steps;
  const std::vector<BatchPrompt> prompts{{{'Q', '#'}}, {{'#'}}};
  const auto answers = answer_prompts(loaded.model(), &loaded.files().require_tokenizer(), prompts,
                                      {.end_tokens = loaded.files().end_tokens()},
                                      [&](std::int64_t done, std::int64_t all) {
                                        steps.insert(steps.end(), {done, all});
                                      });
  for (const BatchAnswer& answer : answers) {
    EXPECT_THAT(answer.ids, ElementsAre('o', 'k', kTurnEnd));
    EXPECT_EQ(answer.text, "ok");
    EXPECT_EQ(answer.stop_reason, StopReason::kEndToken);
  }
  EXPECT_THAT(steps, ElementsAre(1, 2, 2, 2));
  EXPECT_TRUE(answer_prompts(loaded.model(), nullptr, {}, {}).empty());
}

TEST(BatchGenerator, NamesTheModuleOfNonFiniteValues) {
  const LoadedTiny loaded(TinyModel{.nan_scale_in = "model.layers.1.mlp.up_proj.weight"});
  const std::vector<BatchPrompt> prompts{{{'a'}}, {{'b', 'c'}}};
  try {
    (void)answer_prompts(loaded.model(), nullptr, prompts, {});
    FAIL() << "an answer from NaN";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kNonFinite);
    EXPECT_THAT(error.what(), HasSubstr("model.layers.1.mlp.up_proj is the first module"));
  }
}

TEST(BatchGenerator, RefusesAnAnswerOfNothingButTokenZero) {
  TinyModel tiny;
  tiny.script.emplace();  // all logits 0
  const LoadedTiny loaded(tiny);
  const std::vector<BatchPrompt> prompts{{{'a'}}};
  EXPECT_THROW((void)answer_prompts(loaded.model(), nullptr, prompts, {}), Error);
}

TEST(BatchGenerator, AnInterruptStopsIt) {
  const InterruptGuard guard;
  const LoadedTiny loaded(TinyModel{});
  (void)std::raise(SIGINT);
  const std::vector<BatchPrompt> prompts{{{'a'}}};
  try {
    (void)answer_prompts(loaded.model(), nullptr, prompts, {});
    FAIL() << "the interrupt was not seen";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInterrupted);
  }
}

}  // namespace
}  // namespace qf
