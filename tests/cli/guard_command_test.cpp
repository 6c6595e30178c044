// The memory guard's options, the plan and the report, by running the program on tiny models.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "program.h"
#include "qwen3fp4/base/file.h"

namespace qf::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;
using Words = std::vector<std::string>;

class GuardCommands : public ::testing::Test {
 protected:
  GuardCommands() { TinyModel{.vocab_size = 4000, .tokenizer = true}.write(path("model")); }
  [[nodiscard]] std::string path(const std::string& name) const {
    return (folder_.path() / name).string();
  }
  [[nodiscard]] Finished generate(const Words& more) const {
    Words all{"generate",  "--model", path("model"),  "--ids", "72,105",
              "--backend", "cpu",     "--max-tokens", "6",     "--ignore-eos"};
    all.insert(all.end(), more.begin(), more.end());
    return run_program(all);
  }
  [[nodiscard]] Json report() const { return Json::parse(read_text_file(path("memory.json"))); }
  // What the program takes before it begins, in bytes.
  [[nodiscard]] double resident_at_start() const {
    const auto done = generate({"--memory-report", path("memory.json")});
    EXPECT_EQ(done.exit_code, 0) << done.err;
    return report()["phases"][0]["at_begin"]["process_resident"].get<double>();
  }

 private:
  TemporaryFolder folder_;
};

TEST_F(GuardCommands, ReportSaysWhatWasUsedAndWhatCouldNotBeSeen) {
  const auto done =
      generate({"--memory-report", path("memory.json"), "--guard-poll-secs", "0.001"});
  ASSERT_EQ(done.exit_code, 0) << done.err;
  const Json json = report();
  EXPECT_EQ(json["command"], "generate");
  EXPECT_EQ(json["exit_code"], 0);
  std::vector<std::string> phases;
  for (const Json& phase : json["phases"]) phases.push_back(phase["name"]);
  EXPECT_EQ(phases, (Words{"start", "model_loaded", "prefill", "decode"}));
  EXPECT_GT(json["largest"]["process_resident"], 10'000'000);
  EXPECT_GE(json["samples"]["rows"].size(), 3U);
  std::vector<std::string> kinds;
  for (const Json& tensors : json["tensors"]) {
    kinds.push_back(tensors["kind"]);
    EXPECT_GT(tensors["bytes"], 0);
    EXPECT_EQ(tensors["device"], "cpu");
  }
  EXPECT_THAT(kinds, ::testing::Contains("weights"));
  EXPECT_THAT(kinds, ::testing::Contains("KV cache"));
  for (const Json& source : json["sources"]) {
    if (source["observed"].get<bool>()) continue;
    EXPECT_NE(source["why"], "");
    if (source["name"] == "device_total") {
      EXPECT_EQ(source["why"], "the run uses no GPU");
    }
  }
  const auto html = read_text_file(path("memory.html"));
  EXPECT_THAT(html, HasSubstr("process_resident"));
  for (const auto* const outside : {"src=", "<link", "@import", "fetch("}) {
    EXPECT_THAT(html, Not(HasSubstr(outside)));
  }
}

TEST_F(GuardCommands, ReportIsWrittenOfAFailure) {
  const auto done = generate({"--memory-report", path("memory.json"), "--context", "1"});
  EXPECT_EQ(done.exit_code, 2);
  EXPECT_EQ(report()["exit_code"], 2);
  EXPECT_THAT(report()["error"], HasSubstr("--context"));
}

TEST_F(GuardCommands, ReportThatCannotBeWrittenIsAnError) {
  const auto done = generate({"--memory-report", path("nowhere/memory.json")});
  EXPECT_EQ(done.exit_code, 4);
  EXPECT_THAT(done.err, HasSubstr("--memory-report: "));
}

TEST_F(GuardCommands, DryRunPrintsThePlanOfEveryCommandAndLoadsNothing) {
  write_text_file(path("text.txt"), "some text to score");
  write_text_file(path("data.tsv"), "Hi\tHello!\n");
  ASSERT_EQ(run_program({"convert", path("model"), path("nvfp4")}).exit_code, 0);
  const std::vector<Words> runs{
      {"generate", "--model", path("model"), "--ids", "1,2", "--backend", "cpu"},
      {"perplexity", "--model", path("model"), "--file", path("text.txt"), "--backend", "cpu"},
      {"bench", "--model", path("model"), "--backend", "cpu"},
      {"bench", "--synthetic", "qwen3-32b", "--backend", "cpu"},
      {"bench", "--synthetic", "qwen3-4b", "--train", "1x64", "--backend", "cpu"},
      {"convert", path("model"), path("new")},
      {"train", "--model", path("nvfp4"), "--data", path("data.tsv"), "--out", path("new"),
       "--backend", "cpu"}};
  for (Words words : runs) {
    words.insert(words.end(), {"--dry-run", "--guard", "off"});
    const auto table = run_program(words);
    EXPECT_EQ(table.exit_code, 0) << words[0] << table.err;
    EXPECT_THAT(table.out, HasSubstr("peak of the process")) << words[0];
    words.emplace_back("--json");
    const auto json = Json::parse(run_program(words).out);
    EXPECT_GT(json["peak_bytes"], 0) << words[0];
    EXPECT_GT(json["process_peak_bytes"], json["peak_bytes"]) << words[0];
  }
  EXPECT_FALSE(std::filesystem::exists(path("new")));
}

TEST_F(GuardCommands, RefusesAPlanThatDoesNotFitAndSaysWhatWould) {
  // Its buffer for the read bandwidth is as large as the machine's cache asks for.
  const auto small =
      run_program({"bench", "--model", path("model"), "--backend", "cpu", "--dry-run", "--json"});
  const auto least = Json::parse(small.out)["process_peak_bytes"].get<double>();
  const Words limit{"--guard-limit-gb", fmt::format("{:.3f}", least / 1e9 + 0.3)};
  Words big{"bench", "--synthetic", "qwen3-4b", "--backend", "cpu"};
  big.insert(big.end(), limit.begin(), limit.end());
  const auto refused = run_program(big);
  EXPECT_EQ(refused.exit_code, 5);
  EXPECT_THAT(refused.err, HasSubstr("weights 3.0"));
  EXPECT_THAT(refused.err, HasSubstr("of this process's main memory are left"));
  Words deep{"bench", "--model", path("model"), "--backend", "cpu", "--depth", "300000000"};
  deep.insert(deep.end(), limit.begin(), limit.end());
  const auto shallower = run_program(deep);
  EXPECT_EQ(shallower.exit_code, 5);
  EXPECT_THAT(shallower.err, ::testing::ContainsRegex("--depth [0-9]+ would fit"));
}

// A command that makes no plan, and a limit that leaves less than the caps' margin.
TEST_F(GuardCommands, StopsARunThatCrossesItsLimit) {
  const std::string limit = fmt::format("{:.6f}", (resident_at_start() + 2e7) / 1e9);
  const auto dump = [&](const Words& more) {
    Words all{"dump",
              "--model",
              path("model"),
              "--ids",
              "72,105",
              "--backend",
              "cpu",
              "--out",
              path("out.safetensors"),
              "--guard-limit-gb",
              limit};
    all.insert(all.end(), more.begin(), more.end());
    return run_program(all);
  };
  const auto done = dump({"--memory-report", path("memory.json")});
  EXPECT_EQ(done.exit_code, 75) << done.err;
  EXPECT_THAT(done.err, HasSubstr("memory guard: "));
  EXPECT_THAT(done.err, HasSubstr("--guard-limit-gb"));
  EXPECT_EQ(report()["exit_code"], 75);
  EXPECT_FALSE(std::filesystem::exists(path("out.safetensors")));
  const auto unguarded = dump({"--guard", "off"});
  EXPECT_EQ(unguarded.exit_code, 0) << unguarded.err;
  EXPECT_THAT(unguarded.err, HasSubstr("the memory guard is off"));
}

// A limit that no process fits into is told before anything else, unless it is a GPU's.
TEST_F(GuardCommands, AbChecksPathsSayWhoseLimitItIs) {
  const auto check = [&](const std::string& side, const std::string& path_text) {
    return run_program(
        {"ab-check", "--model", path("model"), side, path_text, "--guard-limit-gb", "0.001"});
  };
  for (const auto* const side : {"--a", "--b"}) {
    EXPECT_THAT(check(side, "cpu,prefill=token").err, HasSubstr("--guard-limit-gb")) << side;
    EXPECT_THAT(check(side, "cuda,prefill=token").err, Not(HasSubstr("--guard-limit-gb"))) << side;
  }
}

TEST_F(GuardCommands, RefusesNonsense) {
  for (const Words& words : std::vector<Words>{{"--guard-limit-gb", "0"},
                                               {"--guard-limit-gb", "x"},
                                               {"--guard-limit-gb", "0.001"},
                                               {"--guard-poll-secs", "0"},
                                               {"--guard-over-secs", "-1"},
                                               {"--memory-report", ""},
                                               {"--memory-report", "run.html"},
                                               {"--guard", "maybe"}}) {
    const auto done = generate(words);
    EXPECT_EQ(done.exit_code, 2) << words[0] << words[1];
    EXPECT_THAT(done.err, HasSubstr(words[0]));
  }
}

}  // namespace
}  // namespace qf::test
