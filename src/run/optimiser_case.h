#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "qwen3fp4/kernels/cpu/adam_step.h"
#include "qwen3fp4/quant/weight_matrix.h"

namespace qf {

// A synthetic NVFP4 weight with the states that a profile of the optimiser has, on one device.
class OptimiserCase {
 public:
  OptimiserCase(AdamProfile profile, std::int64_t rows, std::int64_t cols, at::Device device);
  // Borrows from this object's tensors.
  [[nodiscard]] const AdamWeight& weight() const { return weight_; }
  // What a step reads and writes beside the gradient.
  [[nodiscard]] std::int64_t moved_bytes() const;
  // Somewhere in a run.
  [[nodiscard]] static AdamRule rule();

 private:
  WeightMatrix packed_;
  std::vector<at::Tensor> states_;  // read and written
  at::Tensor v_columns_;            // read
  AdamWeight weight_{};
};

}  // namespace qf
