#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "path_runner.h"
#include "qwen3fp4/train/model_weights.h"
#include "qwen3fp4/train/packed_rows.h"

namespace qf {

// Training's forward pass, of the whole sequence at once. Taps get and give f32 in main memory,
// wherever the pass computes. Memory: its weights, shared where they are on the backend's device,
// and one block's of the compute type.
class TrainRunner final : public StageRunner {
 public:
  // Borrows all. `dtype`: kF32 or kBF16.
  TrainRunner(const Qwen3Model& model, const Backend& backend, ComputeDtype dtype,
              std::span<const std::int64_t> ids, RowTap tap);
  void run(std::int64_t stage, const std::function<void(std::int64_t)>& before_piece) override;

 private:
  ModelWeights weights_;
  PackedRows rows_;
  at::ScalarType type_;
  RowTap tap_;
  at::Tensor x_ND_;
};

// The weights of a loaded model as training has them, frozen, on the backend's device.
[[nodiscard]] ModelWeights frozen_weights(const Qwen3Model& model, const Backend& backend);

}  // namespace qf
