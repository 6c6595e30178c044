#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/model/fused_decoder.h"
#include "qwen3fp4/model/kv_cache.h"
#include "qwen3fp4/model/qwen3_model.h"
#include "qwen3fp4/run/sampler.h"
#include "qwen3fp4/run/session.h"
#include "qwen3fp4/run/text_stream.h"
#include "qwen3fp4/text/tokenizer.h"

namespace qf {

enum class PrefillMode { kWhole, kToken };
enum class StopReason { kEndToken, kLength, kStopString, kContext, kInterrupted };
// "end_token", "length", "stop_string", "context", "interrupted"
[[nodiscard]] std::string_view stop_reason_name(StopReason reason);

struct GeneratorOptions {
  SamplingOptions sampling;
  std::vector<std::string> stop;         // the answer ends before any of these
  std::vector<std::int64_t> end_tokens;  // empty: only the other reasons stop
  std::int64_t max_new_tokens = 256;     // per answer
  std::int64_t context = 0;              // tokens that the KV cache holds
  KvCacheType kv_cache = KvCacheType::kAuto;
  bool use_kv_cache = true;  // false: every token replays the whole sequence
  bool fused = true;         // decode in one kernel a token where there is one
  PrefillMode prefill = PrefillMode::kWhole;
};

struct GenerateTiming {
  std::int64_t prefill_tokens = 0;  // run before the answer's first token
  std::int64_t decode_tokens = 0;   // one less than the answer's: prefill gives the first
  double prefill_seconds = 0;
  double decode_seconds = 0;
  std::int64_t decode_bytes = 0;  // weights, keys and values that decoding read
};

struct Answer {
  std::vector<std::int64_t> ids;  // with the end token, if there was one
  std::string text;               // without special tokens and stop string; empty without tokenizer
  StopReason stop_reason = StopReason::kLength;
  GenerateTiming timing;
  std::uint64_t logits_hash = 0;  // FNV-1a over the bits of the last token's logits
};

// Gets each token as it is chosen, with the text that can be shown by now (often empty).
using TokenCallback = std::function<void(std::int64_t id, std::string_view text)>;

// One growing sequence of tokens on one KV cache: answer() appends a turn's ids and the model's
// answer to them. Only what the cache does not hold yet is run.
class Generator {
 public:
  // `model` and `tokenizer` must outlive it. Without a tokenizer (nullptr) every id of the model
  // may be sampled; with one, only ids that have a token.
  Generator(const Qwen3Model& model, const Tokenizer* tokenizer, GeneratorOptions options);

  // Throws with exit code 3 when logits are not finite (naming the first module that produced such
  // a value) or the answer is nothing but token 0. An interrupt ends the answer after its token.
  [[nodiscard]] Answer answer(std::span<const std::int64_t> ids, const TokenCallback& on_token);

  // After an answer: makes the sequence end in `end_token`, as a chat template has it. Appends it
  // when the answer stopped for another reason; replaces another end token (<|endoftext|>).
  void close_turn(std::int64_t end_token);

  // Forgets everything: answers as one that is made anew with this seed.
  void restart(std::uint64_t seed);

  // Before the first answer: takes the beginning of `ids` from a session, which answer() is then to
  // be called without. Returns how many.
  [[nodiscard]] std::int64_t restore(const SavedSession& session,
                                     std::span<const std::int64_t> ids);
  // What the cache holds, as a session.
  void save(const std::filesystem::path& path, const std::string& fingerprint) const;

  [[nodiscard]] const std::vector<std::int64_t>& sequence() const { return sequence_; }
  [[nodiscard]] const KvCache& cache() const { return cache_; }
  // How tokens are decoded, for --verbose: "one kernel a token", or why not.
  [[nodiscard]] std::string decode_description() const;

 private:
  void append(std::span<const std::int64_t> ids);
  std::int64_t run_pending();
  void run_last_fused();
  [[nodiscard]] at::Tensor forward_pending();
  [[nodiscard]] std::int64_t choose();
  [[nodiscard]] std::span<const float> last_logits() const;
  [[nodiscard]] std::int64_t pending_bytes() const;
  [[nodiscard]] bool is_end_token(std::int64_t id) const;
  [[nodiscard]] std::optional<StopReason> why_stop(const Answer& answer,
                                                   const TextStream& text) const;

  const Qwen3Model& model_;
  const Tokenizer* tokenizer_;
  GeneratorOptions options_;
  Sampler sampler_;
  KvCache cache_;
  std::unique_ptr<FusedDecoder> fused_;
  std::string why_not_fused_;
  std::vector<std::int64_t> sequence_;  // the cache holds its first cache_.length() tokens
  // Of the last token: logits f32 [1, vocab] in main memory, or the greedy choice alone.
  at::Tensor logits_;
  std::optional<std::int64_t> choice_;
  std::int64_t draws_used_ = 0;  // by the device, in this answer
};

}  // namespace qf
