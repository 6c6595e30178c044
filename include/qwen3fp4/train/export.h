#pragma once

#include <filesystem>

#include "qwen3fp4/train/model_weights.h"

namespace qf {

struct ExportOptions {
  bool replace = false;      // an existing model folder
  bool tensor_scale = true;  // false: for readers that do not know scale_2; needs scales of 1
};

// Writes a model folder: the weights exactly as the training forward reads them (codes and scales
// as they are, nothing is quantised again), and the papers (config, tokenizer, ...) of the folder
// `papers`. Appears whole or not at all.
void export_model(const ModelWeights& model, const std::filesystem::path& papers,
                  const std::filesystem::path& destination, const ExportOptions& options);
// Makes `kept`, a folder that export_model() wrote beside `destination`, the one at `destination`.
void adopt_export(const std::filesystem::path& kept, const std::filesystem::path& papers,
                  const std::filesystem::path& destination, bool replace);
// What export_model() would refuse about the destination (exit code 2), and whether a folder can be
// made there, before a long run.
void check_export(const std::filesystem::path& papers, const std::filesystem::path& destination,
                  const ExportOptions& options);
// Likewise about the weights.
void check_export(const ModelWeights& model, const ExportOptions& options);

}  // namespace qf
