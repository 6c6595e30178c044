#include "qwen3fp4/run/sampler.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstddef>
#include <functional>
#include <utility>

#include "qwen3fp4/base/error.h"

namespace qf {
namespace {

void check_range(const char* flag, double value, double low, double high) {
  if (!(value >= low && value <= high)) {
    fail(ExitCode::kUsage, "{}: expected a value from {} to {}, got {}", flag, low, high, value);
  }
}

void check_options(const SamplingOptions& options) {
  check_range("--temp", options.temperature, 0, 1e6);
  check_range("--top-p", options.top_p, 0, 1);
  check_range("--min-p", options.min_p, 0, 1);
  if (options.top_k < 0) {
    fail(ExitCode::kUsage, "--top-k: expected 0 (off) or more, got {}", options.top_k);
  }
  check_range("--repeat-penalty", options.repetition_penalty, 0.01, 100);
}

}  // namespace

Sampler::Sampler(const SamplingOptions& options, std::vector<bool> allowed)
    : options_(options), allowed_(std::move(allowed)), random_(options.seed) {
  check_options(options_);
  QF_CHECK(std::find(allowed_.begin(), allowed_.end(), true) != allowed_.end(),
           "the tokenizer has none of the model's {} token ids", allowed_.size());
}

std::span<const float> Sampler::penalise(std::span<const float> logits,
                                         std::span<const std::int64_t> history) {
  if (options_.repetition_penalty == 1.0) return logits;
  scores_.assign(logits.begin(), logits.end());
  const auto penalty = static_cast<float>(options_.repetition_penalty);
  for (const std::int64_t id : history) {
    const auto index = static_cast<std::size_t>(id);
    assert(index < logits.size());
    // From `logits`, not from scores_: an id that occurs twice is penalised once.
    scores_[index] = logits[index] < 0 ? logits[index] * penalty : logits[index] / penalty;
  }
  return scores_;
}

std::int64_t Sampler::best_id(std::span<const float> scores) const {
  std::size_t best = scores.size();
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if ((best == scores.size() || scores[i] > scores[best]) && allowed_[i]) best = i;
  }
  return static_cast<std::int64_t>(best);
}

// Tokens that tie with the k-th stay, as in transformers. Keeps the order of ids.
void Sampler::keep_top_k() {
  if (options_.top_k == 0 || options_.top_k >= static_cast<std::int64_t>(kept_.size())) return;
  ranking_.clear();
  for (const Scored& token : kept_) ranking_.push_back(token.score);
  const auto last = ranking_.begin() + (options_.top_k - 1);
  std::nth_element(ranking_.begin(), last, ranking_.end(), std::greater<>());
  std::erase_if(kept_,
                [threshold = *last](const Scored& token) { return token.score < threshold; });
}

// Keeps the most likely tokens until their probabilities reach top_p; the first one always stays,
// also where it alone exceeds top_p. A heap, because most often a few of 150,000 tokens suffice.
void Sampler::keep_top_p() {
  if (options_.top_p >= 1.0) return;
  double total = 0;
  for (const Scored& token : kept_) total += std::exp(token.score);
  const auto less_likely = [](const Scored& a, const Scored& b) {
    return a.score != b.score ? a.score < b.score : a.id > b.id;
  };
  std::make_heap(kept_.begin(), kept_.end(), less_likely);
  auto heap_end = kept_.end();
  double reached = 0;
  do {
    std::pop_heap(kept_.begin(), heap_end, less_likely);
    --heap_end;
    reached += std::exp(heap_end->score) / total;
  } while (heap_end != kept_.begin() && reached < options_.top_p);
  kept_.erase(kept_.begin(), heap_end);
  std::reverse(kept_.begin(), kept_.end());
}

std::span<const Candidate> Sampler::distribution(std::span<const float> logits,
                                                 std::span<const std::int64_t> history) {
  assert(logits.size() == allowed_.size());
  const auto scores = penalise(logits, history);
  candidates_.clear();
  const std::int64_t best = best_id(scores);
  if (options_.temperature == 0) {
    candidates_.push_back({best, 1.0});
    return candidates_;
  }
  // Relative to the best one, so that no temperature overflows.
  const double best_score = scores[static_cast<std::size_t>(best)];
  kept_.clear();
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (!allowed_[i]) continue;
    kept_.push_back(
        {(scores[i] - best_score) / options_.temperature, static_cast<std::int64_t>(i)});
  }
  keep_top_k();
  keep_top_p();
  double total = 0;
  for (const Scored& token : kept_) {
    // The best token has 1, which is what min_p is relative to.
    const double weight = std::exp(token.score);
    if (weight < options_.min_p) continue;
    candidates_.push_back({token.id, weight});
    total += weight;
  }
  for (Candidate& candidate : candidates_) candidate.probability /= total;
  return candidates_;
}

std::int64_t Sampler::sample(std::span<const float> logits, std::span<const std::int64_t> history) {
  const auto candidates = distribution(logits, history);
  if (candidates.size() == 1) return candidates.front().id;
  // 53 random bits: uniform in [0, 1). std::uniform_real_distribution differs between libraries.
  const double draw = static_cast<double>(random_() >> 11U) * 0x1p-53;
  double reached = 0;
  for (const Candidate& candidate : candidates) {
    reached += candidate.probability;
    if (draw < reached) return candidate.id;
  }
  return candidates.back().id;  // the probabilities' sum may round to just below 1
}

}  // namespace qf
