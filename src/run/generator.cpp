#include "qwen3fp4/run/generator.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <utility>

#include "answer_rules.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/fnv.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/memory/guard.h"
#include "qwen3fp4/run/non_finite.h"
#include "qwen3fp4/run/stopwatch.h"

namespace qf {

std::string_view stop_reason_name(StopReason reason) {
  switch (reason) {
    case StopReason::kEndToken:
      return "end_token";
    case StopReason::kLength:
      return "length";
    case StopReason::kStopString:
      return "stop_string";
    case StopReason::kContext:
      return "context";
    case StopReason::kInterrupted:
      return "interrupted";
  }
  return {};
}

Generator::Generator(const Qwen3Model& model, const Tokenizer* tokenizer, GeneratorOptions options)
    : model_(model),
      tokenizer_(tokenizer),
      options_(std::move(options)),
      sampler_(options_.sampling, allowed_ids(model, tokenizer)),
      cache_(model.config(), options_.context, model.backend().cache_options(), options_.kv_cache) {
  note_memory_tensors("KV cache", cache_.tensors());
  sequence_.reserve(static_cast<std::size_t>(options_.context) + 1);
  if (!options_.fused) {
    why_not_fused_ = "not asked for";
  } else if (!options_.use_kv_cache) {
    why_not_fused_ = "there is no KV cache";
  } else {
    fused_ = FusedDecoder::make(model, cache_, allowed_ids(model, tokenizer), why_not_fused_);
  }
}

std::string Generator::decode_description() const {
  return fused_ != nullptr ? std::string(fused_->description())
                           : fmt::format("operation by operation ({})", why_not_fused_);
}

void Generator::append(std::span<const std::int64_t> ids) {
  const std::int64_t vocab = model_.config().vocab_size;
  for (const std::int64_t id : ids) {
    QF_CHECK(id >= 0 && id < vocab, "prompt: token id {} is not one of the model's 0 to {}", id,
             vocab - 1);
  }
  sequence_.insert(sequence_.end(), ids.begin(), ids.end());
  if (sequence_.empty()) fail(ExitCode::kUsage, "the prompt has no tokens (--prompt, --ids)");
  cache_.check_room(static_cast<std::int64_t>(sequence_.size()) - cache_.length());
}

at::Tensor Generator::forward_pending() {
  const auto pending =
      std::span<const std::int64_t>(sequence_).subspan(static_cast<std::size_t>(cache_.length()));
  assert(!pending.empty());
  if (options_.prefill == PrefillMode::kWhole) return model_.forward(pending, cache_);
  at::Tensor hidden_1D;
  for (std::size_t i = 0; i < pending.size(); ++i) {
    check_interrupted();
    hidden_1D = model_.forward(pending.subspan(i, 1), cache_);
  }
  return hidden_1D;
}

// The last token, all that is pending; the device chooses the next.
void Generator::run_last_fused() {
  const std::int64_t first = cache_.length();
  const auto result = fused_->step(sequence_.back(), /*ahead=*/true);
  if (!result.finite) refuse_non_finite(model_, cache_, sequence_, first);
  logits_ = at::Tensor();
  choice_ = result.token;
  draws_used_ = result.draws_used;
}

// Runs the tokens that the cache does not hold and leaves the last one's logits. Returns how many.
std::int64_t Generator::run_pending() {
  if (!options_.use_kv_cache) cache_.truncate(0);
  const std::int64_t first = cache_.length();
  const std::int64_t pending = static_cast<std::int64_t>(sequence_.size()) - first;
  const at::Tensor hidden_TD = forward_pending();
  choice_.reset();
  logits_ = model_.logits(hidden_TD.narrow(0, hidden_TD.size(0) - 1, 1))
                .to(at::kCPU, at::kFloat)
                .contiguous();
  if (!all_finite(last_logits())) refuse_non_finite(model_, cache_, sequence_, first);
  return pending;
}

std::int64_t Generator::choose() {
  return choice_ ? *choice_ : sampler_.sample(last_logits(), sequence_);
}

std::span<const float> Generator::last_logits() const {
  return {logits_.const_data_ptr<float>(), static_cast<std::size_t>(logits_.numel())};
}

// One token reads every weight, and the keys and values of all tokens before it.
std::int64_t Generator::pending_bytes() const {
  const std::int64_t cached = options_.use_kv_cache ? cache_.token_bytes() * cache_.length() : 0;
  return model_.decode_bytes() + cached;
}

bool Generator::is_end_token(std::int64_t id) const {
  return std::find(options_.end_tokens.begin(), options_.end_tokens.end(), id) !=
         options_.end_tokens.end();
}

std::optional<StopReason> Generator::why_stop(const Answer& answer, const TextStream& text) const {
  if (is_end_token(answer.ids.back())) return StopReason::kEndToken;
  if (text.stopped()) return StopReason::kStopString;
  if (static_cast<std::int64_t>(answer.ids.size()) >= options_.max_new_tokens) {
    return StopReason::kLength;
  }
  if (static_cast<std::int64_t>(sequence_.size()) > cache_.context()) return StopReason::kContext;
  if (interrupted()) return StopReason::kInterrupted;
  return std::nullopt;
}

Answer Generator::answer(std::span<const std::int64_t> ids, const TokenCallback& on_token) {
  append(ids);
  Answer answer;
  TextStream text(options_.stop);
  begin_memory_phase("prefill");
  Stopwatch watch;
  answer.timing.prefill_tokens = run_pending();
  answer.timing.prefill_seconds = watch.lap();
  begin_memory_phase("decode");
  (void)watch.lap();
  for (;;) {
    const std::int64_t id = choose();
    sequence_.push_back(id);
    answer.ids.push_back(id);
    if (fused_ != nullptr && answer.ids.size() == 1) {
      fused_->begin_sampling(
          sampler_.rule(), sampler_.next_draws(std::min(options_.max_new_tokens, cache_.context())),
          sequence_);
    }
    std::string shown;
    if (tokenizer_ != nullptr && !tokenizer_->is_special(id) && !is_end_token(id)) {
      shown = text.push(tokenizer_->token_bytes(id));
    }
    const auto reason = why_stop(answer, text);
    refuse_collapsed(answer.ids, reason.has_value());
    if (reason) shown += text.finish();
    answer.text += shown;
    answer.timing.decode_seconds += watch.lap();
    on_token(id, shown);
    if (reason) {
      answer.stop_reason = *reason;
      sampler_.skip_draws(std::exchange(draws_used_, 0));
      if (!logits_.defined()) logits_ = fused_->logits().cpu();
      answer.logits_hash = fnv1a(std::as_bytes(last_logits()));
      return answer;
    }
    (void)watch.lap();  // the callback's time is not ours
    answer.timing.decode_bytes += pending_bytes();
    ++answer.timing.decode_tokens;
    if (fused_ != nullptr) {
      run_last_fused();
    } else {
      (void)run_pending();
    }
  }
}

std::int64_t Generator::restore(const SavedSession& session, std::span<const std::int64_t> ids) {
  assert(sequence_.empty());
  const std::int64_t count = session.restore(ids, cache_);
  sequence_.assign(ids.begin(), ids.begin() + count);
  return count;
}

void Generator::save(const std::filesystem::path& path, const std::string& fingerprint) const {
  const auto cached =
      std::span<const std::int64_t>(sequence_).first(static_cast<std::size_t>(cache_.length()));
  save_session(
      path,
      {model_.config(), fingerprint, cache_.keys().scalar_type(), model_.backend().linear_mode()},
      cached, cache_);
}

void Generator::restart(std::uint64_t seed) {
  sequence_.clear();
  cache_.truncate(0);
  sampler_.reseed(seed);
}

void Generator::close_turn(std::int64_t end_token) {
  assert(!sequence_.empty() && static_cast<std::int64_t>(sequence_.size()) > cache_.length());
  if (sequence_.back() == end_token) return;
  if (is_end_token(sequence_.back())) {
    sequence_.back() = end_token;
  } else {
    sequence_.push_back(end_token);
  }
}

}  // namespace qf
