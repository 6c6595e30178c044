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
#include "qwen3fp4/formats/utf8.h"

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

TEST_F(TrainCommands, ExportsWhatItTrainedForOtherPrograms) {
  TinyModel{.seed = 5, .intermediate_size = 128}.write(path("wide"));
  ASSERT_EQ(run_program({"convert", path("wide"), path("wide-nvfp4")}).exit_code, 0);
  Words run = words("out", {"--steps", "2", "--export", "safetensors", "--export", "gguf"});
  run[2] = path("wide-nvfp4");
  const auto done = run_program(run);
  ASSERT_EQ(done.exit_code, 0) << done.err;
  const auto logits = [&](const std::string& model) {
    return run_program({"generate", "--model", path(model), "--prompt", "Hello", "--max-tokens",
                        "3", "--logits-hash"})
        .out;
  };
  // Which has the weights in the inventory's order.
  ASSERT_EQ(run_program({"convert", path("out"), path("copy")}).exit_code, 0);
  for (const char* name : {"out-safetensors", "out.gguf"}) {
    ASSERT_EQ(run_program({"convert", path(name), path("back"), "--force"}).exit_code, 0) << name;
    EXPECT_TRUE(read_text_file(path("back/model.dat")) == read_text_file(path("copy/model.dat")));
    EXPECT_EQ(logits("back"), logits("out"));
  }
  EXPECT_TRUE(read_text_file(path("copy/model.dat")) !=
              read_text_file(path("wide-nvfp4/model.dat")));
  // What is in the way is said before the work; so is what a format cannot hold.
  run[6] = path("out2");
  std::filesystem::rename(path("out.gguf"), path("out2.gguf"));
  const auto exists = run_program(run);
  EXPECT_EQ(exists.exit_code, 2);
  EXPECT_THAT(exists.err, HasSubstr("out2.gguf: exists already"));
  EXPECT_FALSE(std::filesystem::exists(path("out2.log.jsonl")));
  const auto narrow = run_program(words("out3", {"--export", "gguf"}));
  EXPECT_EQ(narrow.exit_code, 4);
  EXPECT_THAT(narrow.err, HasSubstr("multiple of 64"));
}

// What the answers teach makes the held-out one less likely, sooner or later.
TEST_F(TrainCommands, StopsEarlyAndWritesTheBestModel) {
  write_text_file(path("held.jsonl"), R"({"messages": [{"role": "user", "content": "Hello"}, )"
                                      R"({"role": "assistant", "content": "xyzzy plugh"}]})"
                                      "\n");
  const Words constant{"--lr", "0.01", "--schedule", "constant", "--warmup", "0"};
  const auto early = [&](const std::string& out, const Words& more = {}) {
    Words run = words(out, constant);
    run.insert(run.end(), {"--steps", "60", "--eval-every", "2", "--eval-data", path("held.jsonl"),
                           "--early-stop", "2", "--save-every", "2"});
    run.insert(run.end(), more.begin(), more.end());
    return run;
  };
  const auto done = run_program(early("out"));
  ASSERT_EQ(done.exit_code, 0) << done.err;
  const auto result = nlohmann::json::parse(done.out);
  const auto best = result["best_step"].get<std::int64_t>();
  EXPECT_EQ(result["steps"], best + 4);
  EXPECT_LT(result["steps"], 60);
  EXPECT_LT(result["best_held_out_loss"], result["held_out_loss"]);
  EXPECT_FALSE(std::filesystem::exists(path("out.best")));
  // The same as a run that ends there.
  Words until = words("until", constant);
  until.insert(until.end(), {"--steps", std::to_string(best)});
  (void)hash_of(until);
  const auto model = [&](const char* out) { return read_text_file(path(out) + "/model.dat"); };
  EXPECT_TRUE(model("out") == model("until"));
  // A run that goes on remembers the best so far, and what it has waited.
  Program stopped(early("stopped"));
  await(path("stopped.checkpoint.dat"));
  stopped.send(SIGINT);
  if (stopped.wait().exit_code == 130) {
    (void)hash_of(early("stopped", {"--resume", path("stopped.checkpoint.dat")}));
  }
  EXPECT_TRUE(model("out") == model("stopped"));
  const auto lost = run_program(early("out", {"--resume", path("out.checkpoint.dat"), "--force"}));
  EXPECT_EQ(lost.exit_code, 2) << lost.err;
  EXPECT_THAT(lost.err, HasSubstr("out.best: expected the best model so far"));
}

TEST_F(TrainCommands, ReportsCurvesMemoryAndSamples) {
  write_text_file(path("text.txt"), std::string(40, 'a') + "<script>\n");
  const Words watched{"--steps",         "4",
                      "--eval-every",    "2",
                      "--eval-data",     path("data.tsv"),
                      "--sample-every",  "3",
                      "--sample-prompt", "Hello</script>",
                      "--tensorboard",   path("events"),
                      "--report",        path("run.html")};
  const auto done = run_program(words("out", watched));
  ASSERT_EQ(done.exit_code, 0) << done.err;
  const auto page = read_text_file(path("run.html"));
  const std::string begin = R"(<script type="application/json" id="data">)";
  const auto from = page.find(begin) + begin.size();
  const auto data = page.substr(from, page.find("</script>", from) - from);
  const auto json = nlohmann::json::parse(data);
  ASSERT_EQ(json["steps"].size(), 4U);
  EXPECT_EQ(json["steps"][3]["step"], 4);
  ASSERT_EQ(json["held_out"].size(), 2U);
  EXPECT_EQ(json["held_out"][1]["step"], 4);
  EXPECT_GT(json["held_out"][0]["loss"], 0);
  ASSERT_EQ(json["samples"].size(), 2U);  // after steps 3 and 4
  EXPECT_EQ(json["samples"][0]["prompt"], "Hello</script>");
  EXPECT_GT(json["planned_peak"], 0);
  EXPECT_GT(json["memory"].size(), 3U);
  // The answer is the one of the model that was written.
  const auto answer = run_program({"generate", "--model", path("out"), "--prompt", "Hello</script>",
                                   "--max-tokens", "64", "--temp", "0", "--json"});
  ASSERT_EQ(answer.exit_code, 0) << answer.err;
  EXPECT_EQ(json["samples"][1]["answer"],
            replace_invalid_utf8(nlohmann::json::parse(answer.out)["text"].get<std::string>()));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(path("events")), {}), 1);

  const auto refuse = [&](const Words& more, const char* sentence) {
    const auto refused = run_program(words("next", more));
    EXPECT_EQ(refused.exit_code, 2) << refused.err;
    EXPECT_THAT(refused.err, HasSubstr(sentence));
  };
  refuse({"--sample-every", "2"}, "expected both");
  refuse({"--early-stop", "2"}, "--early-stop: expected --eval-every");
  refuse({"--eval-every", "2"}, "nothing is held out");
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
  refuse(words("out", {"--freeze", ".", "--lr", "1e-4"}), 2, "expected something left to train");
  refuse(words("out", {"--freeze", ".", "--dry-run"}), 2, "expected something left to train");
  refuse(words("out", {"--freeze", "layer.0"}), 2, "'layer.0' is in none");
  refuse(words("out", {"--train-embedding", "--freeze", "embed"}), 2, "expected no --freeze");
  refuse(words("out", {"--train-embedding", "--train-last-layers", "1"}), 2, "expected all layers");
  refuse(words("out", {"--sample-every", "1", "--sample-prompt", std::string(9000, 'x')}), 2,
         "--sample-prompt: expected at most the model's");
  refuse(words("out", {"--define", "name"}), 2, "expected KEY=VALUE");
  refuse(words("out", {"--offload-states"}), 2, "expected with --backend cuda");
  refuse(words("out", {"--compat"}), 4, "expected a tensor scale of 1");
  refuse(words("data.tsv/out"), 4, "cannot be created");
  EXPECT_FALSE(std::filesystem::exists(path("out.log.jsonl")));
  EXPECT_EQ(hash_of(words("out", {"--steps", "2", "--save-every", "1"})).size(), 16U);
  refuse(words("next", {"--steps", "2", "--lr", "1", "--resume", path("out.checkpoint.dat")}), 2,
         "was written with --lr = ");
  refuse(words("next", {"--steps", "3", "--dry-run", "--resume", path("out.checkpoint.dat")}), 2,
         "was written with --steps = 2, this run has 3");
  refuse(words("next", {"--steps", "2", "--dry-run", "--resume", path("out/model.dat")}), 4,
         "expected a training checkpoint");
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
