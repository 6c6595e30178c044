// The command line of `ab-check`, by running the program on tiny models.
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
using Words = std::vector<std::string>;

class AbCheckCommand : public ::testing::Test {
 protected:
  AbCheckCommand() { TinyModel{}.write(model_); }
  [[nodiscard]] Finished check(const Words& more) const {
    Words words{"ab-check", "--model", model_.string(), "--prompt", "tide"};
    words.insert(words.end(), more.begin(), more.end());
    return run_program(words);
  }
  [[nodiscard]] std::filesystem::path path(const std::string& name) const {
    return folder_.path() / name;
  }

 private:
  TemporaryFolder folder_;

 protected:
  std::filesystem::path model_ = folder_.path() / "model";
};

TEST_F(AbCheckCommand, ComparesTheFastestPathWithTheReference) {
  const auto done = check({});
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_THAT(done.out, HasSubstr("ref: reference ("));
  EXPECT_THAT(done.out, HasSubstr("got: cpu,prefill=half ("));
  EXPECT_THAT(done.out, HasSubstr("within bounds: "));
  EXPECT_THAT(done.out, Not(HasSubstr("out of bounds")));
  EXPECT_THAT(done.out, Not(HasSubstr("q_proj")));  // of each layer one line
  EXPECT_THAT(check({"--all-taps"}).out, HasSubstr("model.layers.1.self_attn.q_proj"));
}

TEST_F(AbCheckCommand, NamesTheFaultAndFails) {
  const auto done = check({"--inject", "norm-skipped:1:post_attention_layernorm"});
  EXPECT_EQ(done.exit_code, 1);
  EXPECT_THAT(
      done.out,
      HasSubstr("first layer out of bounds: model.layers.1.post_attention_layernorm; likely "
                "norm: b computes as if the norm were skipped"));
  EXPECT_THAT(done.err,
              HasSubstr("ab-check: model.layers.1.post_attention_layernorm is out of bounds"));
}

TEST_F(AbCheckCommand, AFaultThatIsNotSeenIsNoSuccess) {
  const auto done = run_program(
      {"ab-check", "--model", model_.string(), "--ids", "7", "--inject", "causal-mask:1"});
  EXPECT_EQ(done.exit_code, 1);
  EXPECT_THAT(done.out, HasSubstr("within bounds"));
  EXPECT_THAT(done.err, HasSubstr("--inject causal-mask:1: was put in, but changes nothing"));
}

TEST_F(AbCheckCommand, SaysWhereAndWhyTheChainedComparisonEnded) {
  TinyModel other;
  other.nan_scale_in = "model.layers.0.mlp.down_proj.weight";
  other.write(path("nan"));
  const auto infinite =
      check({"--model-b", path("nan").string(), "--html", path("nan.html").string()});
  const char* const ended =
      "; the chained comparison ended at model.layers.0.mlp.down_proj, which is NaN or infinite on "
      "one side only\n";
  EXPECT_EQ(infinite.exit_code, 1);
  EXPECT_THAT(infinite.out, HasSubstr(ended));
  EXPECT_THAT(read_text_file(path("nan.html")), HasSubstr("the chained comparison ended at"));
  const auto far = check({"--b", "cpu,dtype=bf16", "--explosion-rel", "1e-6"});
  EXPECT_EQ(far.exit_code, 0) << far.err;
  EXPECT_THAT(far.out, HasSubstr("within bounds: 37 taps isolated, 2 chained; the chained "
                                 "comparison ended at model.layers.0.input_layernorm, whose "
                                 "relative L2 exceeds --explosion-rel\n"));
}

TEST_F(AbCheckCommand, WrongValuesAreNamed) {
  const auto says = [&](const Words& wrong, const char* sentence) {
    const auto done = check(wrong);
    EXPECT_EQ(done.exit_code, 2) << wrong[0] << " " << wrong[1];
    EXPECT_THAT(done.err, HasSubstr(sentence));
  };
  says({"--explosion-rel", "0"}, "--explosion-rel: expected a number above 0, got 0");
  says({"--layers", "-1"}, "--layers: expected layers like 0-3,7, got '-1'");
  says({"--inject", "rope-base:self_attn.q_rope"},
       "--inject: expected rope-base[:LAYER[:MODULE]] with a layer from 0 to 1, found "
       "'self_attn.q_rope' (a module in any layer is rope-base::MODULE)");
}

TEST_F(AbCheckCommand, JsonHoldsEveryTap) {
  const auto done = check({"--inject", "rope-interleaved:0:self_attn.k_rope", "--json"});
  EXPECT_EQ(done.exit_code, 1);
  const auto json = nlohmann::json::parse(done.out);
  EXPECT_EQ(json["within"], false);
  EXPECT_EQ(json["finding"]["module"], "model.layers.0.self_attn.k_rope");
  EXPECT_EQ(json["finding"]["layer"], 0);
  EXPECT_EQ(json["finding"]["class"], "RoPE");
  EXPECT_EQ(json["layers"], 2);
  ASSERT_EQ(json["isolated"].size(), 1 + 2 * 17U + 2);
  EXPECT_EQ(json["isolated"][0]["module"], "model.embed_tokens");
  EXPECT_EQ(json["isolated"][0].size(), 16U);
}

TEST_F(AbCheckCommand, HtmlIsWholeAndLoadsNothing) {
  const auto page = path("report.html");
  ASSERT_EQ(check({"--html", page.string()}).exit_code, 0);
  const auto text = read_text_file(page);
  EXPECT_THAT(text, HasSubstr("</html>"));
  EXPECT_THAT(text, HasSubstr("model.layers.1.mlp.swiglu"));
  EXPECT_THAT(text, Not(HasSubstr("http")));
  EXPECT_THAT(text, Not(HasSubstr("src=")));
  const auto unwritable = run_program({"ab-check", "--model", path("absent").string(), "--html",
                                       path("no/such/folder.html").string()});
  EXPECT_EQ(unwritable.exit_code, 4);
  EXPECT_THAT(unwritable.err, HasSubstr("folder.html: cannot be created"));  // before the model
}

TEST_F(AbCheckCommand, TwoModelsAndAFileOfActivations) {
  TinyModel{.seed = 2}.write(path("other"));
  const auto other = check({"--model-b", path("other").string()});
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_THAT(other.out,
              HasSubstr("first layer out of bounds: model.embed_tokens; likely weights"));
  EXPECT_THAT(other.out, HasSubstr("notice: 16 of 25 weights are of two models, though of one "
                                   "format: model.embed_tokens, "));

  const auto file = path("taps.safetensors").string();
  ASSERT_EQ(
      run_program({"dump", "--model", model_.string(), "--taps", ".", "--out", file}).exit_code, 0);
  const Words compare{"ab-check", "--model", model_.string(), "--a", "cpu", "--b-file", file};
  const auto with_file = run_program(compare);
  EXPECT_EQ(with_file.exit_code, 0);
  EXPECT_THAT(with_file.out, HasSubstr("ref: " + file + "\ngot: cpu ("));
  EXPECT_THAT(with_file.out, Not(HasSubstr(" b ")));  // there is none
  Words with_prompt = compare;
  with_prompt.insert(with_prompt.end(), {"--ids", "1"});
  EXPECT_EQ(run_program(with_prompt).exit_code, 2);
}

TEST_F(AbCheckCommand, SaysWhatDiffersInTheOtherFoldersConfig) {
  TinyModel{}.write(path("other"));
  const auto config = path("other") / "config.json";
  auto json = nlohmann::json::parse(read_text_file(config));
  json["rope_theta"] = 50000.0;
  write_text_file(config, json.dump());
  const auto done = check({"--model-b", path("other").string()});
  EXPECT_EQ(done.exit_code, 1);
  EXPECT_THAT(done.out,
              HasSubstr("notice: config.json differs between a and b: rope_theta 10000 and 50000"));
  EXPECT_THAT(done.out, HasSubstr("likely RoPE: b computes as if RoPE's base were 50000 instead of "
                                  "10000"));
  const auto as_json =
      nlohmann::json::parse(check({"--model-b", path("other").string(), "--json"}).out);
  EXPECT_EQ(as_json["notices"].size(), 1U);
  EXPECT_EQ(as_json["differing_weights"], nlohmann::json::array());
}

TEST_F(AbCheckCommand, ScaleCheckIsExact) {
  const auto done = check({"--scale-check"});
  EXPECT_EQ(done.exit_code, 2);  // a prompt has nothing to do with it
  for (const Words& idle : std::vector<Words>{{"--layers", "0"}, {"--a", "cpu"}, {"--html", "x"}}) {
    Words words{"ab-check", "--model", model_.string(), "--scale-check"};
    words.insert(words.end(), idle.begin(), idle.end());
    EXPECT_EQ(run_program(words).exit_code, 2) << idle[0];
  }
  const auto alone = run_program({"ab-check", "--model", model_.string(), "--scale-check"});
  EXPECT_EQ(alone.exit_code, 0) << alone.err;
  EXPECT_THAT(alone.out, HasSubstr("scale check: 40 of 40 exact"));
}

TEST_F(AbCheckCommand, ListsItsFaults) {
  const auto done = run_program({"ab-check", "--inject", "list"});
  EXPECT_EQ(done.exit_code, 0);
  EXPECT_THAT(done.out, HasSubstr("fp16-overflow"));
  EXPECT_EQ(
      nlohmann::json::parse(run_program({"ab-check", "--inject", "list", "--json"}).out).size(),
      17U);
}

TEST_F(AbCheckCommand, WrongUsageIsOneSentence) {
  for (const Words& wrong : std::vector<Words>{{"--a", "gpu"},
                                               {"--b", "cpu,prefill=some"},
                                               {"--layers", "3-1"},
                                               {"--layers", "0,9"},
                                               {"--layers", "0-99999999999"},
                                               {"--inject", "rope"},
                                               {"--inject", "nibbles-swapped"},
                                               {"--mode", "all"},
                                               {"--ab-max-calls", "0"},
                                               {"--explosion-rel", "-1"},
                                               {"--explosion-rel", "nan"},
                                               {"--layers", ""},
                                               {"--layers", "-1"},
                                               {"--layers", "1,"},
                                               {"--inject", ""},
                                               {"--b-file", ""},
                                               {"--model-b", ""},
                                               {"--master", ""},
                                               {"--html", ""},
                                               {"--seed", "-1"},
                                               {"--threads", "4096"}}) {
    const auto done = check(wrong);
    EXPECT_EQ(done.exit_code, 2) << wrong[0] << " " << wrong[1];
    EXPECT_EQ(std::ranges::count(done.err, '\n'), 1) << done.err;
    EXPECT_EQ(done.out, "");
  }
}

TEST_F(AbCheckCommand, NamesTheOptionThatIsWrong) {
  const auto says = [&](const Words& words, const char* sentence) {
    EXPECT_THAT(run_program(words).err, HasSubstr(sentence));
  };
  says({"ab-check", "--model", ""}, "--model: expected a value, got an empty one");
  says({"dump", "--out", ""}, "--out: expected a value, got an empty one");
  says({"dump", "--out", "x", "--taps", ""}, "--taps: expected a value, got an empty one");
  says({"generate", "--prompt-file", ""}, "--prompt-file: expected a value, got an empty one");
  says({"convert", "a", "b", "--threads", "4096"}, " threads (four a core), got 4096");
  says({"ab-check", "--threads", "2x"}, " threads (four a core), got 2x");
  EXPECT_THAT(check({"--model-b", path("absent").string()}).err,
              HasSubstr("absent: expected a model folder, found nothing (--model-b)"));
}

}  // namespace
}  // namespace qf::test
