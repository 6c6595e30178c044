#include "answer_rules.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/run/non_finite.h"

namespace qf {
namespace {

// An answer of this many tokens, all 0, is a collapse. A stopped answer needs fewer.
constexpr std::size_t kCollapsedTokens = 8;
constexpr std::size_t kCollapsedWholeAnswer = 4;

}  // namespace

std::vector<bool> allowed_ids(const Qwen3Model& model, const Tokenizer* tokenizer) {
  const std::int64_t vocab = model.config().vocab_size;
  std::vector<bool> allowed(static_cast<std::size_t>(vocab), true);
  if (tokenizer == nullptr) return allowed;
  for (std::int64_t id = 0; id < vocab; ++id) {
    allowed[static_cast<std::size_t>(id)] = tokenizer->has_token(id);
  }
  return allowed;
}

void refuse_collapsed(const std::vector<std::int64_t>& ids, bool stopped) {
  if (ids.size() < kCollapsedTokens && !(stopped && ids.size() >= kCollapsedWholeAnswer)) return;
  if (ids.size() > kCollapsedTokens) return;
  if (std::any_of(ids.begin(), ids.end(), [](std::int64_t id) { return id != 0; })) return;
  fail(ExitCode::kNonFinite,
       "the answer collapsed to token 0: [{}]; check the model's scales (qwen3fp4 inspect flags "
       "wrong ones)",
       fmt::join(ids, "; "));
}

void refuse_non_finite(const Qwen3Model& model, KvCache& cache,
                       std::span<const std::int64_t> sequence, std::int64_t first) {
  const auto found = find_non_finite(model, cache, sequence, first);
  fail(ExitCode::kNonFinite,
       "non-finite logits at position {}: {} is the first module whose output is not finite, at "
       "position {}; check its scales (qwen3fp4 inspect), with --dtype fp16 its range (--dtype "
       "bf16)",
       sequence.size() - 1, found.module, found.position);
}

}  // namespace qf
