#include "qwen3fp4/run/batch_generator.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "answer_rules.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/memory/guard.h"
#include "qwen3fp4/quant/parallel.h"
#include "qwen3fp4/run/non_finite.h"

// Shapes in this file: B lanes (conversations at work), L layers, C positions that a lane has room
// for, S of them in use; T new tokens, H query heads, K key/value heads, G = H/K, E head_dim.
namespace qf {
namespace {

constexpr std::int64_t kMostLanes = 64;
constexpr std::int64_t kCacheBytes = std::int64_t{1} << 30;

struct Lane {
  std::size_t prompt;                  // whose answer it is
  std::vector<std::int64_t> sequence;  // prompt and answer; the cache holds all but the last
  Sampler* sampler;
  TextStream text{std::vector<std::string>{}};
};

// Keys and values of all lanes, f32. What no lane has written is 0, so that it may be multiplied by
// a probability of 0.
class LaneCache {
 public:
  LaneCache(const ModelConfig& config, std::int64_t lanes, std::int64_t context,
            const Backend& backend)
      : backend_(backend),
        keys_(at::zeros(
            {config.num_hidden_layers, lanes, config.num_key_value_heads, context, config.head_dim},
            at::device(backend.device()).dtype(at::kFloat))),
        values_(at::zeros_like(keys_)) {}

  // The positions that the next tokens, one a lane, have.
  void set_positions(const std::vector<std::int64_t>& positions) {
    const auto device = keys_.device();
    seen_ = *std::ranges::max_element(positions) + 1;
    positions_ = at::tensor(positions, at::kLong).to(device);
    lane_numbers_ = at::arange(std::ssize(positions), at::device(device).dtype(at::kLong));
    const auto all_S = at::arange(seen_, at::device(device).dtype(at::kLong));
    future_ = all_S.view({1, 1, -1}).gt(positions_.view({-1, 1, 1}));
  }

  // Whole prompts, one behind the other: rows starts[i] .. starts[i + 1] are those of lane first +
  // i.
  [[nodiscard]] at::Tensor attend_prompts(std::int64_t layer, std::int64_t first,
                                          const std::vector<std::int64_t>& starts,
                                          const at::Tensor& q_THE, const at::Tensor& k_TKE,
                                          const at::Tensor& v_TKE) {
    const auto type = backend_.cache_options().dtype();
    std::vector<at::Tensor> attended;
    for (std::size_t i = 0; i + 1 < starts.size(); ++i) {
      const std::int64_t count = starts[i + 1] - starts[i];
      const auto part = [&](const at::Tensor& x) { return x.narrow(0, starts[i], count); };
      const auto keep = [&](const at::Tensor& cache, const at::Tensor& x) {
        cache.select(0, layer)
            .select(0, first + static_cast<std::int64_t>(i))
            .narrow(1, 0, count)
            .copy_(part(x).transpose(0, 1));
      };
      keep(keys_, k_TKE);
      keep(values_, v_TKE);
      attended.push_back(
          backend_.attention(part(q_THE), part(k_TKE).to(type), part(v_TKE).to(type)));
    }
    return at::cat(attended);
  }

  // One token of each lane, at set_positions().
  [[nodiscard]] at::Tensor attend(std::int64_t layer, const at::Tensor& q_BHE,
                                  const at::Tensor& k_BKE, const at::Tensor& v_BKE) {
    const auto keep = [&](const at::Tensor& cache, const at::Tensor& x) {
      cache.select(0, layer).transpose(1, 2).index_put_({lane_numbers_, positions_},
                                                        x.to(at::kFloat));
    };
    keep(keys_, k_BKE);
    keep(values_, v_BKE);
    const std::int64_t lanes = q_BHE.size(0);
    const auto q = (q_BHE.to(at::kFloat) / std::sqrt(static_cast<double>(q_BHE.size(2))));
    auto out_BHE = at::empty(q_BHE.sizes(), q.options());
    const auto some = [&](std::int64_t first, std::int64_t end) {
      attend_some(layer, {first, end - first}, q, out_BHE);
    };
    if (q.is_cuda()) {
      some(0, lanes);
    } else {
      parallel_chunks(lanes, 1, some);
    }
    return out_BHE.to(q_BHE.scalar_type());
  }

  [[nodiscard]] const at::Tensor& keys() const { return keys_; }
  [[nodiscard]] const at::Tensor& values() const { return values_; }

  // One lane takes the place of another.
  void move_lane(std::int64_t from, std::int64_t to) {
    for (const at::Tensor& cache : {keys_, values_}) {
      cache.select(1, to).copy_(cache.select(1, from));
    }
  }

 private:
  struct Range {
    std::int64_t first, count;
  };
  void attend_some(std::int64_t layer, Range lanes, const at::Tensor& q_BHE,
                   const at::Tensor& out_BHE) const {
    const std::int64_t kv_heads = keys_.size(2);
    const std::int64_t width = q_BHE.size(2);
    const auto part = [&](const at::Tensor& x) { return x.narrow(0, lanes.first, lanes.count); };
    const auto cached = [&](const at::Tensor& cache) {
      return part(cache.select(0, layer)).narrow(2, 0, seen_).flatten(0, 1);  // [B*K, S, E]
    };
    const auto q = part(q_BHE).reshape({lanes.count * kv_heads, -1, width});  // [B*K, G, E]
    auto scores = at::bmm(q, cached(keys_).transpose(1, 2));
    scores.view({lanes.count, -1, seen_})
        .masked_fill_(part(future_), -std::numeric_limits<float>::infinity());
    part(out_BHE).copy_(
        at::bmm(at::softmax(scores, -1), cached(values_)).view({lanes.count, -1, width}));
  }

  const Backend& backend_;
  at::Tensor keys_, values_;  // [L, B, K, C, E]
  std::int64_t seen_ = 0;
  at::Tensor positions_, lane_numbers_;  // i64 [B]
  at::Tensor future_;                    // bool [B, 1, S]: what a lane's token must not see
};

class Batch {
 public:
  Batch(const Qwen3Model& model, const Tokenizer* tokenizer, std::span<const BatchPrompt> prompts,
        const BatchOptions& options, BatchProgress progress)
      : model_(model),
        tokenizer_(tokenizer),
        prompts_(prompts),
        options_(options),
        progress_(std::move(progress)),
        answers_(prompts.size()) {}

  [[nodiscard]] std::vector<BatchAnswer> run() {
    const c10::InferenceMode no_autograd;
    std::vector<std::size_t> order(prompts_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    for (const std::size_t prompt : order) (void)context_for(prompt);  // before any is answered
    std::ranges::stable_sort(order, {}, [&](std::size_t i) { return prompts_[i].ids.size(); });
    std::span<const std::size_t> rest = order;
    while (!rest.empty()) {
      const std::size_t count = lanes_for(rest);
      run_lanes(rest.first(count));
      rest = rest.subspan(count);
    }
    return std::move(answers_);
  }

 private:
  [[nodiscard]] std::int64_t context_for(std::size_t prompt) const;
  [[nodiscard]] std::size_t lanes_for(std::span<const std::size_t> prompts) const;
  void run_lanes(std::span<const std::size_t> prompts);
  void prefill(LaneCache& cache);
  void decode(LaneCache& cache);
  void choose(const at::Tensor& hidden_BD, std::size_t first);
  // Adds a token to a lane's answer. Whether the answer goes on.
  [[nodiscard]] bool add(Lane& lane, std::int64_t id);
  void add_chosen(LaneCache& cache);

  const Qwen3Model& model_;
  const Tokenizer* tokenizer_;
  std::span<const BatchPrompt> prompts_;
  const BatchOptions& options_;
  BatchProgress progress_;
  std::vector<BatchAnswer> answers_;
  std::vector<Sampler> samplers_;  // a lane's own
  std::vector<Lane> lanes_;
  std::vector<std::int64_t> chosen_;  // of the lanes, in this step
  std::int64_t done_ = 0;
};

// The answer's last token is never run.
std::int64_t Batch::context_for(std::size_t prompt) const {
  const std::int64_t most = model_.config().max_position_embeddings;
  const std::int64_t length = std::ssize(prompts_[prompt].ids);
  QF_CHECK(length > 0 && length <= most,
           "prompt {} of {} has {} tokens, expected 1 to the model's {} positions", prompt + 1,
           prompts_.size(), length, most);
  return length + std::min(most - length, options_.max_new_tokens - 1);
}

std::size_t Batch::lanes_for(std::span<const std::size_t> prompts) const {
  const ModelConfig& config = model_.config();
  const std::int64_t token = config.num_hidden_layers * config.num_key_value_heads *
                             config.head_dim * 2 * std::int64_t{sizeof(float)};
  std::size_t count = 0;
  while (count < prompts.size() && count < kMostLanes) {
    // Sorted: the last one is the longest.
    const std::int64_t lanes = static_cast<std::int64_t>(count) + 1;
    if (count > 0 && token * context_for(prompts[count]) > kCacheBytes / lanes) break;
    ++count;
  }
  return count;
}

void Batch::run_lanes(std::span<const std::size_t> prompts) {
  if (samplers_.empty()) {
    const auto allowed = allowed_ids(model_, tokenizer_);
    samplers_.assign(std::min<std::size_t>(kMostLanes, prompts_.size()),
                     Sampler(options_.sampling, allowed));
  }
  lanes_.clear();
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    const BatchPrompt& prompt = prompts_[prompts[i]];
    samplers_[i].reseed(prompt.seed);
    lanes_.push_back({prompts[i], prompt.ids, &samplers_[i]});
  }
  LaneCache cache(model_.config(), std::ssize(lanes_), context_for(prompts.back()),
                  model_.backend());
  note_memory_tensors("KV cache", {cache.keys(), cache.values()});
  prefill(cache);
  while (!lanes_.empty()) {
    check_interrupted();
    decode(cache);
  }
}

// As many whole prompts at a time as one forward pass takes tokens.
void Batch::prefill(LaneCache& cache) {
  chosen_.assign(lanes_.size(), 0);
  std::size_t first = 0;
  while (first < lanes_.size()) {
    check_interrupted();
    std::vector<std::int64_t> tokens, positions, starts{0}, last_rows;
    std::size_t end = first;
    do {
      const auto& ids = lanes_[end].sequence;
      tokens.insert(tokens.end(), ids.begin(), ids.end());
      for (std::int64_t i = 0; i < std::ssize(ids); ++i) positions.push_back(i);
      starts.push_back(std::ssize(tokens));
      last_rows.push_back(starts.back() - 1);
      ++end;
    } while (end < lanes_.size() &&
             std::ssize(tokens) + std::ssize(lanes_[end].sequence) <= Qwen3Model::kForwardTokens);
    const auto hidden_TD = model_.forward(
        tokens, positions,
        [&](std::int64_t layer, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v) {
          return cache.attend_prompts(layer, static_cast<std::int64_t>(first), starts, q, k, v);
        });
    choose(hidden_TD.index_select(0, at::tensor(last_rows, at::kLong).to(hidden_TD.device())),
           first);
    first = end;
  }
  add_chosen(cache);
}

void Batch::decode(LaneCache& cache) {
  std::vector<std::int64_t> tokens, positions;
  for (const Lane& lane : lanes_) {
    tokens.push_back(lane.sequence.back());
    positions.push_back(std::ssize(lane.sequence) - 1);
  }
  cache.set_positions(positions);
  const auto hidden_BD =
      model_.forward(tokens, positions,
                     [&](std::int64_t layer, const at::Tensor& q, const at::Tensor& k,
                         const at::Tensor& v) { return cache.attend(layer, q, k, v); });
  choose(hidden_BD, 0);
  add_chosen(cache);
}

// The next token of lanes `first` and on, of which the rows are the last hidden states.
void Batch::choose(const at::Tensor& hidden_BD, std::size_t first) {
  const auto logits_BV = model_.logits(hidden_BD).to(at::kCPU, at::kFloat).contiguous();
  const auto vocab = static_cast<std::size_t>(logits_BV.size(1));
  const auto row = [&](std::int64_t i) {
    return std::span(logits_BV.const_data_ptr<float>() + i * logits_BV.size(1), vocab);
  };
  const auto lane = [&](std::int64_t i) -> Lane& {
    return lanes_[first + static_cast<std::size_t>(i)];
  };
  for (std::int64_t i = 0; i < logits_BV.size(0); ++i) {
    if (all_finite(row(i))) continue;
    const auto& sequence = lane(i).sequence;
    KvCache cache(model_.config(), std::ssize(sequence), model_.backend().cache_options());
    refuse_non_finite(model_, cache, sequence, 0);
  }
  parallel_chunks(logits_BV.size(0), 1, [&](std::int64_t i, std::int64_t) {
    chosen_[first + static_cast<std::size_t>(i)] =
        lane(i).sampler->sample(row(i), lane(i).sequence);
  });
}

bool Batch::add(Lane& lane, std::int64_t id) {
  BatchAnswer& answer = answers_[lane.prompt];
  lane.sequence.push_back(id);
  answer.ids.push_back(id);
  const bool ends = std::ranges::find(options_.end_tokens, id) != options_.end_tokens.end();
  if (tokenizer_ != nullptr && !tokenizer_->is_special(id) && !ends) {
    answer.text += lane.text.push(tokenizer_->token_bytes(id));
  }
  const bool full = std::ssize(answer.ids) >= options_.max_new_tokens;
  const bool beyond = std::ssize(lane.sequence) > model_.config().max_position_embeddings;
  answer.stop_reason = ends   ? StopReason::kEndToken
                       : full ? StopReason::kLength
                              : StopReason::kContext;
  const bool stopped = ends || full || beyond;
  refuse_collapsed(answer.ids, stopped);
  if (stopped) answer.text += lane.text.finish();
  return !stopped;
}

// The last lane takes the place of one that is done.
void Batch::add_chosen(LaneCache& cache) {
  for (std::size_t i = lanes_.size(); i-- > 0;) {
    if (add(lanes_[i], chosen_[i])) continue;
    if (i + 1 < lanes_.size()) {
      cache.move_lane(std::ssize(lanes_) - 1, static_cast<std::int64_t>(i));
      lanes_[i] = std::move(lanes_.back());
    }
    lanes_.pop_back();
    ++done_;
    if (progress_) progress_(done_, std::ssize(prompts_));
  }
}

}  // namespace

std::vector<BatchAnswer> answer_prompts(const Qwen3Model& model, const Tokenizer* tokenizer,
                                        std::span<const BatchPrompt> prompts,
                                        const BatchOptions& options,
                                        const BatchProgress& progress) {
  if (options.max_new_tokens < 1) {
    fail(ExitCode::kUsage, "an answer: expected at least 1 token, got {}", options.max_new_tokens);
  }
  return Batch(model, tokenizer, prompts, options, progress).run();
}

}  // namespace qf
