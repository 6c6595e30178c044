#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

#include "qwen3fp4/model/qwen3_model.h"

namespace qf {

// Runs `ids` in one piece and writes `ids` i64 [T] and `logits` f32 [T, vocab] to a safetensors
// file. Logits are written as they are, finite or not.
void dump_logits(const Qwen3Model& model, std::span<const std::int64_t> ids,
                 const std::filesystem::path& out);

}  // namespace qf
