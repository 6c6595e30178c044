#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "qwen3fp4/train/model_weights.h"
#include "qwen3fp4/train/trained_weight.h"

namespace qf {

// Where the gradients of one step go: measured, given to the weight's optimiser, forgotten. Those
// of several micro-batches are added up first, in f32, for as long as their block is at work.
class GradientStep {
 public:
  struct Options {
    bool apply = true;  // false: only measured
    std::int64_t micro_batches = 1;
    std::int64_t chunk_rows = 0;  // 0: all
    AdamStep adam = {};
  };
  explicit GradientStep(Options options) : options_(options) {}

  // The gradient of one micro-batch: dy_NO transposed times x_NI.
  void linear(const ModelWeight& weight, const at::Tensor& dy_NO, const at::Tensor& x_NI);
  void gradient(const ModelWeight& weight, const at::Tensor& gradient);
  // After the last micro-batch of a block.
  void end_block();
  // Rows of a weight's gradient over all micro-batches; `last` with the last of them.
  void rows(const ModelWeight& weight, std::int64_t first, const at::Tensor& gradient, bool last);

  // The global norm of everything so far; waits for the device. Throws (exit code 3), naming the
  // first weight, when it is not finite.
  [[nodiscard]] double norm() const;

 private:
  at::Tensor& sum_of(const ModelWeight& weight);
  // Where the sum of squares of the next gradient goes, in parts.
  at::Tensor next_parts(const ModelWeight& weight, at::Device device);

  Options options_;
  std::vector<std::pair<const ModelWeight*, at::Tensor>> sums_;
  // Rows of the last one and of all before, f32 [kSquaresAtATime, parts]: the sums of squares of
  // what was measured, in parts.
  std::vector<at::Tensor> squares_;
  std::vector<const ModelWeight*> measured_;
};

}  // namespace qf
