// The command lines of `convert` and `inspect`, and what every command shares, by running the
// program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <limits>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "program.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/formats/dat.h"

namespace qf::test {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Words = std::vector<std::string>;

const fs::path kGolden = fs::path(QF_TEST_DIR) / "golden" / "run";

class ConvertCommand : public ::testing::Test {
 protected:
  [[nodiscard]] std::string out() const { return (folder_.path() / "out").string(); }
  Finished convert(const std::string& source, Words options = {}) {
    Words words{"convert", (kGolden / source).string(), out()};
    words.insert(words.end(), options.begin(), options.end());
    return run_program(words);
  }

  TemporaryFolder folder_;
};

void expect_refused(const Finished& done, int exit_code, const std::string& words) {
  EXPECT_EQ(done.exit_code, exit_code) << done.err;
  EXPECT_EQ(done.out, "");
  EXPECT_THAT(done.err, AllOf(HasSubstr("qwen3fp4: "), HasSubstr(words)));
}

TEST_F(ConvertCommand, WritesAFolderAndPrintsATable) {
  const auto done = convert("qwen3_f16.gguf");
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_THAT(done.out, AllOf(HasSubstr("relative RMS error"), HasSubstr("q_proj"),
                              HasSubstr("lm_head"), HasSubstr("nvfp4")));
  EXPECT_THAT(done.err, AllOf(HasSubstr("convert 100 % done"), Not(HasSubstr("\r"))));
  for (const auto* name : {"model.dat", "config.json", "tokenizer.json", "tokenizer_config.json",
                           "generation_config.json"}) {
    EXPECT_TRUE(fs::exists(fs::path(out()) / name)) << name;
  }
}

TEST_F(ConvertCommand, JsonHoldsTheTable) {
  const auto done = convert("llama", {"--format", "nf4", "--json"});
  ASSERT_EQ(done.exit_code, 0) << done.err;
  const auto report = nlohmann::json::parse(done.out);
  EXPECT_EQ(report["head_untied"], false);
  EXPECT_THAT(report["notes"].at(0).get<std::string>(), HasSubstr("no tokenizer"));
  EXPECT_THAT(done.err, HasSubstr("note: "));
  std::vector<std::string> families;
  std::int64_t bytes = 0;
  for (const auto& family : report["families"]) {
    families.push_back(family["family"]);
    bytes += family["bytes"].get<std::int64_t>();
    const double error = family["relative_rms_error"];
    if (family["stored_as"] == "nf4") {
      // NF4 on Gaussian weights: 0.092.
      EXPECT_GT(error, 0.05) << family;
      EXPECT_LT(error, 0.15) << family;
    } else {
      EXPECT_EQ(error, 0) << family;
    }
  }
  EXPECT_EQ(report["bytes"], bytes);
  EXPECT_EQ(families, (Words{"embed_tokens", "norm", "q_proj", "k_proj", "v_proj", "o_proj",
                             "gate_proj", "up_proj", "down_proj", "lm_head"}));
}

TEST_F(ConvertCommand, RefusesWrongUsage) {
  expect_refused(convert("llama", {"--format", "fp8"}), 2,
                 "--format: expected nvfp4 or nf4 or bf16 or f32, found 'fp8'");
  expect_refused(convert("llama", {"--format", "0"}), 2, "--format: expected");
  expect_refused(convert("llama", {"--format", "nf4", "--compat"}), 2, "--compat");
  expect_refused(convert("llama", {"--format", "bf16", "--scales", "amax"}), 2, "--scales");
  expect_refused(convert("llama", {"--keep", "("}), 2, "--keep");
  expect_refused(run_program({"convert", "only-one"}), 2, "DST is required");
  EXPECT_FALSE(fs::exists(out()));
}

TEST_F(ConvertCommand, CalibratesOnTextsAndConversations) {
  const auto in = [&](const char* name) { return (folder_.path() / name).string(); };
  TinyModel{.seed = 4}.write(in("dense"));
  write_text_file(in("text.txt"), std::string(300, 'x') + " some words that the model reads");
  write_text_file(in("chat.jsonl"), R"({"messages": [{"role": "user", "content": "Hi"}, )"
                                    R"({"role": "assistant", "content": "Good morning"}]})"
                                    "\n");
  const auto calibrated = [&](const std::string& name, Words options) {
    Words words{"convert", in("dense"), in(name.c_str())};
    words.insert(words.end(), options.begin(), options.end());
    const auto done = run_program(words);
    EXPECT_EQ(done.exit_code, 0) << done.err;
    return read_text_file(folder_.path() / name / "model.dat");
  };
  const auto plain = calibrated("plain", {});
  const auto text = calibrated("text", {"--calibrate", in("text.txt")});
  const auto both = calibrated("both", {"--calibrate", in("text.txt"), "--calibrate",
                                        in("chat.jsonl"), "--calibration", "weighted"});
  EXPECT_TRUE(text != plain);
  EXPECT_TRUE(both != text);
  EXPECT_TRUE(calibrated("again", {"--calibrate", in("text.txt"), "--threads", "1"}) == text);
}

TEST_F(ConvertCommand, RefusesCalibrationThatWouldDoNothing) {
  const auto text = (folder_.path() / "text.txt").string();
  write_text_file(text, "some words that the model reads");
  expect_refused(convert("qwen3", {"--calibration", "weighted"}), 2, "with --calibrate only");
  expect_refused(convert("qwen3", {"--backend", "cpu"}), 2, "with --calibrate only");
  expect_refused(convert("qwen3", {"--calibrate", text, "--format", "nf4"}), 2,
                 "--calibrate: expected with --format nvfp4 only");
  expect_refused(convert("qwen3", {"--calibrate", text, "--scales", "amax"}), 2,
                 "--calibrate: expected with --scales search only");
  expect_refused(convert("llama", {"--calibrate", text}), 4, "expected a tokenizer, found none");
  expect_refused(convert("qwen3", {"--calibrate", text, "--keep", "nothing"}), 2, "--keep");
  TinyModel{.seed = 4}.write(folder_.path() / "dense");
  const auto packed = (folder_.path() / "packed").string();
  ASSERT_EQ(run_program({"convert", (folder_.path() / "dense").string(), packed}).exit_code, 0);
  expect_refused(run_program({"convert", packed, out(), "--calibrate", text}), 4,
                 "expected the model before it was quantised, found nvfp4");
  EXPECT_FALSE(fs::exists(out()));
}

TEST_F(ConvertCommand, RefusesUnreadableSources) {
  expect_refused(convert("absent"), 4, "no such file");
  expect_refused(convert("sampler.json"), 4, "expected a GGUF file");
  const auto cut = folder_.path() / "cut.gguf";
  const auto whole = read_text_file(kGolden / "llama_f32.gguf");
  write_text_file(cut, std::string_view(whole).substr(0, whole.size() - 1));
  expect_refused(run_program({"convert", cut.string(), out()}), 4, "cut.gguf");
  EXPECT_FALSE(fs::exists(out()));
}

TEST_F(ConvertCommand, ReplacesOnlyWithForce) {
  ASSERT_EQ(convert("llama").exit_code, 0);
  expect_refused(convert("llama"), 2, "--force");
  EXPECT_EQ(convert("llama", {"--force", "--format", "f32"}).exit_code, 0);
  EXPECT_THAT(run_program({"inspect", out()}).out, Not(HasSubstr("nvfp4")));
}

TEST_F(ConvertCommand, InspectListsWhatItWrote) {
  ASSERT_EQ(convert("qwen3").exit_code, 0);
  const auto table = run_program({"inspect", out()});
  EXPECT_EQ(table.exit_code, 0) << table.err;
  EXPECT_EQ(table.err, "");
  EXPECT_THAT(table.out, AllOf(HasSubstr("model.layers.1.mlp.up_proj.weight"), HasSubstr("nvfp4"),
                               HasSubstr("[48, 32]"), HasSubstr("0 flagged")));
  const auto json = nlohmann::json::parse(run_program({"inspect", out(), "--json"}).out);
  const auto& file = json["files"].at(0);
  EXPECT_EQ(file["format"], "dat");
  EXPECT_EQ(file["tensors"].size(), 25U);
  EXPECT_EQ(file["entries"], 25 + 2 * 15);
  for (const auto& tensor : file["tensors"]) EXPECT_TRUE(tensor["amax"].is_number()) << tensor;
}

TEST_F(ConvertCommand, InspectReadsTheOtherFormats) {
  for (const auto& [path, format] : {std::pair{"llama_quantised.gguf", "gguf"},
                                     {"llama_quantised.safetensors", "safetensors"},
                                     {"qwen3", "safetensors"}}) {
    const auto done = run_program({"inspect", (kGolden / path).string(), "--json"});
    EXPECT_EQ(done.exit_code, 0) << done.err;
    EXPECT_EQ(nlohmann::json::parse(done.out)["files"].at(0)["format"], format);
  }
}

TEST_F(ConvertCommand, InspectPrintsNoControlCharacters) {
  const auto path = (folder_.path() / "state.dat").string();
  DatWriter out(path, 1);
  out.write("a\x1b[2J\nb", DType::kU8, {0}, {});
  out.finish();
  EXPECT_THAT(run_program({"inspect", path}).out, HasSubstr("a?[2J?b"));
  const auto json = nlohmann::json::parse(run_program({"inspect", path, "--json"}).out);
  EXPECT_EQ(json["files"][0]["tensors"][0]["name"], "a\x1b[2J\nb");
}

// A table for people, an exit code for scripts.
TEST_F(ConvertCommand, InspectFailsOnFlaggedTensors) {
  const auto path = (folder_.path() / "state.dat").string();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  DatWriter out(path, 1);
  out.write("a", DType::kF32, {1}, std::as_bytes(std::span(&kNan, 1)));
  out.finish();
  const auto done = run_program({"inspect", path, "--json"});
  EXPECT_EQ(done.exit_code, 1);
  EXPECT_THAT(done.err, HasSubstr("1 tensor with error flags"));
  const auto tensor = nlohmann::json::parse(done.out)["files"][0]["tensors"][0];
  EXPECT_EQ(tensor["amax"], nullptr);
  EXPECT_EQ(tensor["flags"], nlohmann::json::array({"1 NaN"}));
}

TEST_F(ConvertCommand, InspectRefusesHostileFiles) {
  const auto hostile = (folder_.path() / "hostile.dat").string();
  write_text_file(hostile, std::string(64, '\xff'));
  expect_refused(run_program({"inspect", hostile}), 4, "hostile.dat");
  expect_refused(run_program({"inspect", out()}), 4, "no such file");
}

TEST_F(ConvertCommand, ALostResultIsNotSuccess) {
  const auto program = "'" + std::string(QF_PROGRAM) + "' inspect '" +
                       (kGolden / "llama").string() + "' 2>/dev/null";
  EXPECT_EQ(WEXITSTATUS(std::system((program + " >/dev/full").c_str())), 1);
  // A pipe whose reader is gone before the program starts to write.
  const auto closed = "(sleep 0.2; " + program + "; echo $? >'" + out() + "') | true";
  ASSERT_EQ(std::system(closed.c_str()), 0);
  EXPECT_EQ(read_text_file(out()), "1\n");
}

TEST(Program, UsageErrorsAreOneSentence) {
  expect_refused(run_program({}), 2, "A subcommand is required");
  expect_refused(run_program({"translate"}), 2, "no sub-command is called 'translate'");
  expect_refused(run_program({"inspect", "--colour", "x"}), 2, "--colour");
}

TEST(Program, HelpAndVersionAreResults) {
  const auto version = run_program({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_THAT(version.out, ::testing::MatchesRegex("qwen3fp4 [0-9.]+\n"));
  const auto help = run_program({"convert", "--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_THAT(help.out, HasSubstr("Usage: qwen3fp4 convert"));
  EXPECT_THAT(run_program({"--help"}).out, HasSubstr("perplexity"));
}

}  // namespace
}  // namespace qf::test
