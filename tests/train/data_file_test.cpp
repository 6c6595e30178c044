#include "qwen3fp4/train/data_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>

#include "../run/tiny_model.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"

namespace qf {
namespace {

using ::testing::HasSubstr;

std::string error_of(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUnreadable);
    return error.what();
  }
  return "no error";
}

std::string tsv_error(std::string_view text) {
  return error_of([&] { (void)read_tsv(text, "f.tsv", {}); });
}

std::string jsonl_error(std::string_view text) {
  return error_of([&] { (void)read_jsonl(text, "f.jsonl", {}); });
}

TEST(DataFile, TsvIsPromptAndAnswerWithEscapes) {
  const auto content = read_tsv(
      "\xEF\xBB\xBF# a comment\n\na b\tc\n\\#1\\tx\\\\n\tline\\nline\\r\r\n你\t好", "f", {});
  ASSERT_EQ(content.examples.size(), 3U);
  const auto expect = [&](std::size_t i, const std::string& prompt, const std::string& answer) {
    const auto& messages = content.examples[i].messages;
    ASSERT_EQ(messages.size(), 2U);
    EXPECT_EQ(messages[0].role, "user");
    EXPECT_EQ(messages[0].content, prompt);
    EXPECT_EQ(messages[1].role, "assistant");
    EXPECT_EQ(messages[1].content, answer);
    EXPECT_FALSE(content.examples[i].truncated);
    EXPECT_EQ(content.examples[i].split, DataSplit::kTrain);
  };
  expect(0, "a b", "c");
  expect(1, "#1\tx\\n", "line\nline\r");
  expect(2, "你", "好");
}

TEST(DataFile, TsvErrorsNameTheLine) {
  EXPECT_THAT(tsv_error("a\tb\nno tab"), HasSubstr("f.tsv:2: expected prompt<TAB>answer, found 1 "
                                                   "column ("));
  EXPECT_THAT(tsv_error("a\tb\tc"), HasSubstr("f.tsv:1: expected prompt<TAB>answer, found 3 col"));
  EXPECT_THAT(tsv_error("\ta"), HasSubstr("found no prompt"));
  EXPECT_THAT(tsv_error("# x\na\t"),
              HasSubstr("f.tsv:2: expected prompt<TAB>answer, found no ans"));
  EXPECT_THAT(tsv_error("a\tb\\q"), HasSubstr("f.tsv:1: expected \\t, \\n, \\r, \\\\ or \\#"));
  EXPECT_THAT(tsv_error("a\tb\\"), HasSubstr("f.tsv:1: expected \\t"));
  EXPECT_THAT(tsv_error("a\tb\xFF"), HasSubstr("f.tsv:1: expected UTF-8"));
  EXPECT_THAT(tsv_error("#!goup x"), HasSubstr("f.tsv:1: expected #!define, #!group or #!holdout"));
  EXPECT_THAT(tsv_error("#!define x"), HasSubstr("f.tsv:1: expected #!define KEY VALUE"));
  for (const std::string bad : {"", "101", "-1", "5 %", "5 -1", "60 41", "1 2 3"}) {
    EXPECT_THAT(tsv_error("#!holdout " + bad), HasSubstr("two whole percentages")) << bad;
  }
}

TEST(DataFile, TsvDefinesReplaceOnlyDeclaredKeys) {
  const std::string text = "#!define name Old One\nI am {name}{maker}\t{name} {name}\n";
  const auto plain = read_tsv(text, "f", {});
  EXPECT_EQ(plain.examples[0].messages[0].content, "I am Old One{maker}");
  EXPECT_EQ(plain.defines.at("name"), "Old One");
  const auto given = read_tsv(text, "f", {.defines = {{"name", "{name}"}, {"maker", "M"}}});
  EXPECT_EQ(given.examples[0].messages[0].content, "I am {name}{maker}");
  EXPECT_EQ(given.examples[0].messages[1].content, "{name} {name}");
  EXPECT_FALSE(given.defines.contains("maker"));
}

TEST(DataFile, TsvGroupsAndHoldoutHoldForTheLinesBehindThem) {
  const auto content = read_tsv(
      "a\tb\n#!group A who en\n#!holdout 100\na\tb\n#!holdout 0 100\na\tb\n#!group\n"
      "#!holdout 0\na\tb\n",
      "f", {});
  ASSERT_EQ(content.examples.size(), 4U);
  const std::string groups[] = {"", "A who en", "A who en", ""};
  const DataSplit splits[] = {DataSplit::kTrain, DataSplit::kHeldOut, DataSplit::kTuning,
                              DataSplit::kTrain};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(content.examples[i].group, groups[i]);
    EXPECT_EQ(content.examples[i].split, splits[i]);
  }
}

TEST(DataFile, JsonlIsAConversationALine) {
  const auto content = read_jsonl(
      R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}, )"
      R"({"role": "assistant", "content": "a"}], "id": 7})"
      "\n \n"
      R"({"truncated": true, "messages": [{"role": "assistant", "content": "b"}]})",
      "f", {.split = {.held_out = 100}});
  ASSERT_EQ(content.examples.size(), 2U);
  EXPECT_EQ(content.examples[0].messages.size(), 3U);
  EXPECT_EQ(content.examples[0].messages[2].content, "a");
  EXPECT_EQ(content.examples[0].split, DataSplit::kHeldOut);
  EXPECT_FALSE(content.examples[0].truncated);
  EXPECT_TRUE(content.examples[1].truncated);
}

TEST(DataFile, JsonlErrorsNameTheLine) {
  const std::string user = R"({"role": "user", "content": "u"})";
  const std::string answer = R"({"role": "assistant", "content": "a"})";
  const auto line = [](const std::string& messages) {
    return R"({"messages": [)" + messages + "]}";
  };
  EXPECT_THAT(jsonl_error(line(answer) + "\n{"), HasSubstr("f.jsonl:2"));
  EXPECT_THAT(jsonl_error("[]"), HasSubstr("f.jsonl:1: expected an object with a list 'messages'"));
  EXPECT_THAT(jsonl_error(line(user)), HasSubstr("f.jsonl:1: expected an assistant's message"));
  EXPECT_THAT(jsonl_error(line(R"({"role": "tool", "content": "u"})")), HasSubstr("found 'tool'"));
  EXPECT_THAT(jsonl_error(line(answer + R"(,{"role": "system", "content": "u"})")),
              HasSubstr("found 'system'"));
  EXPECT_THAT(jsonl_error(line(R"({"role": "user", "content": ["u"]})")),
              HasSubstr("expected a text 'content'"));
  EXPECT_THAT(jsonl_error(line(R"(3)")), HasSubstr("expected a text 'role'"));
  EXPECT_THAT(jsonl_error(R"({"truncated": true, "messages": [)" + answer + "," + user + "]}"),
              HasSubstr("'truncated'"));
  EXPECT_THAT(jsonl_error(R"({"truncated": 1, "messages": [)" + answer + "]}"),
              HasSubstr("f.jsonl:1"));
}

TEST(DataFile, TheNamesEndingSaysWhatAFileIs) {
  const test::TemporaryFolder folder;
  const auto at = [&](const std::string& name) { return folder.path() / name; };
  write_text_file(at("a.tsv"), "q\ta\n");
  write_text_file(at("a.txt"), "q\ta\n");
  write_text_file(at("a.csv"), "q\ta\n");
  EXPECT_EQ(read_data_file(at("a.tsv"), {}).examples[0].messages.size(), 2U);
  EXPECT_EQ(read_data_file(at("a.txt"), {}).examples[0].text, "q\ta\n");
  EXPECT_THAT(error_of([&] { (void)read_data_file(at("a.csv"), {}); }),
              HasSubstr("a.csv: expected a name that ends in .tsv, .jsonl or .txt"));
  EXPECT_THAT(error_of([&] { (void)read_data_file(at("b.tsv"), {}); }), HasSubstr("b.tsv"));
}

TEST(DataFile, SpellingsOfOneQuestionFallOnTheSameSide) {
  const SplitPercents percents{.held_out = 20, .tuning = 30};
  std::map<DataSplit, int> counts;
  for (int i = 0; i < 2000; ++i) {
    const std::string n = std::to_string(i);
    const DataSplit side = split_of("who are you, " + n, percents);
    ++counts[side];
    EXPECT_EQ(split_of("  WHO are  you" + n + "?!\n", percents), side);
    EXPECT_EQ(split_of("你是誰？。「" + n, percents), split_of("你是誰" + n + "…", percents));
    EXPECT_EQ(split_of("a" + n, {}), DataSplit::kTrain);
    EXPECT_EQ(split_of("a" + n, {.tuning = 100}), DataSplit::kTuning);
    EXPECT_EQ(split_of("a" + n, {.held_out = 100}), DataSplit::kHeldOut);
  }
  // Binomial(2000, 0.2) and (2000, 0.3): five standard deviations are 89 and 102.
  EXPECT_NEAR(counts[DataSplit::kHeldOut], 400, 89);
  EXPECT_NEAR(counts[DataSplit::kTuning], 600, 102);
  // The split of what is published must never move: places 5, 97 and 94 of 100, computed apart.
  for (const auto& [prompt, place] : std::map<std::string, std::int64_t>{
           {"What is your name?", 5}, {"你是誰？", 97}, {"who am I", 94}}) {
    EXPECT_EQ(split_of(prompt, {.held_out = place}), DataSplit::kTrain) << prompt;
    EXPECT_EQ(split_of(prompt, {.held_out = place, .tuning = 1}), DataSplit::kTuning) << prompt;
    EXPECT_EQ(split_of(prompt, {.held_out = place + 1}), DataSplit::kHeldOut) << prompt;
  }
}

}  // namespace
}  // namespace qf
