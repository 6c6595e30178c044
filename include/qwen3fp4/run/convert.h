#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/memory/plan.h"
#include "qwen3fp4/quant/weight_matrix.h"
#include "qwen3fp4/run/checkpoint_source.h"

namespace qf {

struct ConvertOptions {
  // kNvfp4, kNf4: projections and the head; embedding and norms stay floats of the source's type.
  // kF32, kF16, kBF16: every tensor.
  WeightFormat format = WeightFormat::kNvfp4;
  bool search_scales = true;  // NVFP4: block scales by least squared error instead of amax/6
  bool compat = false;        // NVFP4: single-level file, without the tensor scale
  std::string keep;           // ECMAScript regex; a tensor whose name it finds keeps its float type
  bool replace = false;       // an existing model folder
  // NVFP4 with searched scales: what weights the squared errors of a weight's columns, f32 [in], by
  // the weight's name; empty: all 1. Otherwise every weight that is quantised must be there, and a
  // source that is packed already is refused: copying it would leave them unused.
  std::map<std::string, at::Tensor> column_weights = {};
};

struct ConvertedFamily {
  std::string name;       // "q_proj", ..., "lm_head"; "norm" for all norms
  std::string stored_as;  // "nvfp4", "bf16", or "mixed"
  std::int64_t tensors = 0;
  std::int64_t values = 0;
  std::int64_t bytes = 0;  // payloads in model.dat
  // sqrt(sum of squared errors / sum of squares) over all values of the family, against the source.
  double relative_rms_error = 0;
};

struct ConvertReport {
  std::vector<ConvertedFamily> families;  // in the inventory's order
  std::int64_t bytes = 0;
  bool head_untied = false;  // a tied head was written beside the embedding
  std::vector<std::string> notes;
};

// (values done, values in all, the tensor that comes next)
using ConvertProgress = std::function<void(std::int64_t, std::int64_t, std::string_view)>;

// Writes `destination`: model.dat, config.json and the source's side files. The folder appears
// whole or not at all. Every tensor of the inventory exactly once; gaps, leftovers, wrong shapes,
// widths that the format cannot hold are refused by name before anything is written. Holds one
// tensor at a time.
ConvertReport convert_checkpoint(const CheckpointSource& source,
                                 const std::filesystem::path& destination,
                                 const ConvertOptions& options,
                                 const ConvertProgress& progress = {});

// What that takes, from the source's headers.
[[nodiscard]] MemoryPlan plan_conversion_memory(const CheckpointSource& source);

// What convert_checkpoint() would refuse before it writes, ahead of work that only it needs.
void check_conversion(const CheckpointSource& source, const std::filesystem::path& destination,
                      const ConvertOptions& options);

// Refuses (exit code 2) a folder to write whose replacement would delete `source`, from which it is
// made, or something that is no model; and an existing one without `replace`.
void check_destination(const std::filesystem::path& source,
                       const std::filesystem::path& destination, bool replace);

}  // namespace qf
