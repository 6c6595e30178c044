#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "qwen3fp4/train/ask.h"

namespace qf {

// Has the speaker answer every prompt, each in a conversation of its own under its template's
// default system prompt. Returns JSONL for read_jsonl(), a line an answer, in the prompts' order;
// an answer that did not come to its end within options.max_new_tokens is marked truncated. When
// answers are drawn, prompt i is drawn with the seed + i. Empty answers are left out: nothing could
// be trained on them.
[[nodiscard]] std::string replay_jsonl(const Speaker& speaker, std::span<const std::string> prompts,
                                       const BatchOptions& options,
                                       const BatchProgress& progress = {});

}  // namespace qf
