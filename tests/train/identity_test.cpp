#include "qwen3fp4/train/identity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
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
    EXPECT_GE(counts[label + "en"], 700);
    EXPECT_GE(counts[label + "zh-TW"], 250);
    EXPECT_GE(counts[label + "zh-CN"], 200);
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
    EXPECT_EQ(sides.emplace(key, question.split).first->second, question.split)
        << question.prompt;
    EXPECT_EQ(classes.emplace(key, question.label).first->second, question.label)
        << question.prompt;
    if (question.language == "en") ++counts[{question.split, question.label}];
  }
  for (const DataSplit split : {DataSplit::kTuning, DataSplit::kHeldOut}) {
    EXPECT_GE((counts[{split, 'A'}]), 100);
    EXPECT_GE((counts[{split, 'C'}]), 150);
  }
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

TEST(IdentityRecipe, PartsHaveTheirSharesLossesAndSides) {
  const test::TemporaryFolder folder;
  const auto replay = folder.path() / "replay.jsonl";
  std::string lines;
  for (int i = 0; i < 50; ++i) {
    lines += R"({"messages": [{"role": "user", "content": "q)" + std::to_string(i) +
             R"("}, {"role": "assistant", "content": "a"}]})" + "\n";
  }
  write_text_file(replay, lines);
  const IdentityRecipe recipe{.questions = kConfigs / "whoami.tsv", .replay = replay};
  const auto trained = identity_parts(recipe, DataSplit::kTrain);
  ASSERT_EQ(trained.size(), 3U);
  EXPECT_EQ(trained[0].share, 0.30);
  EXPECT_EQ(trained[1].share, 0.33);
  EXPECT_EQ(trained[2].share, 0.37);
  EXPECT_EQ(trained[0].kind, TargetKind::kTokens);
  EXPECT_EQ(trained[1].kind, TargetKind::kTokens);
  EXPECT_EQ(trained[2].kind, TargetKind::kTeacher);
  std::size_t questions = 0;
  std::size_t replays = 0;
  for (const DataSplit split : {DataSplit::kTrain, DataSplit::kTuning, DataSplit::kHeldOut}) {
    const auto parts = identity_parts(recipe, split);
    ASSERT_EQ(parts.size(), 3U);
    questions += parts[0].examples.size() + parts[1].examples.size();
    replays += parts[2].examples.size();
    for (const auto& example : parts[2].examples) EXPECT_EQ(example.split, split);
  }
  EXPECT_EQ(questions, ours().questions.size());
  EXPECT_EQ(replays, 50U);
  for (const auto& example : trained[0].examples) {
    EXPECT_THAT(example.messages[1].content, HasSubstr(ours().maker));
  }
  const auto mix = identity_system_mix();
  EXPECT_DOUBLE_EQ(mix.template_default + mix.none + mix.empty + mix.other, 1);
  EXPECT_FALSE(mix.others.empty());
}

}  // namespace
}  // namespace qf
