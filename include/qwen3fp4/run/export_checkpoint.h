#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string_view>

#include "qwen3fp4/run/checkpoint_source.h"

namespace qf {

// A model as other programs read it. Both hold every code and scale as it is: open_checkpoint() of
// the result gives back the same weights, bit for bit.
enum class ExportFormat {
  // A Hugging Face folder; NVFP4 as the Python package compressed-tensors has it
  // ("nvfp4-pack-quantized", weights only), which transformers and vLLM load.
  kSafetensors,
  // One file; NVFP4 in GGML's type 40 with the tensor scales beside it, for llama.cpp since March
  // 2026.
  kGguf,
};
// "safetensors", "gguf"
[[nodiscard]] std::string_view export_format_name(ExportFormat format);

// (values done, values in all)
using ExportProgress = std::function<void(std::int64_t, std::int64_t)>;

// What export_checkpoint() refuses, before anything is written: NF4 weights, NVFP4 with scales that
// are not E4M3; in a GGUF rows that are no multiple of 64, a tokenizer whose kind GGUF has no name
// for, a rope that it cannot say; a destination that is there without `replace`, or cannot be
// written.
void check_export_checkpoint(const CheckpointSource& source,
                             const std::filesystem::path& destination, ExportFormat format,
                             bool replace);

// Writes the folder or file, which appears whole or not at all. Holds one tensor at a time.
void export_checkpoint(const CheckpointSource& source, const std::filesystem::path& destination,
                       ExportFormat format, bool replace, const ExportProgress& progress = {});

}  // namespace qf
