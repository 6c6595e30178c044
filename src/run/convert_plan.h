#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "qwen3fp4/model/weights.h"
#include "qwen3fp4/run/convert.h"

namespace qf {

struct PlannedTensor {
  WeightSpec spec;
  std::string family;
  const CheckpointTensor* source = nullptr;  // borrows from the CheckpointSource
  WeightFormat format = WeightFormat::kF32;  // as it is written
};

// Everything that can be refused without reading a payload has been refused.
struct ConvertPlan {
  std::vector<PlannedTensor> tensors;  // the inventory's order
  std::int64_t entry_count = 0;        // of model.dat
  std::int64_t values = 0;
  bool unties_head = false;       // the head is written from a tied embedding
  bool config_says_tied = false;  // although model.dat has a head of its own

  [[nodiscard]] bool config_json_changed() const { return config_says_tied; }
};

[[nodiscard]] ConvertPlan plan_conversion(const CheckpointSource& source,
                                          const ConvertOptions& options);

}  // namespace qf
