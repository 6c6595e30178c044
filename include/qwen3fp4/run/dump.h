#pragma once

#include <cstdint>
#include <filesystem>
#include <span>

#include "qwen3fp4/model/qwen3_model.h"
#include "qwen3fp4/run/name_filter.h"

namespace qf {

// Runs `ids` in one piece and writes a safetensors file: `ids` i64 [T], `logits` f32 [T, vocab],
// and the f32 output of every module that `taps` picks, under its Hugging Face path, without the
// batch dimension. Values are written as they are, finite or not. Memory: the logits and those
// outputs.
void dump(const Qwen3Model& model, std::span<const std::int64_t> ids, NameFilter& taps,
          const std::filesystem::path& out);

}  // namespace qf
