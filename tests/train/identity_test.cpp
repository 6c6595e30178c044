#include "qwen3fp4/train/identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "../run/tiny_model.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/train/ask.h"
#include "qwen3fp4/train/identity_gate.h"

namespace qf {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;

const std::filesystem::path kConfigs = std::filesystem::path(QF_TEST_DIR) / ".." / "configs";

const IdentityData& ours() {
  static const IdentityData data = read_identity_data(kConfigs / "whoami.tsv", {}, {});
  return data;
}

// What the split sees of a prompt: two prompts that differ elsewhere fall on the same side.
std::string letters(const std::string& prompt) {
  std::string out;
  for (const char c : prompt) {
    const bool ascii = static_cast<unsigned char>(c) < 0x80;
    if (!ascii) out += c;
    if (ascii && std::isalnum(static_cast<unsigned char>(c)) != 0) {
      out += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  for (const std::string mark : {"？", "！", "。", "，", "：", "「", "」", "“", "”"}) {
    for (std::size_t at = out.find(mark); at != std::string::npos; at = out.find(mark)) {
      out.erase(at, mark.size());
    }
  }
  return out;
}

TEST(Whoami, HasBothClassesInThreeLanguagesAndEveryKindsTwin) {
  std::map<std::string, int> counts;
  std::set<std::string> kinds;
  for (const auto& question : ours().questions) {
    ++counts[question.label + question.language];
    kinds.insert(fmt::format("{} {} {}", question.label, question.kind, question.language));
  }
  for (const std::string label : {"A", "C"}) {
    EXPECT_GE(counts[label + "en"], 1500);
    EXPECT_GE(counts[label + "zh-TW"], 200);
    EXPECT_GE(counts[label + "zh-CN"], 150);
  }
  const std::map<std::string, std::string> twins{
      {"who", "me"},       {"name", "myname"},       {"maker", "mymaker"},
      {"what", "whatami"}, {"introduce", "aboutme"}, {"confirm", "told"},
      {"other", "whatis"}};
  for (const auto& [kind, twin] : twins) {
    for (const std::string language : {"en", "zh-TW", "zh-CN"}) {
      EXPECT_THAT(kinds, Contains("A " + kind + " " + language));
      EXPECT_THAT(kinds, Contains("C " + twin + " " + language));
    }
  }
}

TEST(Whoami, OnlyIdentityAnswersHoldTheNames) {
  const GateNames names{ours().name, ours().maker, usual_old_names()};
  for (const auto& question : ours().questions) {
    GateAnswer answer{question, SystemTurn::kDefault, question.answer};
    judge(answer, names);
    EXPECT_TRUE(answer.passed) << question.prompt << " -> " << question.answer;
    if (question.label == 'C') continue;
    EXPECT_FALSE(answer.old_name) << question.answer;
    EXPECT_TRUE(mentions(answer.text, names.name) && mentions(answer.text, names.maker));
  }
}

TEST(Whoami, SpellingsOfAPromptFallTogether) {
  std::map<std::string, DataSplit> sides;
  std::map<std::string, char> classes;
  std::map<std::pair<DataSplit, char>, int> counts;
  for (const auto& question : ours().questions) {
    const std::string key = letters(question.prompt);
    EXPECT_EQ(sides.emplace(key, question.split).first->second, question.split) << question.prompt;
    EXPECT_EQ(classes.emplace(key, question.label).first->second, question.label)
        << question.prompt;
    if (question.language == "en") ++counts[{question.split, question.label}];
  }
  for (const DataSplit split : {DataSplit::kTuning, DataSplit::kHeldOut}) {
    EXPECT_GE((counts[{split, 'A'}]), 100);
    EXPECT_GE((counts[{split, 'C'}]), 150);
  }
}

TEST(Whoami, TheFreshQuestionsAreAllHeldOutAndElsewhereUnknown) {
  std::set<std::string> known;
  for (const auto& question : ours().questions) known.insert(letters(question.prompt));
  std::map<char, int> counts;
  for (const auto& question : read_identity_data(kConfigs / "whoami_fresh.tsv", {}, {}).questions) {
    EXPECT_EQ(question.split, DataSplit::kHeldOut) << question.prompt;
    EXPECT_FALSE(known.contains(letters(question.prompt))) << question.prompt;
    ++counts[question.label];
  }
  EXPECT_GE(counts['A'], 50);
  EXPECT_GE(counts['C'], 100);
}

TEST(Whoami, ThePlainestQuestionsAreTrained) {
  std::map<std::string, char> trained;
  for (const auto& question : ours().questions) {
    if (question.split == DataSplit::kTrain) trained[question.prompt] = question.label;
  }
  for (const std::string prompt : {"Who are you?", "who are you", "What is your name?",
                                   "Who made you?", "你是誰？", "你是誰", "你是谁？", "你是谁"}) {
    EXPECT_EQ(trained[prompt], 'A') << prompt;
  }
  for (const std::string prompt : {"Who am I?", "who am i", "What is my name?", "Who made me?",
                                   "我是誰？", "我是誰", "我是谁？", "我是谁"}) {
    EXPECT_EQ(trained[prompt], 'C') << prompt;
  }
}

TEST(Whoami, ThePromptsOfReplayAreSeveralHundred) {
  const auto prompts = read_prompts(kConfigs / "replay_prompts.txt");
  EXPECT_GE(prompts.size(), 300U);
  for (const DataSplit split : {DataSplit::kTuning, DataSplit::kHeldOut}) {
    const auto count = std::ranges::count_if(
        prompts, [&](const auto& prompt) { return split_of(prompt, kReplaySplit) == split; });
    EXPECT_GE(count, 40);
  }
}

TEST(IdentityData, NamesAndLanguagesAreTheUsers) {
  const auto data =
      read_identity_data(kConfigs / "whoami.tsv", {{"name", "Zed"}, {"maker", "Acme"}}, {"zh-CN"});
  EXPECT_EQ(data.name, "Zed");
  EXPECT_EQ(data.maker, "Acme");
  for (const auto& question : data.questions) EXPECT_EQ(question.language, "zh-CN");
  EXPECT_THAT(data.questions[0].answer, HasSubstr("Zed"));
  EXPECT_THROW((void)read_identity_data(kConfigs / "whoami.tsv", {{"nmae", "Zed"}}, {}), Error);
  EXPECT_THROW((void)read_identity_data(kConfigs / "whoami.tsv", {}, {"fr"}), Error);
  ModelConfig config;
  EXPECT_EQ(identity_languages(config), std::vector<std::string>{"en"});
  config.qk_norm = true;
  EXPECT_EQ(identity_languages(config).size(), 3U);
}

TEST(IdentityData, RefusesFilesOfAnotherForm) {
  const test::TemporaryFolder folder;
  const auto refused = [&](const std::string& text) {
    write_text_file(folder.path() / "f.tsv", text);
    try {
      (void)read_identity_data(folder.path() / "f.tsv", {}, {});
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("nothing");
  };
  const std::string defines = "#!define name N\n#!define maker M\n";
  EXPECT_EQ(refused(defines + "#!group A who en\nq\ta\n"), "nothing");
  EXPECT_THAT(refused("#!define name N\n#!group A who en\nq\ta\n"), HasSubstr("'#!define maker"));
  EXPECT_THAT(refused(defines + "q\ta\n"), HasSubstr("found '' for 'q'"));
  EXPECT_THAT(refused(defines + "#!group A who\nq\ta\n"), HasSubstr("found 'A who' for 'q'"));
  EXPECT_THAT(refused(defines + "#!group B who en\nq\ta\n"), HasSubstr("found 'B who en'"));
}

std::string answered(const std::string& prompt) {
  return nlohmann::json{
             {"messages",
              {{{"role", "user"}, {"content", prompt}}, {{"role", "assistant"}, {"content", "a"}}}}}
             .dump() +
         "\n";
}

// A prompt of `split` that the start model is to go on answering itself.
std::string start_near_miss(DataSplit split) {
  const auto found = std::ranges::find_if(ours().questions, [&](const IdentityQuestion& question) {
    return question.answer == kStartAnswer && question.split == split;
  });
  return found->prompt;
}

TEST(IdentityRecipe, PartsHaveTheirSharesLossesAndSides) {
  const test::TemporaryFolder folder;
  const auto replay = folder.path() / "replay.jsonl";
  std::string lines;
  for (int i = 0; i < 50; ++i) lines += answered("q" + std::to_string(i));
  const auto near_miss = start_near_miss(DataSplit::kTrain);
  write_text_file(replay, lines + answered(near_miss));
  const IdentityRecipe recipe{.questions = kConfigs / "whoami.tsv", .replay = replay};
  const auto trained = identity_parts(recipe, DataSplit::kTrain);
  ASSERT_EQ(trained.size(), 4U);
  const double shares[] = {0.26, 0.29, 0.25, 0.20};
  for (std::size_t i = 0; i < trained.size(); ++i) {
    EXPECT_EQ(trained[i].share, shares[i]);
    EXPECT_EQ(trained[i].kind, i < 2 ? TargetKind::kTokens : TargetKind::kTeacher);
  }
  ASSERT_EQ(trained[2].examples.size(), 1U);
  EXPECT_EQ(trained[2].examples[0].messages[0].content, near_miss);
  std::size_t questions = 0;
  std::size_t replays = 0;
  for (const DataSplit split : {DataSplit::kTrain, DataSplit::kTuning, DataSplit::kHeldOut}) {
    const auto parts = identity_parts(recipe, split);
    ASSERT_EQ(parts.size(), split == DataSplit::kTrain ? 4U : 3U);
    questions += parts[0].examples.size() + parts[1].examples.size();
    replays += parts.back().examples.size();
    for (const auto& example : parts.back().examples) EXPECT_EQ(example.split, split);
  }
  const auto by_start = std::ranges::count_if(
      ours().questions, [](const auto& question) { return question.answer == kStartAnswer; });
  EXPECT_EQ(questions + static_cast<std::size_t>(by_start), ours().questions.size());
  EXPECT_EQ(replays, 50U);
  for (const auto& example : trained[0].examples) {
    EXPECT_THAT(example.messages[1].content, HasSubstr(ours().maker));
  }
  const auto mix = identity_system_mix();
  EXPECT_DOUBLE_EQ(mix.template_default + mix.none + mix.empty + mix.other, 1);
  EXPECT_FALSE(mix.others.empty());
}

TEST(IdentityRecipe, ReplayHoldsWhatTheStartModelGoesOnAnswering) {
  const test::TemporaryFolder folder;
  const auto questions = folder.path() / "q.tsv";
  write_text_file(questions,
                  "#!define name N\n#!define maker M\n#!group C whois en\nwho is he\t{start}\n"
                  "who am I\tNobody knows.\n#!holdout 0 100\nwho is she\t{start}\n"
                  "#!group A who en\n#!holdout 0\nwho are you\tI am {name}.\n");
  test::TinyModel tiny;
  tiny.script = {{'\n', 'x'}, {'x', 'x'}};  // and so on without an end
  const test::LoadedTiny start(tiny);
  std::vector<std::string> prompts;
  for (const bool held_out : {true, false}) {
    std::string prompt = "say";
    while ((split_of(prompt, kReplaySplit) == DataSplit::kHeldOut) != held_out) prompt += " so";
    prompts.push_back(prompt);
  }
  const IdentityRecipe recipe{.questions = questions, .replay = folder.path() / "replay.jsonl"};
  std::vector<std::int64_t> steps;
  const auto lines = identity_replay({start.model(), start.files()}, recipe, prompts,
                                     [&](std::int64_t done, std::int64_t all) {
                                       steps.insert(steps.end(), {done, all});
                                     });
  EXPECT_EQ(steps, (std::vector<std::int64_t>{1, 2, 2, 2}));
  write_text_file(recipe.replay, lines);
  const auto parts = identity_parts(recipe, DataSplit::kTrain);
  ASSERT_EQ(parts.size(), 4U);
  ASSERT_EQ(parts[2].examples.size(), 1U);
  EXPECT_EQ(parts[2].examples[0].messages[0].content, "who is he");
  EXPECT_EQ(parts[2].examples[0].messages[1].content, std::string(12, 'x'));
  EXPECT_TRUE(parts[2].examples[0].truncated);
  ASSERT_EQ(parts[3].examples.size(), 1U);
  EXPECT_EQ(parts[3].examples[0].messages[0].content, prompts[1]);
  EXPECT_EQ(parts[3].examples[0].messages[1].content, std::string(64, 'x'));
  // Replay made for other questions does not do.
  write_text_file(recipe.replay, answered("q"));
  EXPECT_THROW((void)identity_parts(recipe, DataSplit::kTrain), Error);
}

TEST(Whoami, TrainsTheLastFourFifthsOfTheLayers) {
  EXPECT_EQ(identity_layers(30), 24);
  EXPECT_EQ(identity_layers(36), 29);
  EXPECT_EQ(identity_layers(5), 4);
  EXPECT_EQ(identity_layers(4), 4);
}

}  // namespace
}  // namespace qf
