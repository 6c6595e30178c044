// The command line of `bench`, by running the program.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "program.h"

namespace qf::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Words = std::vector<std::string>;

class BenchCommand : public ::testing::Test {
 protected:
  BenchCommand() { TinyModel{.max_position_embeddings = 64}.write(model_); }
  [[nodiscard]] Finished bench(const Words& more) const {
    Words words{"bench", "--model", model_.string()};
    words.insert(words.end(), more.begin(), more.end());
    return run_program(words);
  }

 private:
  TemporaryFolder folder_;

 protected:
  std::filesystem::path model_ = folder_.path() / "model";
};

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, at);) parts.push_back(part);
  return parts;
}

std::set<std::string> keys(const nlohmann::json& object) {
  std::set<std::string> names;
  for (const auto& [name, value] : object.items()) names.insert(name);
  return names;
}

TEST_F(BenchCommand, JsonHasExactlyTheNamedKeysAndTheConfigurationsBytes) {
  const auto done = bench({"--pp", "8,4", "--tg", "4", "--depth", "0,16", "--reps", "3",
                           "--threads", "1", "--backend", "cpu", "--json"});
  ASSERT_EQ(done.exit_code, 0) << done.err;
  const auto json = nlohmann::json::parse(done.out);
  EXPECT_EQ(keys(json), (std::set<std::string>{
                            "model", "format", "backend", "description", "threads", "parameters",
                            "weight_bytes", "decode", "decode_bytes", "linear", "kv_cache",
                            "read_bandwidth_gb_per_second", "memory_peak_bytes", "rows"}));
  EXPECT_EQ(json["model"], model_.string());
  EXPECT_EQ(json["format"], "f32");
  EXPECT_EQ(json["backend"], "cpu");
  EXPECT_EQ(json["threads"], 1);
  EXPECT_THAT(json["decode"].get<std::string>(), StartsWith("operation by operation ("));
  // Two layers of 128 features, 96 in the MLP, 4 heads and 2 key/value heads of 16; 272 tokens.
  constexpr std::int64_t kLayer = 128 * (64 + 32 + 32 + 64) + 3 * 96 * 128 + 2 * 128 + 2 * 16;
  constexpr std::int64_t kParameters = 2 * kLayer + 128 + 2 * 272 * 128;
  constexpr std::int64_t kDecodeBytes = 4 * (kParameters - 271 * 128);
  EXPECT_EQ(json["parameters"], kParameters);
  EXPECT_EQ(json["weight_bytes"], 4 * kParameters);
  EXPECT_EQ(json["decode_bytes"], kDecodeBytes);
  EXPECT_GT(json["memory_peak_bytes"], 4 * kParameters);
  const double bandwidth = json["read_bandwidth_gb_per_second"];
  EXPECT_GT(bandwidth, 0);

  Words tests;
  for (const auto& row : json["rows"]) {
    tests.push_back(row["test"]);
    EXPECT_EQ(keys(row),
              (std::set<std::string>{"test", "tokens", "depth", "repetitions", "tokens_per_second",
                                     "tokens_per_second_stddev", "mean_seconds", "seconds",
                                     "bytes_per_token", "gb_per_second", "percent_of_bandwidth",
                                     "gflop_per_second"}));
    EXPECT_EQ(row["repetitions"], 3);
    ASSERT_EQ(row["seconds"].size(), 3U);
    const double rate = row["tokens_per_second"];
    const double gb = row["gb_per_second"];
    EXPECT_NEAR(gb, rate * row["bytes_per_token"].get<double>() / 1e9, 1e-9 * gb);
    EXPECT_NEAR(row["percent_of_bandwidth"].get<double>(), 100 * gb / bandwidth, 1e-6 * gb);
    EXPECT_GT(row["percent_of_bandwidth"].get<double>(), 0);
    EXPECT_GT(row["tokens_per_second_stddev"].get<double>(), 0);
    EXPECT_GT(row["gflop_per_second"].get<double>(), 0);
    double seconds = 0;
    for (const double one : row["seconds"]) seconds += one / 3;
    EXPECT_NEAR(row["mean_seconds"].get<double>(), seconds, 1e-9 * seconds);
  }
  EXPECT_EQ(tests, (Words{"pp8", "pp4", "tg4", "pp8@d16", "pp4@d16", "tg4@d16"}));
  constexpr double kCached = 2 * 2 * 2 * 16 * 4;  // of one token
  EXPECT_EQ(json["rows"][2]["bytes_per_token"], kDecodeBytes + 1.5 * kCached);
  EXPECT_EQ(json["rows"][5]["bytes_per_token"], kDecodeBytes + 17.5 * kCached);
  EXPECT_EQ(json["rows"][3]["bytes_per_token"], (kDecodeBytes + 7 * 4 * 128 + 16 * kCached) / 8);
}

TEST_F(BenchCommand, CountsTheCacheAsItIsKept) {
  const auto json_of = [&](const Words& more) {
    Words words{"--pp",   "0", "--tg",      "4",   "--depth", "16",
                "--reps", "1", "--backend", "cpu", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    const auto done = bench(words);
    EXPECT_EQ(done.exit_code, 0) << done.err;
    return nlohmann::json::parse(done.out);
  };
  const auto f32 = json_of({});
  const auto fp8 = json_of({"--kv-cache", "fp8"});
  EXPECT_EQ(f32["linear"], "w4a16");
  EXPECT_EQ(json_of({"--linear", "reference"})["linear"], "reference");
  EXPECT_EQ(f32["kv_cache"], "fp32");
  EXPECT_EQ(fp8["kv_cache"], "fp8");
  // Of 17.5 tokens before each: rows of 16 features, 4 bytes each or 1 and a scale.
  constexpr double kSaved = 17.5 * 2 * 2 * 2 * (16 * 4 - (16 + 4));
  EXPECT_EQ(fp8["rows"][0]["bytes_per_token"],
            f32["rows"][0]["bytes_per_token"].get<double>() - kSaved);
}

TEST_F(BenchCommand, TableAndCsvHaveALineForEachTest) {
  const Words sizes{"--pp", "4", "--tg", "2", "--reps", "2", "--backend", "reference"};
  const auto table = bench(sizes);
  ASSERT_EQ(table.exit_code, 0) << table.err;
  const auto lines = split(table.out, '\n');
  ASSERT_EQ(lines.size(), 6U) << table.out;
  EXPECT_THAT(lines[0], StartsWith("| model "));
  EXPECT_THAT(lines[1], StartsWith("|---"));
  EXPECT_THAT(lines[2], HasSubstr("| f32    | reference |"));
  EXPECT_THAT(lines[2], HasSubstr("| pp4  | "));
  EXPECT_THAT(lines[3], HasSubstr(" ± "));
  EXPECT_THAT(lines[5], HasSubstr("read bandwidth "));
  EXPECT_THAT(table.err, HasSubstr("bench 100 % done"));

  Words as_csv = sizes;
  as_csv.push_back("--csv");
  const auto csv = split(bench(as_csv).out, '\n');
  ASSERT_EQ(csv.size(), 3U);
  const auto names = split(csv[0], ',');
  EXPECT_THAT(names, ::testing::IsSupersetOf({"model", "threads", "read_bandwidth_gb_per_second",
                                              "memory_peak_bytes", "test", "tokens_per_second"}));
  EXPECT_THAT(names, Not(::testing::Contains("seconds")));
  const auto values = split(csv[2].substr(csv[2].find(",tg2,") + 1), ',');
  EXPECT_EQ(values[0], "tg2");
  EXPECT_EQ(values[1], "2");
}

TEST_F(BenchCommand, CsvQuotesWhatHasCommas) {
  const auto folder = model_.parent_path() / "a,\"b\"";
  std::filesystem::rename(model_, folder);
  const auto done = run_program(
      {"bench", "--model", folder.string(), "--pp", "1", "--tg", "0", "--reps", "1", "--csv"});
  EXPECT_THAT(done.out, HasSubstr("\n\"" + model_.parent_path().string() + "/a,\"\"b\"\"\",f32,"));
}

TEST_F(BenchCommand, SyntheticModelsNeedNoFolder) {
  const auto done =
      run_program({"bench", "--synthetic", "qwen3-0.6b", "--format", "nf4", "--backend", "cpu",
                   "--pp", "0", "--tg", "1", "--reps", "1", "--json"});
  ASSERT_EQ(done.exit_code, 0) << done.err;
  const auto json = nlohmann::json::parse(done.out);
  EXPECT_EQ(json["model"], "qwen3-0.6b");
  EXPECT_EQ(json["format"], "nf4");
  EXPECT_EQ(json["parameters"], 596049920);
  ASSERT_EQ(json["rows"].size(), 1U);
  // 4.5 bits a weight of projections and head, 28 layers of 7 code books and one of the head.
  constexpr std::int64_t kEmbedding = std::int64_t{151936} * 1024;
  constexpr std::int64_t kNorms = 28 * (2 * 1024 + 2 * 128) + 1024;
  constexpr std::int64_t kPacked = (596049920 - kNorms) / 16 * 9 + (28 * 7 + 1) * 64;
  EXPECT_EQ(json["decode_bytes"], kPacked + kNorms * 4 + 1024 * 2);
  EXPECT_EQ(json["weight_bytes"], kPacked + kNorms * 4 + kEmbedding * 2);
  EXPECT_EQ(json["rows"][0]["bytes_per_token"], json["decode_bytes"]);
}

TEST(BenchKernelsCommand, PrintsEachKernel) {
  const Words words{"bench", "--kernels", "--backend", "cpu", "--shape", "256x128", "--reps", "1"};
  const auto table = run_program(words);
  ASSERT_EQ(table.exit_code, 0) << table.err;
  for (const auto* const kernel : {"linear nvfp4", "linear nf4", "dequantize nvfp4", "quantize nf4",
                                   "rms_norm", "rope", "swiglu"}) {
    EXPECT_THAT(table.out, HasSubstr(std::string("| ") + kernel + " ")) << kernel;
  }
  EXPECT_THAT(table.out, HasSubstr("linear [256, 128], "));
  Words as_json = words;
  as_json.push_back("--json");
  const auto json = nlohmann::json::parse(run_program(as_json).out);
  EXPECT_EQ(json["out_features"], 256);
  EXPECT_EQ(json["in_features"], 128);
  EXPECT_EQ(json["backend"], "cpu");
  EXPECT_THAT(json["description"].get<std::string>(), StartsWith("cpu: "));
  EXPECT_EQ(std::ranges::count(table.out, '\n'), std::ssize(json["rows"]) + 4);
  for (const auto& row : json["rows"]) {
    EXPECT_EQ(keys(row),
              (std::set<std::string>{"kernel", "shape", "isa", "tokens", "repetitions",
                                     "median_seconds", "mean_seconds", "seconds", "bytes",
                                     "gb_per_second", "percent_of_bandwidth", "tflop_per_second"}));
    EXPECT_GT(row["percent_of_bandwidth"].get<double>(), 0) << row;
    const bool linear = row["kernel"].get<std::string>().starts_with("linear ");
    EXPECT_EQ(row["tflop_per_second"].get<double>() > 0, linear) << row;
  }
}

TEST_F(BenchCommand, WrongUsageIsOneSentence) {
  for (const auto& [wrong, sentence] : std::vector<std::pair<Words, std::string>>{
           {{"--pp", "x"}, "--pp: expected"},
           {{"--pp", "4,-1"}, "--pp: expected"},
           {{"--tg", "4;8"}, "--tg: expected"},
           {{"--depth", "-1"}, "--depth: expected"},
           {{"--reps", "0"}, "--reps: expected"},
           {{"--pp", "0", "--tg", "0"}, "nothing to measure"},
           {{"--pp", "8", "--depth", "60"}, "model's 64 positions"},
           {{"--json", "--csv"}, "--csv"},
           {{"--format", "nf4"}, "--synthetic"},
           {{"--synthetic", "qwen3-4b"}, "--model"},
           {{"--kernels"}, "--model"},
           {{"--linear", "w4a4"}, "--linear w4a4: expected NVFP4 weights"},
           {{"--linear", "w8a8"}, "--linear: "},
           {{"--shape", "256x128"}, "--kernels"},
           {{"--backend", "gpu"}, "unknown backend 'gpu'"}}) {
    const auto done = bench(wrong);
    EXPECT_EQ(done.exit_code, 2) << wrong[0] << " " << done.err;
    EXPECT_THAT(done.err, HasSubstr(sentence));
    EXPECT_EQ(std::ranges::count(done.err, '\n'), 1) << done.err;
    EXPECT_EQ(done.out, "");
  }
  const auto unknown = run_program({"bench", "--synthetic", "qwen3-5b"});
  EXPECT_EQ(unknown.exit_code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("qwen3-0.6b, qwen3-1.7b, qwen3-4b, qwen3-8b, qwen3-14b, "
                                     "qwen3-32b"));
  const auto reference = run_program({"bench", "--kernels", "--backend", "reference"});
  EXPECT_EQ(reference.exit_code, 2);
  EXPECT_THAT(reference.err, HasSubstr("expected --backend cpu or cuda, found reference"));
  EXPECT_THAT(run_program({"bench", "--kernels", "--backend", "cuda", "--shape", "256x128"}).err,
              HasSubstr("--shape: expected without --backend cuda"));
  for (const auto* const shape : {"256", "256x", "x128", "256x100", "0x128", "-1x128", "2x128x3"}) {
    EXPECT_EQ(run_program({"bench", "--kernels", "--backend", "cpu", "--shape", shape}).exit_code,
              2)
        << shape;
  }
  EXPECT_THAT(run_program({"bench", "--kernels", "--backend", "cpu", "--shape", "axb"}).err,
              HasSubstr("expected OUTxIN, two numbers above 0, found 'axb'"));
  EXPECT_EQ(run_program({"bench", "--synthetic", "qwen3-4b", "--format", "f32"}).exit_code, 2);
  const auto train = [](const char* batch, const char* option, const char* value) {
    return run_program({"bench", "--synthetic", "qwen3-4b", "--train", batch, option, value});
  };
  EXPECT_THAT(train("abc", "--reps", "1").err,
              HasSubstr("SEQUENCESxTOKENS of at least 1 and 2, found 'abc'"));
  EXPECT_THAT(train("1x8", "--linear", "w4a16").err,
              HasSubstr("--linear: expected without --train"));
  const auto nf4 = run_program({"bench", "--synthetic", "qwen3-32b", "--format", "nf4", "--backend",
                                "cpu", "--linear", "w4a4"});
  EXPECT_EQ(nf4.exit_code, 2);
  EXPECT_THAT(nf4.err, HasSubstr("expected NVFP4 weights, found --format nf4"));
  EXPECT_THAT(train("1x8", "--pp", "8").err, HasSubstr("--pp: expected without --train"));
  EXPECT_EQ(run_program({"bench", "--synthetic", "qwen3-4b", "--profile", "min"}).exit_code, 2);
}

}  // namespace
}  // namespace qf::test
