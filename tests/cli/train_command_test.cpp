// The command line of `train`, by running the program on tiny models.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "program.h"
#include "qwen3fp4/base/file.h"

namespace qf::test {
namespace {

using ::testing::HasSubstr;
using Words = std::vector<std::string>;

class TrainCommands : public ::testing::Test {
 protected:
  TrainCommands() {
    TinyModel{.seed = 4}.write(path("dense"));
    const auto made = run_program({"convert", path("dense"), path("model")});
    EXPECT_EQ(made.exit_code, 0) << made.err;
    write_text_file(path("data.tsv"),
                    "Who are you?\tI am Bo.\nWho am I?\tI cannot know.\nHello\tHello!\n");
  }
  [[nodiscard]] std::string path(const std::string& name) const {
    return (folder_.path() / name).string();
  }
  // Of a run into the folder `out`.
  [[nodiscard]] Words words(const std::string& out, const Words& more = {}) const {
    Words all{"train",   "--model", path("model"), "--data", path("data.tsv"), "--out",
              path(out), "--json",  "--batch",     "2",      "--backend",      "cpu"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  [[nodiscard]] std::string hash_of(const Words& run) const {
    const auto done = run_program(run);
    EXPECT_EQ(done.exit_code, 0) << done.err;
    return done.exit_code == 0 ? nlohmann::json::parse(done.out)["state_hash"].get<std::string>()
                               : "none";
  }
  // Waits until the file is there.
  static void await(const std::string& file) {
    for (int i = 0; i < 3000 && !std::filesystem::exists(file); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    ASSERT_TRUE(std::filesystem::exists(file)) << file;
  }

 private:
  TemporaryFolder folder_;
};

TEST_F(TrainCommands, WritesAModelThatGenerates) {
  const auto done = run_program(words("out", {"--steps", "3", "--seq-len", "250"}));
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(nlohmann::json::parse(done.out)["steps"], 3);
  EXPECT_THAT(done.err, HasSubstr("profile  default"));
  EXPECT_THAT(done.err, HasSubstr("step 3/3 loss"));
  const auto log = read_text_file(path("out.log.jsonl"));
  EXPECT_EQ(std::ranges::count(log, '\n'), 3);
  EXPECT_EQ(nlohmann::json::parse(log.substr(0, log.find('\n')))["step"], 1);
  const auto answer =
      run_program({"generate", "--model", path("out"), "--prompt", "Hello", "--max-tokens", "3"});
  EXPECT_EQ(answer.exit_code, 0) << answer.err;
}

TEST_F(TrainCommands, GoesOnAfterKillAndInterruptAsIfNothingHadHappened) {
  const Words steps{"--steps", "40", "--save-every", "2"};
  const auto whole = hash_of(words("whole", steps));
  for (const int signal : {SIGKILL, SIGINT}) {
    const auto out = "stopped-by-" + std::to_string(signal);
    Program stopped(words(out, steps));
    await(path(out + ".checkpoint.dat"));
    stopped.send(signal);
    const auto end = stopped.wait();
    EXPECT_EQ(end.exit_code, signal == SIGINT ? 130 : 128 + SIGKILL) << end.err;
    EXPECT_FALSE(std::filesystem::exists(path(out)));
    auto rest = steps;
    rest.insert(rest.end(), {"--resume", path(out + ".checkpoint.dat")});
    EXPECT_EQ(hash_of(words(out, rest)), whole);
  }
}

TEST_F(TrainCommands, RefusesBeforeItWorks) {
  const auto refuse = [&](const Words& run, int code, const char* sentence) {
    const auto done = run_program(run);
    EXPECT_EQ(done.exit_code, code) << done.err;
    EXPECT_THAT(done.err, HasSubstr(sentence));
  };
  refuse({"train", "--model", path("model")}, 2, "--data: expected a file");
  refuse(words("model"), 2, "");
  refuse(words("out", {"--preset", "distill"}), 2, "expected --teacher");
  refuse(words("out", {"--steps", "2", "--warmup", "3"}), 2, "--warmup: expected at most the 2");
  refuse(words("out", {"--system-mix", "1,2"}), 2, "expected four numbers");
  refuse(words("out", {"--freeze", "("}), 2, "--freeze");
  refuse(words("out", {"--define", "name"}), 2, "expected KEY=VALUE");
  refuse(words("out", {"--offload-states"}), 2, "expected with --backend cuda");
  refuse(words("out", {"--compat"}), 4, "expected a tensor scale of 1");
  refuse(words("data.tsv/out"), 4, "cannot be created");
  EXPECT_FALSE(std::filesystem::exists(path("out.log.jsonl")));
  EXPECT_EQ(hash_of(words("out", {"--steps", "2", "--save-every", "1"})).size(), 16U);
  refuse(words("next", {"--steps", "2", "--lr", "1", "--resume", path("out.checkpoint.dat")}), 2,
         "was written with --lr = ");
}

// A folder that somebody makes meanwhile.
TEST_F(TrainCommands, SavesACheckpointWhereTheModelCannotBeWritten) {
  Program run(words("out", {"--steps", "40"}));
  await(path("out.log.jsonl"));
  std::filesystem::create_directory(path("out"));
  write_text_file(path("out") + "/theirs", "");
  const auto done = run.wait();
  EXPECT_EQ(done.exit_code, 2) << done.err;
  EXPECT_THAT(done.err, HasSubstr("out.checkpoint.dat after step 40"));
  EXPECT_THAT(done.err, HasSubstr("exists already"));
  EXPECT_TRUE(std::filesystem::exists(path("out.checkpoint.dat")));
}

TEST_F(TrainCommands, NamesWhatIsNotFinite) {
  TinyModel tiny;
  tiny.nan_embedding_of = 'W';
  tiny.write(path("nan"));
  const auto done = run_program({"train", "--model", path("nan"), "--data", path("data.tsv"),
                                 "--out", path("out"), "--lr", "1e-3", "--backend", "cpu"});
  EXPECT_EQ(done.exit_code, 3) << done.err;
  EXPECT_THAT(done.err, HasSubstr("the output of model.embed_tokens is the first"));
  EXPECT_FALSE(std::filesystem::exists(path("out")));
}

TEST_F(TrainCommands, EvaluatesPreviewsAndPlansMemory) {
  const auto preview = run_program(words("out", {"--preview", "2"}));
  EXPECT_EQ(preview.exit_code, 0) << preview.err;
  EXPECT_THAT(preview.out, HasSubstr("⟦"));
  const auto plan = run_program(words("out", {"--dry-run"}));
  EXPECT_EQ(plan.exit_code, 0) << plan.err;
  EXPECT_GT(nlohmann::json::parse(plan.out)["peak_bytes"], 100000);
  EXPECT_FALSE(std::filesystem::exists(path("out")));
  EXPECT_FALSE(std::filesystem::exists(path("out.log.jsonl")));
  std::string many;
  for (char c = 'a'; c <= 'z'; ++c) many += std::string("Say ") + c + "\t" + c + "\n";
  write_text_file(path("data.tsv"), many);
  const auto run = run_program(
      words("out", {"--steps", "2", "--eval-every", "1", "--holdout", "30", "--seed", "3"}));
  EXPECT_EQ(run.exit_code, 0) << run.err;
  EXPECT_THAT(run.err, HasSubstr("step 2: held-out loss"));
  EXPECT_THAT(run.out, HasSubstr("held_out_loss"));
}

}  // namespace
}  // namespace qf::test
