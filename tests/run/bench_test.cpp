#include "qwen3fp4/run/bench.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <string>
#include <utility>
#include <vector>

#include "qwen3fp4/backend/reference.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/model/synthetic.h"

namespace qf {
namespace {

using ::testing::ElementsAre;

// What attention sees tells which passes ran; the device is made up.
class RecordingBackend final : public Backend {
 public:
  [[nodiscard]] std::string_view name() const override { return "recording"; }
  [[nodiscard]] std::string description() const override { return "recording: for tests"; }
  [[nodiscard]] at::Tensor linear(const at::Tensor& x_TI,
                                  const WeightMatrix& weight) const override {
    auto y_TO = reference_.linear(x_TI, weight);
    return weight.out_features() == 300 && nan_logits ? y_TO * NAN : y_TO;
  }
  [[nodiscard]] at::Tensor attention(const at::Tensor& q_THE, const at::Tensor& k_SKE,
                                     const at::Tensor& v_SKE) const override {
    passes.emplace_back(q_THE.size(0), k_SKE.size(0));
    return Backend::attention(q_THE, k_SKE, v_SKE);
  }
  [[nodiscard]] double measure_read_bandwidth() const override { return 1e9; }
  [[nodiscard]] std::int64_t memory_peak() const override { return 12345; }

  mutable std::vector<std::pair<std::int64_t, std::int64_t>> passes;  // (T, S)
  bool nan_logits = false;

 private:
  ReferenceBackend reference_;
};

constexpr std::int64_t kVocab = 300;
constexpr std::int64_t kHidden = 64;

ModelConfig one_layer(bool tied) {
  ModelConfig config = qwen3_config("qwen3-0.6b");
  config.vocab_size = kVocab;
  config.hidden_size = kHidden;
  config.intermediate_size = 96;
  config.num_hidden_layers = 1;
  config.num_attention_heads = 4;
  config.num_key_value_heads = 2;
  config.head_dim = 16;
  config.max_position_embeddings = 1024;
  config.tie_word_embeddings = tied;
  return config;
}

// q and o [64, 64], k and v [32, 64], gate, up and down of 96 x 64.
constexpr std::int64_t kProjections = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 96 * 64;
constexpr std::int64_t kNormBytes = 4 * (3 * 64 + 2 * 16);
constexpr std::int64_t kTokenCacheBytes = 2 * 2 * 16 * 4;

class BenchModel : public ::testing::Test {
 protected:
  BenchReport bench(const BenchOptions& options, WeightFormat format = WeightFormat::kBF16,
                    bool tied = false, const BenchProgress& progress = {}) {
    const ModelConfig config = one_layer(tied);
    SyntheticWeights weights(config, format, 0);
    const Qwen3Model model = Qwen3Model::load(config, weights, backend_);
    return bench_model(model, options, progress);
  }
  ExitCode refusal(const BenchOptions& options) {
    try {
      (void)bench(options);
    } catch (const Error& error) {
      return error.code();
    }
    return ExitCode::kDone;
  }
  RecordingBackend backend_;
};

TEST_F(BenchModel, RunsTheTestsItNamesOnACacheOfTheirDepth) {
  const auto report =
      bench({.prompt_tokens = {4}, .decode_tokens = {6}, .depths = {3, 0}, .repetitions = 2});
  using Passes = std::vector<std::pair<std::int64_t, std::int64_t>>;
  Passes expected{{3, 3}};
  for (const std::int64_t depth : {3, 0}) {
    for (int i = 0; i < 3; ++i) expected.emplace_back(4, depth + 4);
    for (const std::int64_t tokens : {4, 6, 6}) {  // the warm-up is short
      for (std::int64_t t = 1; t <= tokens; ++t) expected.emplace_back(1, depth + t);
    }
  }
  EXPECT_EQ(backend_.passes, expected);
  std::vector<std::string> names;
  for (const BenchRow& row : report.rows) {
    names.push_back(row.test);
    EXPECT_EQ(row.seconds.size(), 2U);
    for (const double seconds : row.seconds) EXPECT_GT(seconds, 0);
  }
  EXPECT_THAT(names, ElementsAre("pp4@d3", "tg6@d3", "pp4", "tg6"));
  EXPECT_EQ(report.rows[1].tokens, 6);
  EXPECT_EQ(report.rows[1].depth, 3);
  EXPECT_EQ(report.device.read_bandwidth, 1e9);
  EXPECT_EQ(report.device.memory_peak, 12345);
}

TEST_F(BenchModel, AListOfDepthsFillsOnlyWhatIsNew) {
  (void)bench({.prompt_tokens = {1}, .decode_tokens = {0}, .depths = {600, 700}, .repetitions = 1});
  EXPECT_THAT(
      backend_.passes,
      ElementsAre(std::pair(512, 512), std::pair(88, 600), std::pair(1, 601), std::pair(1, 601),
                  std::pair(100, 700), std::pair(1, 701), std::pair(1, 701)));
}

TEST_F(BenchModel, BytesAndOperationsFollowFromTheShapes) {
  const BenchOptions options{
      .prompt_tokens = {4}, .decode_tokens = {6}, .depths = {3}, .repetitions = 1};
  constexpr std::int64_t kRow = 2 * kHidden;  // bf16
  constexpr std::int64_t kTable = kRow * kVocab;
  // Before the six tokens: 3, 4, 5, 6, 7, 8 in the cache.
  constexpr std::int64_t kDecodeCache = 33 * kTokenCacheBytes;

  auto rows = bench(options).rows;
  constexpr std::int64_t kRest = 2 * kProjections + kNormBytes + kTable;
  EXPECT_EQ(rows[0].bytes, kRest + 4 * kRow + 3 * kTokenCacheBytes);
  EXPECT_EQ(rows[1].bytes, 6 * (kRest + kRow) + kDecodeCache);
  EXPECT_EQ(rows[0].flops, 2 * (4 * kProjections + kVocab * kHidden));
  EXPECT_EQ(rows[1].flops, 2 * 6 * (kProjections + kVocab * kHidden));

  rows = bench(options, WeightFormat::kBF16, true).rows;  // the head is the embedding
  EXPECT_EQ(rows[0].bytes, kRest + 3 * kTokenCacheBytes);
  EXPECT_EQ(rows[1].bytes, 6 * kRest + kDecodeCache);

  rows = bench(options, WeightFormat::kNvfp4, true).rows;  // a packed head beside it
  constexpr std::int64_t kPacked = (kProjections + kVocab * kHidden) * 9 / 16 + 8 * 4;
  EXPECT_EQ(rows[0].bytes, kPacked + kNormBytes + 4 * kRow + 3 * kTokenCacheBytes);
  EXPECT_EQ(rows[1].bytes, 6 * (kPacked + kNormBytes + kRow) + kDecodeCache);
}

TEST_F(BenchModel, ProgressRisesToTheEnd) {
  std::vector<std::int64_t> done;
  std::int64_t total = 0;
  (void)bench(
      {.prompt_tokens = {4, 0, 2}, .decode_tokens = {6}, .depths = {3, 5, 0}, .repetitions = 2},
      WeightFormat::kBF16, false, [&](std::int64_t now, std::int64_t all, auto) {
        done.push_back(now);
        total = all;
      });
  EXPECT_TRUE(std::ranges::is_sorted(done));
  EXPECT_EQ(done.back(), total);
  EXPECT_GT(done.front(), 0);
}

TEST_F(BenchModel, RefusesWhatItCannotMeasure) {
  EXPECT_EQ(refusal({.prompt_tokens = {0}, .decode_tokens = {0, 0}}), ExitCode::kUsage);
  EXPECT_EQ(refusal({.prompt_tokens = {-1}}), ExitCode::kUsage);
  EXPECT_EQ(refusal({.decode_tokens = {-1}}), ExitCode::kUsage);
  EXPECT_EQ(refusal({.depths = {-1}}), ExitCode::kUsage);
  EXPECT_EQ(refusal({.depths = {}}), ExitCode::kUsage);
  EXPECT_EQ(refusal({.repetitions = 0}), ExitCode::kUsage);
  EXPECT_EQ(refusal({.prompt_tokens = {25}, .decode_tokens = {}, .depths = {1000}}),
            ExitCode::kUsage);
  EXPECT_EQ(refusal({.prompt_tokens = {INT64_MAX}, .depths = {INT64_MAX}}), ExitCode::kUsage);
  EXPECT_EQ(refusal({.prompt_tokens = {24}, .decode_tokens = {}, .depths = {1000}}),
            ExitCode::kDone);
}

TEST_F(BenchModel, NonFiniteLogitsEndIt) {
  backend_.nan_logits = true;
  EXPECT_EQ(refusal({.prompt_tokens = {0}, .decode_tokens = {1}}), ExitCode::kNonFinite);
}

TEST_F(BenchModel, AnInterruptEndsIt) {
  const InterruptGuard guard;
  try {
    (void)bench({}, WeightFormat::kBF16, false, [](auto, auto, auto) { std::raise(SIGINT); });
    FAIL() << "went on";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kInterrupted);
  }
}

TEST(RateOf, IsTheMeanOfTheRatesAndTheirSampleDeviation) {
  const std::vector<double> seconds{1, 0.5, 0.25};  // 10, 20 and 40 per second
  const Rate rate = rate_of(10, seconds);
  EXPECT_DOUBLE_EQ(rate.mean, 70.0 / 3);
  EXPECT_NEAR(rate.stddev, 15.275252316519467, 1e-12);
  EXPECT_EQ(rate_of(10, std::vector<double>{2}).mean, 5);
  EXPECT_EQ(rate_of(10, std::vector<double>{2}).stddev, 0);
}

}  // namespace
}  // namespace qf
