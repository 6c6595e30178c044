#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "qwen3fp4/model/qwen3_model.h"
#include "qwen3fp4/run/generator.h"

namespace qf {

struct BatchPrompt {
  std::vector<std::int64_t> ids = {};
  std::uint64_t seed = 0;
};

struct BatchOptions {
  SamplingOptions sampling = {};              // but for its seed
  std::vector<std::int64_t> end_tokens = {};  // empty: only the other reasons stop
  std::int64_t max_new_tokens = 256;
};

struct BatchAnswer {
  std::vector<std::int64_t> ids;  // with the end token, if there was one
  std::string text;               // without special tokens; empty without tokenizer
  StopReason stop_reason = StopReason::kLength;
};

using BatchProgress = std::function<void(std::int64_t done, std::int64_t all)>;

// Answers to many prompts, in their order, each in a conversation of its own: what Generator would
// answer to each but for the rounding of sums, which depends on how many tokens run together. Up to
// 64 prompts at a time, those of like length together, fewer where their keys and values (f32)
// would take more than 1 GiB. Throws as Generator does, and with exit code 130 when interrupted.
[[nodiscard]] std::vector<BatchAnswer> answer_prompts(const Qwen3Model& model,
                                                      const Tokenizer* tokenizer,
                                                      std::span<const BatchPrompt> prompts,
                                                      const BatchOptions& options,
                                                      const BatchProgress& progress = {});

}  // namespace qf
