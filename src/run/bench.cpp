#include "qwen3fp4/run/bench.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <random>
#include <utility>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/model/fused_decoder.h"
#include "qwen3fp4/run/non_finite.h"
#include "qwen3fp4/run/sampler.h"
#include "qwen3fp4/run/stopwatch.h"

namespace qf {
namespace {

// Of a prompt that is run at once to fill the cache: bounds the activations' memory.
constexpr std::int64_t kFillTokens = 512;
// What is run before the clock starts, in decoded tokens.
constexpr std::int64_t kWarmUpTokens = 4;
// A decoded token takes about as long as this many of a prompt, for the estimate of the time left.
constexpr std::int64_t kDecodeWork = 4;

struct Test {
  bool decodes;
  std::int64_t tokens;
};

std::string name_of(const Test& test, std::int64_t depth) {
  const auto name = fmt::format("{}{}", test.decodes ? "tg" : "pp", test.tokens);
  return depth == 0 ? name : fmt::format("{}@d{}", name, depth);
}

std::int64_t work_of(const Test& test) { return test.tokens * (test.decodes ? kDecodeWork : 1); }

// What runs before the clock starts.
Test warm_up_of(Test test) {
  if (test.decodes) test.tokens = std::min(test.tokens, kWarmUpTokens);
  return test;
}

std::vector<Test> tests_of(const BenchOptions& options) {
  std::vector<Test> tests;
  for (const std::int64_t tokens : options.prompt_tokens) {
    if (tokens > 0) tests.push_back({false, tokens});
  }
  for (const std::int64_t tokens : options.decode_tokens) {
    if (tokens > 0) tests.push_back({true, tokens});
  }
  return tests;
}

void check_options(const BenchOptions& options) {
  const auto at_least = [](const char* flag, std::int64_t value, std::int64_t lowest) {
    if (value < lowest) {
      fail(ExitCode::kUsage, "{}: expected at least {}, got {}", flag, lowest, value);
    }
  };
  for (const std::int64_t tokens : options.prompt_tokens) at_least("--pp", tokens, 0);
  for (const std::int64_t tokens : options.decode_tokens) at_least("--tg", tokens, 0);
  for (const std::int64_t depth : options.depths) at_least("--depth", depth, 0);
  at_least("--reps", options.repetitions, 1);
  if (tests_of(options).empty() || options.depths.empty()) {
    fail(ExitCode::kUsage, "nothing to measure: expected a number above 0 (--pp, --tg)");
  }
}

// The tokens that the longest test has in the cache.
std::int64_t context_of(const BenchOptions& options, const ModelConfig& config) {
  const std::int64_t most = config.max_position_embeddings;
  const std::int64_t depth = std::ranges::max(options.depths);
  std::int64_t tokens = 0;
  for (const Test& test : tests_of(options)) tokens = std::max(tokens, test.tokens);
  if (depth > most || tokens > most - depth) {
    fail(ExitCode::kUsage,
         "{} tokens behind {} (--pp, --tg, --depth): expected at most the model's {} positions",
         tokens, depth, most);
  }
  return depth + tokens;
}

std::int64_t projection_weights(const Qwen3Model& model) {
  std::int64_t count = 0;
  for (const DecoderLayer& layer : model.layers()) {
    for (const std::string_view module : kLayerLinears) {
      const WeightMatrix& weight = weight_of(layer, module);
      count += weight.out_features() * weight.in_features();
    }
  }
  return count;
}

class Bench {
 public:
  Bench(const Qwen3Model& model, const BenchOptions& options, const BenchProgress& progress)
      : model_(model),
        options_(options),
        progress_(progress),
        cache_(model.config(), context_of(options, model.config()), model.backend().cache_options(),
               options.kv_cache),
        allowed_(static_cast<std::size_t>(model.config().vocab_size), true),
        sampler_({}, allowed_),
        fused_(FusedDecoder::make(model, cache_, allowed_, why_not_fused_)),
        projections_(projection_weights(model)) {
    std::mt19937_64 random(options.seed);
    const auto vocab = static_cast<std::uint64_t>(model.config().vocab_size);
    for (std::int64_t i = 0; i < cache_.context(); ++i) {
      ids_.push_back(static_cast<std::int64_t>(random() % vocab));
    }
    std::int64_t filled = 0;
    for (const std::int64_t depth : options.depths) {
      all_work_ += std::max<std::int64_t>(0, depth - filled);
      filled = depth;
      for (const Test& test : tests_of(options)) {
        all_work_ += work_of(warm_up_of(test)) + options.repetitions * work_of(test);
      }
    }
  }

  BenchReport run() {
    BenchReport report;
    report.kv_cache = kv_type_name(cache_.keys().scalar_type());
    report.decode = fused_ ? std::string(fused_->description())
                           : fmt::format("operation by operation ({})", why_not_fused_);
    for (const std::int64_t depth : options_.depths) {
      fill(depth);
      for (const Test& test : tests_of(options_)) report.rows.push_back(measure(test, depth));
    }
    // The measurement of the bandwidth needs memory of its own.
    report.device.memory_peak = model_.backend().memory_peak();
    report.device.read_bandwidth = model_.backend().measure_read_bandwidth();
    return report;
  }

 private:
  void fill(std::int64_t depth) {
    now_ = fmt::format("filling the cache to {}", depth);
    cache_.truncate(std::min(filled_, depth));
    while (cache_.length() < depth) {
      const std::int64_t count = std::min(kFillTokens, depth - cache_.length());
      (void)model_.forward(ids_from(cache_.length(), count), cache_);
      advance(count);
    }
    filled_ = depth;
  }

  BenchRow measure(const Test& test, std::int64_t depth) {
    now_ = name_of(test, depth);
    (void)seconds_of(warm_up_of(test), depth);
    BenchRow row{.test = now_,
                 .tokens = test.tokens,
                 .depth = depth,
                 .seconds = {},
                 .bytes = bytes_of(test, depth),
                 .flops = flops_of(test)};
    for (std::int64_t i = 0; i < options_.repetitions; ++i) {
      row.seconds.push_back(seconds_of(test, depth));
    }
    return row;
  }

  double seconds_of(const Test& test, std::int64_t depth) {
    cache_.truncate(depth);
    return test.decodes ? decode_seconds(test.tokens) : prefill_seconds(test.tokens);
  }

  double prefill_seconds(std::int64_t tokens) {
    Stopwatch watch;
    (void)logits_of(ids_from(cache_.length(), tokens));
    const double seconds = watch.lap();
    advance(tokens);
    return seconds;
  }

  // The clock runs from the first token to the last: a device that runs ahead would else go on
  // while it stands.
  double decode_seconds(std::int64_t tokens) {
    std::int64_t id = ids_[static_cast<std::size_t>(cache_.length())];
    Stopwatch watch;
    for (std::int64_t i = 0; i < tokens; ++i) {
      check_interrupted();
      id = fused_ ? fused_choice(id, i + 1 < tokens) : choice(id);
    }
    const double seconds = watch.lap();
    advance(tokens * kDecodeWork);
    return seconds;
  }

  std::int64_t fused_choice(std::int64_t id, bool ahead) {
    const FusedDecoder::Result result = fused_->step(id, ahead);
    if (!result.finite) refuse_non_finite();
    return result.token;
  }

  std::int64_t choice(std::int64_t id) {
    const at::Tensor logits_1V = logits_of({&id, 1});
    const std::span<const float> values{logits_1V.const_data_ptr<float>(),
                                        static_cast<std::size_t>(logits_1V.numel())};
    if (!all_finite(values)) refuse_non_finite();
    return sampler_.sample(values, {});
  }

  [[noreturn]] void refuse_non_finite() const {
    fail(ExitCode::kNonFinite, "{}: non-finite logits at position {} (qwen3fp4 inspect)", now_,
         cache_.length() - 1);
  }

  // Of the last of `ids`, in main memory, so that a device has finished.
  at::Tensor logits_of(std::span<const std::int64_t> ids) {
    const auto hidden_TD = model_.forward(ids, cache_);
    return model_.logits(hidden_TD.narrow(0, hidden_TD.size(0) - 1, 1))
        .to(at::kCPU, at::kFloat)
        .contiguous();
  }

  [[nodiscard]] std::span<const std::int64_t> ids_from(std::int64_t first,
                                                       std::int64_t count) const {
    return std::span<const std::int64_t>(ids_).subspan(static_cast<std::size_t>(first),
                                                       static_cast<std::size_t>(count));
  }

  [[nodiscard]] std::int64_t bytes_of(const Test& test, std::int64_t depth) const {
    const std::int64_t cached = cache_.token_bytes();
    const std::int64_t n = test.tokens;
    if (test.decodes) return n * model_.decode_bytes() + cached * (n * depth + n * (n - 1) / 2);
    // A tied head reads every row as it is.
    const bool tied = &model_.lm_head() == &model_.embed_tokens();
    const std::int64_t row = model_.embed_tokens().bytes() / model_.config().vocab_size;
    return model_.decode_bytes() + (tied ? 0 : (n - 1) * row) + cached * depth;
  }

  [[nodiscard]] std::int64_t flops_of(const Test& test) const {
    const WeightMatrix& head = model_.lm_head();
    const std::int64_t passes = test.decodes ? test.tokens : 1;
    return 2 * (test.tokens * projections_ + passes * head.out_features() * head.in_features());
  }

  void advance(std::int64_t work) {
    check_interrupted();
    done_work_ += work;
    if (progress_) progress_(done_work_, all_work_, now_);
  }

  const Qwen3Model& model_;
  const BenchOptions& options_;
  const BenchProgress& progress_;
  KvCache cache_;
  std::vector<bool> allowed_;  // every id
  Sampler sampler_;
  std::string why_not_fused_;
  std::unique_ptr<FusedDecoder> fused_;  // nullptr where there is none
  std::int64_t projections_;             // weights
  std::vector<std::int64_t> ids_;
  std::string now_;
  std::int64_t filled_ = 0;  // tokens of `ids_` that the cache begins with
  std::int64_t done_work_ = 0;
  std::int64_t all_work_ = 0;
};

}  // namespace

Rate rate_of(std::int64_t amount, std::span<const double> seconds) {
  const auto count = static_cast<double>(seconds.size());
  Rate rate;
  for (const double s : seconds) rate.mean += static_cast<double>(amount) / s / count;
  double squares = 0;
  for (const double s : seconds) {
    squares += std::pow(static_cast<double>(amount) / s - rate.mean, 2);
  }
  if (seconds.size() > 1) rate.stddev = std::sqrt(squares / (count - 1));
  return rate;
}

BenchReport bench_model(const Qwen3Model& model, const BenchOptions& options,
                        const BenchProgress& progress) {
  check_options(options);
  return Bench(model, options, progress).run();
}

}  // namespace qf
