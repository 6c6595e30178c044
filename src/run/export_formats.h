#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <vector>

#include "qwen3fp4/formats/gguf.h"
#include "qwen3fp4/model/weights.h"
#include "qwen3fp4/run/checkpoint_source.h"

// What the two writers of export_checkpoint.h share.
namespace qf {

// A weight of the inventory and how it is stored: packed as NVFP4, or dense in its float type.
struct ExportedWeight {
  WeightSpec spec;
  const CheckpointTensor* source = nullptr;  // borrows from the CheckpointSource
  [[nodiscard]] bool packed() const { return !source->float_type.has_value(); }
};

// Every weight of the source in the inventory's order, refusing what neither format holds.
[[nodiscard]] std::vector<ExportedWeight> exported_weights(const CheckpointSource& source);

// Dense values in the source's own type.
[[nodiscard]] at::Tensor dense_values(const CheckpointSource& source, const ExportedWeight& weight);
[[nodiscard]] std::span<const std::byte> bytes_of(const at::Tensor& tensor);

// Called before each weight.
using BeforeWeight = std::function<void(const ExportedWeight&)>;

void write_safetensors_folder(const CheckpointSource& source,
                              const std::vector<ExportedWeight>& weights,
                              const std::filesystem::path& folder, const BeforeWeight& before);

// Throws for what a GGUF cannot say.
[[nodiscard]] GgufWriter::Metadata gguf_metadata(const CheckpointSource& source);
void check_gguf_weights(const CheckpointSource& source, const std::vector<ExportedWeight>& weights);
void write_gguf(const CheckpointSource& source, const std::vector<ExportedWeight>& weights,
                const std::filesystem::path& file, const BeforeWeight& before);

}  // namespace qf
