#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "operation.h"
#include "qwen3fp4/check/ab_check.h"

namespace qf {

// An operation that went wrong: what it was given, what it should have given and what it gave.
struct Suspect {
  std::string_view who;  // for sentences: "b", "path a", "the file"
  std::int64_t layer = 0;
  const Operation& operation;
  const WeightMatrix* weight;  // the suspect's; nullptr: the operation's own
  const at::Tensor& ref;
  const at::Tensor& got;
  const TapStatistics& statistics;
  const Qwen3Model& model;  // the suspect's, as it is without injected faults
  const Qwen3Model& right_model;
};

struct Diagnosis {
  FaultClass fault_class = FaultClass::kUnknown;
  std::string evidence;
};

// Computes the operation again with each mistake that is known, and says which one gives what the
// suspect gave; where none does, what the numbers look like.
[[nodiscard]] Diagnosis diagnose(const Suspect& suspect);

}  // namespace qf
