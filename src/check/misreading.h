#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "qwen3fp4/check/fault.h"
#include "qwen3fp4/quant/weight_matrix.h"

namespace qf {

// A way in which readers have really misread a packed weight.
struct Misreading {
  std::string_view fault;  // its name in faults()
  std::string_view sentence;
  FaultClass fault_class;
  // What such a reader would have in its hands; nothing where the format does not know the mistake.
  std::optional<WeightMatrix> (*apply)(const WeightMatrix&);
};
[[nodiscard]] const std::vector<Misreading>& misreadings();

// Exchanges half-split and interleaved order of the rows of each head, as converters for GGUF's
// llama do for q and k: row i of the first half becomes row 2i.
[[nodiscard]] WeightMatrix interleave_head_rows(const WeightMatrix& weight, std::int64_t head_dim);
[[nodiscard]] WeightMatrix with_global_scale(const WeightMatrix& weight, float global_scale);

}  // namespace qf
