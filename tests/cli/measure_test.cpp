// The command lines of `perplexity`, `dump` and `tokenize`, by running the program on tiny models.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "program.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/formats/safetensors.h"
#include "qwen3fp4/model/kv_cache.h"

namespace qf::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using Words = std::vector<std::string>;

class MeasureCommands : public ::testing::Test {
 protected:
  [[nodiscard]] std::string path(const std::string& name) const {
    return (folder_.path() / name).string();
  }
  std::string make(const std::string& name, const TinyModel& tiny) const {
    tiny.write(path(name));
    return path(name);
  }

 private:
  TemporaryFolder folder_;
};

TEST_F(MeasureCommands, PerplexityJsonHasExactlyTheNamedKeys) {
  const auto model = make("model", {});
  const Words words{"perplexity", "--model", model, "--file", "-", "--context", "8", "--json"};
  const auto done = run_program(words, "The tide tables of a harbour.");
  ASSERT_EQ(done.exit_code, 0) << done.err;
  auto row = nlohmann::json::parse(done.out);
  EXPECT_GT(row["perplexity"].get<double>(), 1);
  EXPECT_EQ(row["tokens"], 25);  // 29 tokens: 7 + 7 + 7 + 4
  EXPECT_EQ(row.size(), 2U);

  Words compared = words;
  compared.insert(compared.end(), {"--kl-against", make("teacher", TinyModel{.seed = 2})});
  row = nlohmann::json::parse(run_program(compared, "The tide tables of a harbour.").out);
  EXPECT_EQ(row.size(), 4U);
  ASSERT_EQ(row["kl"].size(), 4U);
  EXPECT_GT(row["kl"]["mean"].get<double>(), 0);
  EXPECT_LE(row["kl"]["median"].get<double>(), row["kl"]["p99"].get<double>());
  EXPECT_LE(row["kl"]["p99"].get<double>(), row["kl"]["max"].get<double>());
  EXPECT_LT(row["top1"].get<double>(), 1);
}

TEST_F(MeasureCommands, PerplexityComparesBackendsOfOneModel) {
  const auto model = make("model", {});
  const Words words{"perplexity",   "--model",   model,          "--file",   "-",
                    "--json",       "--backend", "cpu",          "--dtype",  "bf16",
                    "--kl-against", model,       "--kl-backend", "reference"};
  const auto done = run_program(words, "The tide tables of a harbour.");
  ASSERT_EQ(done.exit_code, 0) << done.err;
  const auto row = nlohmann::json::parse(done.out);
  // Rounding to bf16 shows, and is all that does.
  EXPECT_GT(row["kl"]["max"].get<double>(), 0);
  EXPECT_LT(row["kl"]["mean"].get<double>(), 1e-2);
  EXPECT_EQ(run_program({"perplexity", "--model", model, "--file", "-", "--kl-backend", "cpu"}, "x")
                .exit_code,
            2);
}

// --linear is the model's: the teacher is computed as ever.
TEST_F(MeasureCommands, PerplexityShowsWhatLinearModesCost) {
  const auto model = path("nvfp4");
  ASSERT_EQ(run_program({"convert", QF_TEST_DIR "/golden/run/qwen3_f16.gguf", model}).exit_code, 0);
  const auto kl = [&](const Words& more) {
    Words words{"perplexity",   "--model", model,          "--file",    "-",         "--json",
                "--kl-against", model,     "--kl-backend", "reference", "--threads", "1",
                "--context",    "64"};
    words.insert(words.end(), more.begin(), more.end());
    const auto done = run_program(words, "The tide tables of a harbour.");
    EXPECT_EQ(done.exit_code, 0) << done.err;
    return nlohmann::json::parse(done.out)["kl"]["max"].get<double>();
  };
  EXPECT_EQ(kl({"--backend", "reference"}), 0);
  EXPECT_LT(kl({"--backend", "cpu", "--linear", "reference"}), 1e-9);
  EXPECT_GT(kl({"--backend", "cpu", "--linear", "w4a4"}), 1e-4);
  EXPECT_GT(kl({"--backend", "reference", "--linear", "w4a4"}), 1e-4);
}

TEST_F(MeasureCommands, PerplexityPrintsLinesForPeople) {
  const auto model = make("model", {});
  write_text_file(path("text"), "The tide tables");
  const auto done =
      run_program({"perplexity", "--model", model, "--file", path("text"), "--kl-against", model});
  EXPECT_EQ(done.exit_code, 0) << done.err;
  EXPECT_THAT(done.out, StartsWith("perplexity "));
  EXPECT_THAT(done.out, HasSubstr("KL mean 0.00000"));
  EXPECT_THAT(done.out, HasSubstr("100.00 %"));
}

TEST_F(MeasureCommands, PerplexityRefusals) {
  const auto model = make("model", {});
  EXPECT_EQ(run_program({"perplexity", "--model", model}).exit_code, 2);
  EXPECT_EQ(run_program({"perplexity", "--model", model, "--file", "-"}, "").exit_code, 2);
  EXPECT_EQ(run_program({"perplexity", "--model", model, "--file", path("none")}).exit_code, 4);
}

TEST_F(MeasureCommands, DumpWritesIdsAndLogits) {
  const TinyModel tiny;
  const auto out = path("out.safetensors");
  const auto done = run_program({"dump", "--model", make("model", tiny), "--ids", "5,6,7", "--out",
                                 out, "--backend", "reference"});
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(done.out, "");
  const SafetensorsFile file((std::filesystem::path(out)));
  ASSERT_EQ(file.entries().size(), 2U);
  const auto& ids = file.entries()[0];
  EXPECT_EQ(ids.name, "ids");
  EXPECT_EQ(ids.type, DType::kI64);
  std::vector<std::int64_t> values(3);
  file.read(ids, std::as_writable_bytes(std::span(values)));
  EXPECT_EQ(values, (std::vector<std::int64_t>{5, 6, 7}));

  const auto& logits = file.entries()[1];
  EXPECT_EQ(logits.name, "logits");
  EXPECT_EQ(logits.type, DType::kF32);
  EXPECT_EQ(logits.shape, (std::vector<std::int64_t>{3, kTinyVocab}));
  const LoadedTiny loaded(tiny);
  KvCache cache(loaded.model().config(), 3);
  const auto expected = loaded.model().logits(loaded.model().forward(values, cache));
  auto found = at::empty({3, kTinyVocab}, at::kFloat);
  file.read(logits, std::as_writable_bytes(std::span(found.mutable_data_ptr<float>(),
                                                     static_cast<std::size_t>(found.numel()))));
  EXPECT_TRUE(at::equal(found, expected));
}

TEST_F(MeasureCommands, DumpWritesTheOutputsOfModules) {
  const TinyModel tiny;
  const auto model = make("model", tiny);
  const auto out = path("out.safetensors");
  const auto dump = [&](const std::string& taps) {
    return run_program({"dump", "--model", model, "--ids", "5,6,7", "--out", out, "--backend",
                        "reference", "--taps", taps});
  };
  EXPECT_EQ(dump("nowhere").exit_code, 2);
  EXPECT_EQ(dump("(").exit_code, 2);
  EXPECT_FALSE(std::filesystem::exists(out));
  ASSERT_EQ(dump("mlp$|^model.norm$").exit_code, 0);

  const LoadedTiny loaded(tiny);
  std::map<std::string, at::Tensor> expected;
  KvCache cache(loaded.model().config(), 3);
  const std::vector<std::int64_t> ids{5, 6, 7};
  (void)loaded.model().forward(ids, cache, [&](std::string_view module, const at::Tensor& output) {
    if (module.ends_with("mlp") || module == "model.norm") {
      expected.emplace(module, output.clone());
    }
    return output;
  });
  EXPECT_EQ(expected.size(), 3U) << "two layers and the norm";
  const SafetensorsFile file((std::filesystem::path(out)));
  ASSERT_EQ(file.entries().size(), expected.size() + 2) << "with ids and logits";
  for (const auto& [name, values] : expected) {
    const auto entry = std::ranges::find(file.entries(), name, &TensorInfo::name);
    ASSERT_NE(entry, file.entries().end()) << name;
    auto found = at::empty(values.sizes(), at::kFloat);
    file.read(*entry, std::as_writable_bytes(std::span(found.mutable_data_ptr<float>(),
                                                       static_cast<std::size_t>(found.numel()))));
    EXPECT_TRUE(at::equal(found, values)) << name;
  }
}

TEST_F(MeasureCommands, DumpTokenizesThePromptLikeGenerate) {
  const auto model = make("model", {});
  const auto out = path("out.safetensors");
  ASSERT_EQ(
      run_program({"dump", "--model", model, "--raw", "--prompt", "ab<|im_end|>", "--out", out})
          .exit_code,
      0);
  const SafetensorsFile file((std::filesystem::path(out)));
  EXPECT_EQ(file.entries()[0].shape, (std::vector<std::int64_t>{3}));
  EXPECT_EQ(run_program({"dump", "--model", model, "--ids", "5"}).exit_code, 2);
  EXPECT_EQ(run_program({"dump", "--model", model, "--ids", "999", "--out", out}).exit_code, 2);
}

TEST_F(MeasureCommands, TokenizeGoesBothWays) {
  const auto model = make("model", {});
  const auto tokenize = [&](Words words, const std::string& input = "") {
    words.insert(words.begin(), {"tokenize", "--model", model});
    return run_program(words, input);
  };
  EXPECT_EQ(tokenize({"ab<|im_end|>"}).out, "97,98,258\n");
  EXPECT_EQ(tokenize({"--file", "-"}, "a\n").out, "97,10\n");
  EXPECT_EQ(tokenize({"--decode", "97, 98 258"}).out, "ab<|im_end|>\n");
  EXPECT_EQ(tokenize({"--decode", "226"}).out, "\xEF\xBF\xBD\n");
  EXPECT_EQ(tokenize({"--jsonl", "-"}, "\"ab\"\n\"\"\n\"\\u00e9\\n\"\n").out,
            "[97,98]\n[]\n[195,169,10]\n");
  EXPECT_EQ(tokenize({"--jsonl", "-", "--decode"}, "[97,98]\n[]\n[195,169,10]\n").out,
            "\"ab\"\n\"\"\n\"\xC3\xA9\\n\"\n");
  const auto bad = tokenize({"--jsonl", "-"}, "\"ab\"\n{\n");
  EXPECT_EQ(bad.exit_code, 4);
  EXPECT_THAT(bad.err, HasSubstr("line 2"));
  EXPECT_EQ(tokenize({"--jsonl", "-"}, "[1]\n").exit_code, 4);
  EXPECT_EQ(tokenize({"--decode", "97,x"}).exit_code, 2);
  EXPECT_EQ(tokenize({"--decode", "--file", "-"}, "97,x").exit_code, 4);
  EXPECT_EQ(tokenize({"--decode", "999"}).exit_code, 4);
  EXPECT_EQ(tokenize({}).exit_code, 2);
  EXPECT_EQ(tokenize({"text", "--file", "-"}).exit_code, 2);
}

}  // namespace
}  // namespace qf::test
