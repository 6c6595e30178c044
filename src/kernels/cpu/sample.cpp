#include "qwen3fp4/kernels/cpu/sample.h"

#include <algorithm>

namespace qf {
namespace {

bool more_likely(const WeightedToken& a, const WeightedToken& b) {
  return a.key != b.key ? a.key > b.key : a.id < b.id;
}

std::uint64_t total_weight(const WeightedToken* begin, const WeightedToken* end) {
  std::uint64_t total = 0;
  for (const auto* token = begin; token != end; ++token) total += token->weight;
  return total;
}

// Each returns the new end of the tokens, and may change their order.

WeightedToken* keep_top_k(WeightedToken* begin, WeightedToken* end, std::int64_t top_k) {
  if (top_k == 0 || top_k >= end - begin) return end;
  std::nth_element(begin, begin + (top_k - 1), end, more_likely);
  const std::uint32_t last_key = begin[top_k - 1].key;
  return std::partition(begin + top_k, end,
                        [&](const WeightedToken& token) { return token.key == last_key; });
}

// A heap, because most often a few of 150,000 tokens suffice.
WeightedToken* keep_top_p(WeightedToken* begin, WeightedToken* end, double top_p) {
  if (top_p >= 1.0) return end;
  const std::uint64_t target = top_p_target(top_p, total_weight(begin, end));
  const auto less_likely = [](const WeightedToken& a, const WeightedToken& b) {
    return more_likely(b, a);
  };
  std::make_heap(begin, end, less_likely);
  WeightedToken* heap_end = end;
  for (std::uint64_t reached = 0; reached < target;) {
    std::pop_heap(begin, heap_end, less_likely);
    --heap_end;
    reached += heap_end->weight;
  }
  return std::move(heap_end, end, begin);
}

// Calls visit(id, key of the penalised logit) for each allowed id in order; false where a logit,
// allowed or not, is not finite.
template <class Visit>
bool for_each_allowed(const SampleRule& rule, const SampleLogits& in, const Visit& visit) {
  bool finite = true;
  for (std::int64_t first = 0; first < in.vocab; first += 32) {
    const std::uint32_t allowed = in.allowed != nullptr ? in.allowed[first / 32] : ~0U;
    const std::uint32_t repeated = in.repeated != nullptr ? in.repeated[first / 32] : 0U;
    const std::int64_t count = std::min<std::int64_t>(32, in.vocab - first);
    for (std::int64_t i = 0; i < count; ++i) {
      float logit = in.logits[first + i];
      finite &= is_finite(logit);
      if ((allowed >> i & 1U) == 0) continue;
      if ((repeated >> i & 1U) != 0) logit = penalised_logit(logit, rule.repetition_penalty);
      visit(first + i, sample_key(logit));
    }
  }
  return finite;
}

Survivors best_token(const SampleRule& rule, const SampleLogits& in, WeightedToken* token) {
  *token = {0, -1, fixed_exp(0)};
  const bool finite = for_each_allowed(rule, in, [token](std::int64_t id, std::uint32_t key) {
    if (key <= token->key) return;
    token->key = key;
    token->id = static_cast<std::int32_t>(id);
  });
  if (!finite) return {SampleStatus::kNonFiniteLogits, 0};
  if (token->id < 0) return {SampleStatus::kNoTokenAllowed, 0};
  return {SampleStatus::kChosen, 1};
}

}  // namespace

Survivors surviving_tokens(const SampleRule& rule, const SampleLogits& in, WeightedToken* tokens) {
  if (rule.temperature == 0) return best_token(rule, in, tokens);
  WeightedToken* end = tokens;
  std::uint32_t best = 0;
  const bool finite = for_each_allowed(rule, in, [&](std::int64_t id, std::uint32_t key) {
    *end++ = {key, static_cast<std::int32_t>(id), 0};
    best = std::max(best, key);
  });
  if (!finite) return {SampleStatus::kNonFiniteLogits, 0};
  if (end == tokens) return {SampleStatus::kNoTokenAllowed, 0};
  const float best_logit = logit_of_key(best);
  end = keep_top_k(tokens, end, rule.top_k);
  for (auto* token = tokens; token != end; ++token) {
    token->weight = sample_weight(logit_of_key(token->key), best_logit, rule.temperature);
  }
  end = keep_top_p(tokens, end, rule.top_p);
  end = std::remove_if(tokens, end, [least = min_p_weight(rule.min_p)](const WeightedToken& token) {
    return token.weight < least;
  });
  const auto by_id = [](const WeightedToken& a, const WeightedToken& b) { return a.id < b.id; };
  if (!std::is_sorted(tokens, end, by_id)) std::sort(tokens, end, by_id);
  return {SampleStatus::kChosen, end - tokens};
}

std::int64_t drawn_token(const WeightedToken* tokens, std::int64_t count, double draw) {
  const std::uint64_t target = draw_target(draw, total_weight(tokens, tokens + count));
  std::uint64_t reached = tokens->weight;
  while (reached <= target) reached += (++tokens)->weight;
  return tokens->id;
}

}  // namespace qf
