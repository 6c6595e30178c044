#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "qwen3fp4/model/qwen3_model.h"

namespace qf {

// Rows of logits that exist at once: [64, 151936] f64 are 78 MB.
inline constexpr std::int64_t kPerplexityRows = 64;

struct PerplexityOptions {
  // The text is cut into windows of this many tokens that do not overlap. A window's first token
  // has no context and is not scored; a last window of one token is left out.
  std::int64_t context = 512;
  std::int64_t max_tokens = 0;                // only the text's first ones; 0: all
  KvCacheType kv_cache = KvCacheType::kAuto;  // of the model; the teacher's is what attention reads
};

// KL(teacher || model) in nats over the scored positions.
struct KlStatistics {
  double mean = 0;
  double median = 0;
  double p99 = 0;  // the value that 99 % of the positions do not exceed
  double max = 0;
};

// Positions compared so far.
struct Comparison {
  std::vector<double> kl;      // KL(teacher || model) of each
  std::int64_t same_top1 = 0;  // where both think the same token likeliest
};
// Adds a position for each row of the log-probabilities, f64 [R, V] in main memory.
void add_comparison(const at::Tensor& model_RV, const at::Tensor& teacher_RV, Comparison& out);

struct PerplexityResult {
  double perplexity = 0;    // exp of the mean negative log-likelihood
  std::int64_t tokens = 0;  // scored ones
  // With a teacher:
  std::optional<KlStatistics> kl;
  std::optional<double> top1;  // share of positions where both think the same token likeliest
};

// Gets (windows' tokens run, all of them) after each window.
using PerplexityProgress = std::function<void(std::int64_t, std::int64_t)>;

// Scores `ids` under `model`, and compares it with `teacher` (may be nullptr) on the same windows.
// Throws with exit code 3 when logits are not finite, 2 when there is nothing to score, 4 when the
// two models' vocabularies differ, 130 when interrupted.
[[nodiscard]] PerplexityResult measure_perplexity(const Qwen3Model& model,
                                                  const Qwen3Model* teacher,
                                                  std::span<const std::int64_t> ids,
                                                  const PerplexityOptions& options,
                                                  const PerplexityProgress& progress = {});

}  // namespace qf
