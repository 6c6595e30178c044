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
  std::string_view module;
  std::int64_t layer = 0;
  const Operation& operation;
  const WeightMatrix* weight_b;  // where it is not the operation's own, as without faults
  const at::Tensor& ref;
  const at::Tensor& got;
  const TapStatistics& statistics;
  const Qwen3Model& model;    // a's
  const Qwen3Model& model_b;  // b's, without faults
};

struct Diagnosis {
  FaultClass fault_class = FaultClass::kUnknown;
  std::string evidence;
};

// Computes the operation again with each mistake that is known, and says which one gives what b
// gave; where none does, what the numbers look like.
[[nodiscard]] Diagnosis diagnose(const Suspect& suspect);

}  // namespace qf
