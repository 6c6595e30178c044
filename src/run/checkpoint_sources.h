#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "qwen3fp4/run/checkpoint_source.h"

namespace qf {

// compressed-tensors' name of NVFP4 in safetensors (doc/formats.md).
inline constexpr std::string_view kCompressedNvfp4 = "nvfp4-pack-quantized";
// Where our safetensors exports keep a module's tensor scale in the metadata, as text with all its
// bits.
[[nodiscard]] inline std::string exact_scale_key(std::string_view module) {
  return "qwen3fp4." + std::string(module) + ".scale_2";
}

// One implementation a file of its name; open_checkpoint() chooses.
[[nodiscard]] std::unique_ptr<CheckpointSource> open_safetensors(
    const std::filesystem::path& folder);
[[nodiscard]] std::unique_ptr<CheckpointSource> open_gguf(const std::filesystem::path& file);
[[nodiscard]] std::unique_ptr<CheckpointSource> open_dat(const std::filesystem::path& folder,
                                                         const std::filesystem::path& weights);

}  // namespace qf
