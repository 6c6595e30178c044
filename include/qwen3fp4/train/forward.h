#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "qwen3fp4/train/model_weights.h"
#include "qwen3fp4/train/packed_rows.h"

// A whole forward pass over packed sequences, block by block. Equals Qwen3Model::forward of each
// sequence alone, but for rounding.
namespace qf {

// One pass, a stage at a time, as ForwardPass is of inference: embed(), layer() for each layer in
// order, final_norm() and logits() of any rows.
class TrainingPass {
 public:
  // Borrows model and rows. `type`: the compute type, f32 or bf16. `tap` sees the modules of
  // ForwardPass's, with all rows, on the model's device and of the type that is handed on, and must
  // return that type; `self_attn` and `mlp`, which hand on what their last linear gives, have none.
  TrainingPass(const ModelWeights& model, const PackedRows& rows, at::ScalarType type,
               Tap tap = {});
  // The residual stream [N, D], which blocks hand over in the compute type.
  [[nodiscard]] at::Tensor embed() const;
  [[nodiscard]] at::Tensor layer(std::int64_t index, const at::Tensor& x_ND) const;
  [[nodiscard]] at::Tensor final_norm(const at::Tensor& x_MD) const;  // f32 [M, D]
  // f32 [M, V] of rows of final_norm()'s result: what the loss computes chunk by chunk.
  [[nodiscard]] at::Tensor logits(const at::Tensor& hidden_MD) const;

 private:
  const ModelWeights& model_;
  const PackedRows& rows_;
  at::ScalarType type_;
  Tap tap_;
};

// The residual stream behind the last block, [N, D] in the compute type (f32 or bf16), in which
// every block hands over its output.
[[nodiscard]] at::Tensor run_blocks(const ModelWeights& model, const PackedRows& rows,
                                    at::ScalarType type);

struct FinalNorm {
  at::Tensor hidden_MD;  // f32
  at::Tensor rstd;       // for the backward
};
// Of any rows of run_blocks(), as f32.
[[nodiscard]] FinalNorm final_norm(const ModelWeights& model, const at::Tensor& x_MD);

// Runs `rows` again and names the first module (as Qwen3Model's taps do) whose output is not
// finite; empty when there is none.
[[nodiscard]] std::string first_non_finite(const ModelWeights& model, const PackedRows& rows,
                                           at::ScalarType type);

}  // namespace qf
