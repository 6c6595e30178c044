// The command line of `ab-check` where it runs training's forward, on tiny models.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "program.h"

namespace qf::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Words = std::vector<std::string>;

// The models are made once: they take longer than a check.
class TrainingPaths : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder = std::make_unique<TemporaryFolder>();
    TinyModel{.seed = 3}.write(path("dense"));
    TinyModel{.seed = 4}.write(path("other"));
    const auto made = run_program({"convert", path("dense"), path("model")});
    ASSERT_EQ(made.exit_code, 0) << made.err;
  }
  static void TearDownTestSuite() { folder.reset(); }
  [[nodiscard]] static std::string path(const std::string& name) {
    return (folder->path() / name).string();
  }
  [[nodiscard]] static Finished check(const Words& more) {
    Words words{"ab-check", "--model", path("model"), "--prompt", "tide"};
    words.insert(words.end(), more.begin(), more.end());
    return run_program(words);
  }

 private:
  static inline std::unique_ptr<TemporaryFolder> folder;
};

TEST_F(TrainingPaths, CompareWithTheReferenceAndWithEachOther) {
  const auto on = check({"--b", "cpu,ste=on,dtype=bf16"});
  EXPECT_EQ(on.exit_code, 0) << on.err;
  EXPECT_THAT(on.out, HasSubstr("got: cpu,ste=on,dtype=bf16 ("));
  const auto off =
      check({"--a", "cpu,ste=on", "--b", "cpu,ste=off", "--master", path("dense"), "--json"});
  EXPECT_EQ(off.exit_code, 0) << off.err;
  const auto json = nlohmann::json::parse(off.out);
  EXPECT_EQ(json["got"],
            "cpu,ste=off (" + path("model") + ", packed weights of " + path("dense") + ")");
  // What quantisation changed, far above rounding.
  const auto& last = json["isolated"].back();
  EXPECT_EQ(last["module"], "lm_head");
  EXPECT_GT(last["relative_l2"], 1e-2);
}

TEST_F(TrainingPaths, TellTheModelThatWasQuantisedFromAnother) {
  const auto done = check({"--b", "cpu,ste=off", "--master", path("other")});
  EXPECT_EQ(done.exit_code, 1);
  EXPECT_THAT(done.out,
              HasSubstr("first layer out of bounds: model.layers.0.self_attn.q_proj; likely "));
}

TEST_F(TrainingPaths, RunOnADenseModelWithoutAMaster) {
  const auto done =
      run_program({"ab-check", "--model", path("dense"), "--ids", "5,6,7", "--b", "cpu,ste=off"});
  EXPECT_EQ(done.exit_code, 0) << done.err;
}

TEST_F(TrainingPaths, ThreePathPrintsTheFirstToken) {
  const auto done = check({"--three-path", "--master", path("dense")});
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_THAT(done.out, HasSubstr("inference cpu ("));
  EXPECT_THAT(done.out, HasSubstr("STE       cpu,ste=on ("));
  EXPECT_THAT(done.out, HasSubstr("no STE    cpu,ste=off ("));
  EXPECT_THAT(done.out, HasSubstr("inference, STE:        10 of the likeliest 10 in common"));
  EXPECT_THAT(done.out, HasSubstr("inference and STE agree: relative L2 of the logits "));

  const auto as_json = check({"--three-path", "--master", path("dense"), "--json"});
  const auto json = nlohmann::json::parse(as_json.out);
  EXPECT_EQ(json["within"], true);
  EXPECT_EQ(json["no_ste_missing"], nullptr);
  EXPECT_EQ(json["finding"], nullptr);
  ASSERT_EQ(json["paths"].size(), 3U);
  ASSERT_EQ(json["pairs"].size(), 3U);
  EXPECT_LT(json["pairs"][0]["relative_l2"], json["bound"]);
  EXPECT_GT(json["pairs"][1]["relative_l2"], json["bound"]);
  EXPECT_LT(json["pairs"][0]["kl"], json["pairs"][1]["kl"]);
  for (const auto& route : json["paths"]) {
    ASSERT_EQ(route["top"].size(), 10U);
    // The tokenizer has a token a byte.
    for (const auto& token : route["top"]) {
      const int id = token["id"];
      if (id >= 259) {
        EXPECT_EQ(token["text"], nullptr);
      } else if (id < 128) {
        EXPECT_EQ(token["text"], std::string(1, static_cast<char>(id)));
      }
    }
  }
  // The token that generate says.
  const auto answer = nlohmann::json::parse(
      run_program({"generate", "--model", path("model"), "--prompt", "tide", "--temp", "0",
                   "--repeat-penalty", "1", "--max-tokens", "1", "--ignore-eos", "--json"})
          .out);
  EXPECT_EQ(json["paths"][0]["chosen"]["id"], answer["ids"][0]);
}

TEST_F(TrainingPaths, ThreePathSaysWhyThereAreTwo) {
  const auto done = check({"--three-path"});
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_THAT(done.out, HasSubstr("no STE    did not run: " + path("model") +
                                  " holds 4-bit weights only (--master "));
  const auto json = nlohmann::json::parse(check({"--three-path", "--json"}).out);
  EXPECT_EQ(json["paths"].size(), 2U);
  EXPECT_THAT(json["no_ste_missing"].get<std::string>(), HasSubstr("--master"));
}

TEST_F(TrainingPaths, ThreePathFailsWhereInferenceAndTrainingDisagree) {
  const auto done = check({"--three-path", "--model-b", path("other")});
  EXPECT_EQ(done.exit_code, 1);
  EXPECT_THAT(done.out, HasSubstr("inference and STE disagree beyond the bound: "));
  EXPECT_THAT(done.err, HasSubstr("first out of bounds: model.embed_tokens"));
  EXPECT_EQ(std::ranges::count(done.err, '\n'), 1) << done.err;
}

TEST_F(TrainingPaths, WrongUsageIsOneSentence) {
  const auto says = [&](const Words& wrong, const char* sentence) {
    const auto done = check(wrong);
    EXPECT_EQ(done.exit_code, 2) << done.err;
    EXPECT_THAT(done.err, HasSubstr(sentence));
    EXPECT_EQ(std::ranges::count(done.err, '\n'), 1) << done.err;
    EXPECT_EQ(done.out, "");
  };
  says({"--b", "cpu,ste=off"},
       "holds model.layers.0.self_attn.q_proj.weight packed, expected "
       "--master with the model before it was quantised");
  says({"--master", path("dense")}, "--master: expected a path with ste=off");
  says({"--b", "cpu,ste=on,dtype=fp16"}, "expected dtype=fp32 or bf16, found fp16");
  says({"--three-path", "--a", "cpu"}, "expected --a with ste=on and --b without ste=");
  says({"--three-path", "--layers", "0"}, "--layers");
  const auto missing = check({"--b", "cpu,ste=off", "--master", path("nothing")});
  EXPECT_EQ(missing.exit_code, 4);
  EXPECT_THAT(missing.out, Not(HasSubstr("within")));
}

}  // namespace
}  // namespace qf::test
