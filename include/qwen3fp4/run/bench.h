#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/model/qwen3_model.h"

namespace qf {

struct BenchOptions {
  // Each list holds the sizes to measure, in tokens; a 0 in the first two measures nothing.
  std::vector<std::int64_t> prompt_tokens{512};  // "pp512": a prompt in one piece
  std::vector<std::int64_t> decode_tokens{128};  // "tg128": greedy, one token at a time
  std::vector<std::int64_t> depths{0};  // tokens in the KV cache before each: "tg128@d4096"
  std::int64_t repetitions = 5;
  std::uint64_t seed = 0;  // of the prompts' random ids
  KvCacheType kv_cache = KvCacheType::kAuto;
};

struct BenchRow {
  std::string test;  // "pp512", "tg128@d4096"
  std::int64_t tokens = 0;
  std::int64_t depth = 0;
  std::vector<double> seconds;  // of each repetition
  // Of one repetition: what it cannot do without reading. Each pass (pp: one, tg: one a token)
  // reads the weights once, the embedding's rows of its tokens, and the keys and values before
  // them.
  std::int64_t bytes = 0;
  // Of one repetition: 2 a token for each weight of the projections, and of the head once a pass.
  // Attention is not counted.
  std::int64_t flops = 0;
};

// Mean and sample standard deviation (0 for one repetition) of `amount` per second.
struct Rate {
  double mean = 0;
  double stddev = 0;
};
[[nodiscard]] Rate rate_of(std::int64_t amount, std::span<const double> seconds);

// What a row's speed is set against; both of the backend's device.
struct BenchDevice {
  double read_bandwidth = 0;     // bytes per second (Backend::measure_read_bandwidth)
  std::int64_t memory_peak = 0;  // bytes
};

struct BenchReport {
  std::vector<BenchRow> rows;
  std::string kv_cache;  // what keys and values are stored as: "fp16"
  std::string decode;    // "one kernel a token", or "operation by operation (why)"
  BenchDevice device;
};

// (work done, work in all, the test that runs), never while the clock runs.
using BenchProgress = std::function<void(std::int64_t, std::int64_t, std::string_view)>;

// Runs every test after a warm-up, all of one depth together: the cache is filled once and cut back
// between repetitions. Refuses (exit code 2) what leaves nothing to measure or exceeds the model's
// positions; logits that are not finite end it with exit code 3, an interrupt with 130.
[[nodiscard]] BenchReport bench_model(const Qwen3Model& model, const BenchOptions& options,
                                      const BenchProgress& progress = {});

}  // namespace qf
