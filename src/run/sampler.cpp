#include "qwen3fp4/run/sampler.h"

#include <algorithm>
#include <cassert>
#include <cstddef>

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

void add_to_set(std::vector<std::uint32_t>& words, std::int64_t id) {
  words[static_cast<std::size_t>(id / 32)] |= 1U << static_cast<unsigned>(id % 32);
}

}  // namespace

Sampler::Sampler(const SamplingOptions& options, const std::vector<bool>& allowed)
    : options_(options),
      vocab_(static_cast<std::int64_t>(allowed.size())),
      allowed_(static_cast<std::size_t>(id_set_words(vocab_))),
      random_(options.seed),
      repeated_(allowed_.size()),
      tokens_(allowed.size()) {
  check_options(options_);
  QF_CHECK(vocab_ <= kSampleMaxVocab, "sampling takes up to {} token ids, the model has {}",
           kSampleMaxVocab, vocab_);
  for (std::int64_t id = 0; id < vocab_; ++id) {
    if (allowed[static_cast<std::size_t>(id)]) add_to_set(allowed_, id);
  }
  QF_CHECK(std::find(allowed.begin(), allowed.end(), true) != allowed.end(),
           "the tokenizer has none of the model's {} token ids", vocab_);
}

SampleRule Sampler::rule() const {
  return {options_.temperature, options_.top_k, options_.top_p, options_.min_p,
          static_cast<float>(options_.repetition_penalty)};
}

std::vector<double> Sampler::next_draws(std::int64_t count) const {
  auto random = random_;
  std::vector<double> draws(static_cast<std::size_t>(count));
  for (double& draw : draws) draw = draw_from_bits(random());
  return draws;
}

std::span<const WeightedToken> Sampler::survivors(std::span<const float> logits,
                                                  std::span<const std::int64_t> history) {
  assert(static_cast<std::int64_t>(logits.size()) == vocab_);
  std::fill(repeated_.begin(), repeated_.end(), 0U);
  for (const std::int64_t id : history) {
    assert(id >= 0 && id < vocab_);
    add_to_set(repeated_, id);
  }
  const auto found = surviving_tokens(
      rule(), {logits.data(), vocab_, allowed_.data(), repeated_.data()}, tokens_.data());
  QF_CHECK(found.status == SampleStatus::kChosen, "expected finite logits, found NaN or infinity");
  return {tokens_.data(), static_cast<std::size_t>(found.count)};
}

std::span<const Candidate> Sampler::distribution(std::span<const float> logits,
                                                 std::span<const std::int64_t> history) {
  const auto tokens = survivors(logits, history);
  double total = 0;
  for (const auto& token : tokens) total += static_cast<double>(token.weight);
  candidates_.clear();
  for (const auto& token : tokens) {
    candidates_.push_back({token.id, static_cast<double>(token.weight) / total});
  }
  return candidates_;
}

std::int64_t Sampler::sample(std::span<const float> logits, std::span<const std::int64_t> history) {
  const auto tokens = survivors(logits, history);
  if (tokens.size() == 1) return tokens.front().id;
  return drawn_token(tokens.data(), static_cast<std::int64_t>(tokens.size()),
                     draw_from_bits(random_()));
}

}  // namespace qf
