#pragma once

#include <filesystem>
#include <memory>

#include "qwen3fp4/run/checkpoint_source.h"

namespace qf {

// One implementation a file of its name; open_checkpoint() chooses.
[[nodiscard]] std::unique_ptr<CheckpointSource> open_safetensors(
    const std::filesystem::path& folder);
[[nodiscard]] std::unique_ptr<CheckpointSource> open_gguf(const std::filesystem::path& file);
[[nodiscard]] std::unique_ptr<CheckpointSource> open_dat(const std::filesystem::path& folder,
                                                         const std::filesystem::path& weights);

}  // namespace qf
