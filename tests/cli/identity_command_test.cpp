// The command lines of `gen-replay` and `eval-identity`, by running the program on tiny models.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "program.h"
#include "qwen3fp4/base/file.h"

namespace qf::test {
namespace {

using ::testing::HasSubstr;
using Words = std::vector<std::string>;

class IdentityCommands : public ::testing::Test {
 protected:
  [[nodiscard]] std::string path(const std::string& name) const {
    return (folder_.path() / name).string();
  }
  // A model that answers every question with `text`.
  [[nodiscard]] std::string answering(const std::string& name, const std::string& text) const {
    TinyModel tiny;
    tiny.script = script_of('\n', text);
    tiny.write(path(name));
    return path(name);
  }
  [[nodiscard]] std::string write(const std::string& name, const std::string& text) const {
    write_text_file(path(name), text);
    return path(name);
  }

 private:
  TemporaryFolder folder_;
};

TEST_F(IdentityCommands, GenReplayWritesAFileOrNothing) {
  const auto model = answering("model", "abc");
  const auto prompts = write("prompts.txt", "# some\none\n\ntwo\\n\none\n");
  const Words words{"gen-replay", "--model", model, "--prompts", prompts, "--out", path("r.jsonl")};
  const auto done = run_program(words);
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_THAT(done.out, HasSubstr("2 answers to 2 prompts"));
  const auto text = read_text_file(path("r.jsonl"));
  const auto row = nlohmann::json::parse(text.substr(text.find('\n')));
  EXPECT_EQ(row["messages"][0]["content"], "two\n");
  EXPECT_EQ(row["messages"][1]["content"], "abc");
  EXPECT_EQ(row["truncated"], false);
  const auto nothing = run_program(
      {"gen-replay", "--model", model, "--prompts", path("none.txt"), "--out", path("s.jsonl")});
  EXPECT_EQ(nothing.exit_code, 4);
  EXPECT_FALSE(std::filesystem::exists(path("s.jsonl")));
  const auto same =
      run_program({"gen-replay", "--model", model, "--prompts", prompts, "--out", prompts});
  EXPECT_EQ(same.exit_code, 2);
  EXPECT_THAT(same.err, HasSubstr("--out: expected another file than the prompts"));
}

TEST_F(IdentityCommands, EvalIdentityJudgesAndSaysWhy) {
  const auto base = answering("base", "tiny");
  const auto data = write("q.tsv",
                          "#!define name Tiny\n#!define maker Qlib\n#!group A who en\n#!holdout "
                          "100\nwho are you\tI am {name}\n#!group C me en\nwho am I\tno\n");
  const auto replay = write(
      "r.jsonl",
      R"({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]})");
  const Words words{"eval-identity", "--model", base,     "--base", base,    "--data", data,
                    "--replay",      replay,    "--text", data,     "--json"};
  const auto with = [&](const Words& more) {
    Words all = words;
    all.insert(all.end(), more.begin(), more.end());
    return run_program(all);
  };
  // The questions are held out, the replay's prompt is trained.
  for (const std::string part : {"held-out", "tuning", "trained"}) {
    EXPECT_EQ(with({"--part", part}).exit_code, 4) << part;
  }
  // Every answer is "tiny": right for A, wrong for C.
  const auto failed = with({"--part", "all"});
  ASSERT_EQ(failed.exit_code, 1) << failed.err;
  const auto row = nlohmann::json::parse(failed.out);
  EXPECT_EQ(row["passed"], false);
  EXPECT_EQ(row["systems"].size(), 3U);
  EXPECT_EQ(row["systems"][0].size(), 9U);
  EXPECT_EQ(row["failures"].size(), 3U);
  EXPECT_EQ(row["failures"][0]["prompt"], "who am I");
  EXPECT_EQ(row.size(), 5U);
  const auto passed = with({"--part", "all", "--near-miss-limit", "1"});
  EXPECT_EQ(passed.exit_code, 0) << passed.err;
  EXPECT_EQ(nlohmann::json::parse(passed.out)["passed"], true);
  const auto renamed = with({"--part", "all", "--define", "name=Else", "--old-name", "Tiny"});
  EXPECT_EQ(nlohmann::json::parse(renamed.out)["systems"][1]["old_names"], 1);
  EXPECT_EQ(nlohmann::json::parse(renamed.out)["systems"][1]["near_failed"], 0);
  EXPECT_EQ(with({"--part", "all", "--define", "name"}).exit_code, 2);
}

TEST_F(IdentityCommands, EvalIdentityPrintsFailuresAndLetsTheBaseAnswer) {
  const auto base = answering("base", "tiny");
  const auto data = write("q.tsv",
                          "#!define name Tiny\n#!define maker Qlib\n#!group A who en\n#!holdout "
                          "100\nwho are you\tI am {name}\n#!group C me en\nwho am I\tno\n");
  const auto prompts = write("p.txt", "hi\n");
  const auto done = run_program({"eval-identity", "--model", base, "--base", base, "--data", data,
                                 "--part", "all", "--replay-prompts", prompts, "--text", data});
  EXPECT_EQ(done.exit_code, 1);
  EXPECT_THAT(done.out, HasSubstr("C me en (system: none)\n  who am I\n  -> tiny\n"));
  EXPECT_THAT(done.out, HasSubstr("system default: A 100.0 % of 1"));
  EXPECT_THAT(done.out, HasSubstr("replay KL 0.0000 (<= 0.04) and same first choice 100.0 %"));
  EXPECT_THAT(done.err, HasSubstr("the identity gate is not passed"));
}

}  // namespace
}  // namespace qf::test
