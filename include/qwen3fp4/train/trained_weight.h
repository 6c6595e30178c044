#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "qwen3fp4/quant/weight_matrix.h"

namespace qf {

// What one step does to every weight; shared by all tensors of the step.
struct AdamStep {
  double learning_rate = 0;
  double beta1 = 0.9;
  double beta2 = 0.99;
  double epsilon = 1e-8;
  double weight_decay = 0;    // decoupled (AdamW)
  double gradient_scale = 1;  // multiplies the gradient first: clipping
  std::int64_t step = 1;      // counts from 1, for the bias corrections
  std::uint64_t seed = 0;
};

// kFp32: f32 master, m and v; the reference. The others: doc/training.md.
enum class TrainProfile { kFp32, kExact, kDefault, kMin };
// fp32, exact, default, min. Throws (exit code 2), listing them, for another name.
[[nodiscard]] TrainProfile train_profile(std::string_view name);
[[nodiscard]] std::string_view train_profile_name(TrainProfile profile);

// Gets the tensors of a checkpoint by name. To load one it copies into them (Tensor::copy_): they
// stay the tensors that they are.
using StateVisitor = std::function<void(const std::string& name, at::Tensor& tensor)>;

// A weight [out, in] that is being trained: what the forward reads, and the optimiser's states.
class TrainedWeight {
 public:
  TrainedWeight() = default;
  TrainedWeight(const TrainedWeight&) = delete;
  TrainedWeight& operator=(const TrainedWeight&) = delete;
  virtual ~TrainedWeight() = default;

  // What the forward reads now, and what an export writes. Shares the storage that step() writes.
  [[nodiscard]] virtual const WeightMatrix& weight() const = 0;
  // [count, in] of `dtype` (f32 or bf16): rows first .. first + count - 1 as the forward reads
  // them.
  [[nodiscard]] virtual at::Tensor dequantize_rows(std::int64_t first, std::int64_t count,
                                                   at::ScalarType dtype) const = 0;
  // gradient [count, in], f32 or bf16, on the weight's device, of those rows. Every row once a
  // step, from the first to the last; cuts into rows never change a bit. `squares`, f32 [count,
  // squares_per_row()] or undefined, gets sums of the squares of parts of the gradient's rows.
  virtual void step_rows(std::int64_t first, const at::Tensor& gradient, const AdamStep& step,
                         const at::Tensor& squares) = 0;
  // 0: a step tells none.
  [[nodiscard]] virtual std::int64_t squares_per_row() const { return 0; }
  // Called once after the last row of a step (factored states).
  virtual void finish_step(const AdamStep& step) = 0;
  // Every tensor that steps change, for checkpoints: "codes", "m", "v_scales", ...
  virtual void visit_states(const StateVisitor& visit) = 0;
  // Bytes of states beside weight().bytes().
  [[nodiscard]] virtual std::int64_t state_bytes() const = 0;
};

struct TrainedWeightOptions {
  TrainProfile profile = TrainProfile::kDefault;
  // The weight's number in the model: no two weights have the same random numbers.
  std::uint32_t tensor = 0;
  // f32 or bf16 [out, in] in main memory: where the weights start inside their cells
  // (--init-master). Undefined: anywhere inside, at random (dither). Codes stay what they are.
  at::Tensor master = {};
  std::uint64_t seed = 0;  // of the dither
  // On a CUDA device: the states stay in pinned main memory, which the step reaches over the bus.
  bool offload_moments = false;
  bool offload_master = false;
};

// Tensors with fewer elements keep f32 states in every profile.
inline constexpr std::int64_t kPackedStatesLeast = 4096;

// TrainedWeight::state_bytes() of a weight [rows, cols] before there is one.
[[nodiscard]] std::int64_t state_bytes(TrainProfile profile, WeightFormat format, std::int64_t rows,
                                       std::int64_t cols);

// Copies the codes of `weight`, which is NVFP4 with E4M3 scales in rows, or dense (f32, f16, bf16:
// an f32 master and f32 states in every profile); refuses others. It trains on the weight's device.
[[nodiscard]] std::unique_ptr<TrainedWeight> make_trained_weight(
    const WeightMatrix& weight, const TrainedWeightOptions& options);

}  // namespace qf
