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

}  // namespace

Survivors surviving_tokens(const SampleRule& rule, const SampleLogits& in, WeightedToken* tokens) {
  bool finite = true;
  WeightedToken* end = tokens;
  const WeightedToken* best = tokens;
  for (std::int64_t id = 0; id < in.vocab; ++id) {
    finite &= is_finite(in.logits[id]);
    if (in.allowed != nullptr && !id_in_set(in.allowed, id)) continue;
    const bool repeated = in.repeated != nullptr && id_in_set(in.repeated, id);
    const float logit =
        repeated ? penalised_logit(in.logits[id], rule.repetition_penalty) : in.logits[id];
    *end = {sample_key(logit), static_cast<std::int32_t>(id), 0};
    if (end->key > best->key) best = end;
    ++end;
  }
  if (!finite) return {SampleStatus::kNonFiniteLogits, 0};
  if (end == tokens) return {SampleStatus::kNoTokenAllowed, 0};
  if (rule.temperature == 0) {
    tokens[0] = *best;
    tokens[0].weight = fixed_exp(0);
    return {SampleStatus::kChosen, 1};
  }
  const float best_logit = logit_of_key(best->key);
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
