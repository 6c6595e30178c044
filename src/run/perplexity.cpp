#include "qwen3fp4/run/perplexity.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string_view>
#include <vector>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/run/non_finite.h"

// Shapes in this file: W tokens of a window, D hidden_size, R rows of one chunk, V vocabulary.

namespace qf {
namespace {

constexpr std::int64_t kChunkRows = kPerplexityRows;

// One model and the cache that its windows reuse.
class Scorer {
 public:
  Scorer(const Qwen3Model& model, std::string_view role, std::int64_t context, KvCacheType kv_cache)
      : model_(model),
        role_(role),
        cache_(model.config(), context, model.backend().cache_options(), kv_cache) {}

  void run(std::span<const std::int64_t> window) {
    window_ = window;
    cache_.truncate(0);
    hidden_ = model_.forward(window, cache_);
  }

  // f64 [count, V]: log-probabilities of what follows each of the window's tokens from `row` on.
  [[nodiscard]] at::Tensor log_probabilities(std::int64_t row, std::int64_t count) {
    const auto logits_RV =
        model_.logits(hidden_.narrow(0, row, count)).to(at::kCPU, at::kFloat).contiguous();
    if (!all_finite(
            {logits_RV.const_data_ptr<float>(), static_cast<std::size_t>(logits_RV.numel())})) {
      const auto found = find_non_finite(model_, cache_, window_, 0);
      fail(ExitCode::kNonFinite,
           "non-finite logits of the {}: {} is the first module whose output is not finite, at "
           "position {} of a window; check its scales (qwen3fp4 inspect)",
           role_, found.module, found.position);
    }
    return at::log_softmax(logits_RV.to(at::kDouble), -1);
  }

 private:
  const Qwen3Model& model_;
  std::string_view role_;
  KvCache cache_;
  std::span<const std::int64_t> window_;
  at::Tensor hidden_;  // f32 [W, D]
};

struct Sums {
  double negative_log_likelihood = 0;
  std::int64_t tokens = 0;
  Comparison comparison;
};

void score_window(std::span<const std::int64_t> window, Scorer& model, Scorer* teacher,
                  Sums& sums) {
  model.run(window);
  if (teacher != nullptr) teacher->run(window);
  const auto scored = static_cast<std::int64_t>(window.size()) - 1;
  for (std::int64_t row = 0; row < scored; row += kChunkRows) {
    check_stop_request();
    const std::int64_t count = std::min(kChunkRows, scored - row);
    const auto model_RV = model.log_probabilities(row, count);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t next = window[static_cast<std::size_t>(row + i + 1)];
      sums.negative_log_likelihood -= model_RV[i][next].item<double>();
    }
    if (teacher != nullptr) {
      add_comparison(model_RV, teacher->log_probabilities(row, count), sums.comparison);
    }
  }
  sums.tokens += scored;
}

KlStatistics statistics(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const auto count = static_cast<double>(values.size());
  // The smallest value that at least `share` of all do not exceed.
  const auto quantile = [&](double share) {
    return values[static_cast<std::size_t>(std::max(std::ceil(share * count) - 1, 0.0))];
  };
  double sum = 0;
  for (const double value : values) sum += value;
  return {sum / count, quantile(0.5), quantile(0.99), values.back()};
}

void check_ids(std::span<const std::int64_t> ids, std::int64_t vocab_size) {
  if (ids.size() < 2) {
    fail(ExitCode::kUsage,
         "the text has {} tokens; scoring needs at least 2 (--file, --max-tokens)", ids.size());
  }
  for (const std::int64_t id : ids) {
    QF_CHECK(id >= 0 && id < vocab_size, "text: token id {} is not one of the model's 0 to {}", id,
             vocab_size - 1);
  }
}

void check_context(const Qwen3Model& model, std::int64_t context) {
  const std::int64_t most = model.config().max_position_embeddings;
  if (context < 2 || context > most) {
    fail(ExitCode::kUsage, "--context: expected 2 to the model's {} positions, got {}", most,
         context);
  }
}

}  // namespace

void add_comparison(const at::Tensor& model_RV, const at::Tensor& teacher_RV, Comparison& out) {
  const auto p_RV = teacher_RV.exp();
  // A probability of 0 adds nothing, also where the logarithms are infinite.
  const auto terms_RV =
      at::where(p_RV > 0, p_RV * (teacher_RV - model_RV), at::zeros({}, p_RV.options()));
  const auto kl_R = terms_RV.sum(-1).to(at::kCPU).contiguous();
  const auto* values = kl_R.const_data_ptr<double>();
  // Rounding can leave a sum that is 0 in truth just below it.
  for (std::int64_t i = 0; i < kl_R.numel(); ++i) out.kl.push_back(std::max(values[i], 0.0));
  out.same_top1 += model_RV.argmax(-1).eq(teacher_RV.argmax(-1)).sum().item<std::int64_t>();
}

PerplexityResult measure_perplexity(const Qwen3Model& model, const Qwen3Model* teacher,
                                    std::span<const std::int64_t> ids,
                                    const PerplexityOptions& options,
                                    const PerplexityProgress& progress) {
  if (options.max_tokens > 0 && options.max_tokens < static_cast<std::int64_t>(ids.size())) {
    ids = ids.first(static_cast<std::size_t>(options.max_tokens));
  }
  const std::int64_t vocab = model.config().vocab_size;
  check_ids(ids, vocab);
  check_context(model, options.context);
  const auto total = static_cast<std::int64_t>(ids.size());
  const std::int64_t context = std::min(options.context, total);
  Scorer model_scorer(model, "model", context, options.kv_cache);
  std::optional<Scorer> teacher_scorer;
  if (teacher != nullptr) {
    check_context(*teacher, options.context);
    QF_CHECK(teacher->config().vocab_size == vocab,
             "--kl-against: expected the model's vocabulary of {} tokens, got {}", vocab,
             teacher->config().vocab_size);
    teacher_scorer.emplace(*teacher, "teacher", context, KvCacheType::kAuto);
  }
  Sums sums;
  for (std::int64_t first = 0; first + 1 < total; first += context) {
    check_interrupted();
    const std::int64_t count = std::min(context, total - first);
    score_window(ids.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)),
                 model_scorer, teacher_scorer ? &*teacher_scorer : nullptr, sums);
    if (progress) progress(first + count, total);
  }
  PerplexityResult result;
  result.tokens = sums.tokens;
  result.perplexity = std::exp(sums.negative_log_likelihood / static_cast<double>(sums.tokens));
  if (teacher != nullptr) {
    result.top1 = static_cast<double>(sums.comparison.same_top1) / static_cast<double>(sums.tokens);
    result.kl = statistics(std::move(sums.comparison.kl));
  }
  return result;
}

}  // namespace qf
