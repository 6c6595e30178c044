#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/formats/dat.h"
#include "qwen3fp4/quant/weight_matrix.h"

namespace qf {

// The entries of a `.dat` file that together hold one packed weight. For a prefix P (a module's
// path) NVFP4 is P.weight.qdata + P.weight.scale [+ P.weight.scale_2], or P.qdata + P.scale [+
// P.scale_2]; NF4 is P.weight + P.weight.absmax + P.weight.quant_map [+ nested_absmax,
// nested_quant_map, quant_state.bitsandbytes__nf4], or P.weight + P.absmax + P.quant_map. In any
// order.
struct PackedGroup {
  std::string weight;  // "P.weight"
  WeightFormat format = WeightFormat::kNvfp4;
  // [out, in]; for NF4 without a quant_state only [elements] is known.
  std::vector<std::int64_t> shape;
  std::string codes, scales;         // entry names; `scales` may be missing from the file
  std::string extra_prefix;          // of scale_2, quant_map, ...: "P.weight." or "P."
  std::vector<std::string> entries;  // every entry of the group that the file has
  std::string problem;               // why it cannot be loaded, one sentence; empty when it can
};

// Independent of any model: every group of a file, in file order.
[[nodiscard]] std::vector<PackedGroup> packed_groups(const DatReader& file);

// Reads a group as a weight of `shape` [out, in]; throws with the group's problem or when the
// shapes disagree.
[[nodiscard]] WeightMatrix load_packed(const DatReader& file, const PackedGroup& group,
                                       const std::vector<std::int64_t>& shape);

// Writes a weight in main memory (NVFP4, NF4 or dense) as the entries that the readers above know;
// NVFP4 without `tensor_scale` needs a global scale of 1. Returns the bytes of the payloads.
std::int64_t write_weight(DatWriter& out, const std::string& name, const WeightMatrix& weight,
                          bool tensor_scale);
// How many entries that is.
[[nodiscard]] std::int64_t entries_of(WeightFormat format, bool tensor_scale);

// Reads an f32, f16 or bf16 entry of exactly `shape` into a tensor of that type.
[[nodiscard]] at::Tensor load_float_tensor(const DatReader& file, const TensorInfo& entry,
                                           const std::vector<std::int64_t>& shape);

}  // namespace qf
