#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "qwen3fp4/model/kv_cache.h"
#include "qwen3fp4/model/qwen3_model.h"
#include "qwen3fp4/text/tokenizer.h"

// What holds for every answer, whether one is made at a time or many.
namespace qf {

// By id: whether it may be chosen. Without a tokenizer (nullptr) all may, else those that have a
// token.
[[nodiscard]] std::vector<bool> allowed_ids(const Qwen3Model& model, const Tokenizer* tokenizer);

// Throws (exit code 3) for an answer of token 0 alone. Argmax over logits that went wrong (NaN
// compares false, zeros tie) is token 0, in most vocabularies "!": an answer `!!!!` that otherwise
// looks like a success.
void refuse_collapsed(const std::vector<std::int64_t>& ids, bool stopped);

// Throws (exit code 3): the logits behind `sequence` were not finite; names the first module that
// produced such a value. Runs the sequence again from `first` on, over a cache that holds what is
// before.
[[noreturn]] void refuse_non_finite(const Qwen3Model& model, KvCache& cache,
                                    std::span<const std::int64_t> sequence, std::int64_t first);

}  // namespace qf
