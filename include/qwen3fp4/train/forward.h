#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "qwen3fp4/train/model_weights.h"
#include "qwen3fp4/train/packed_rows.h"

// A whole forward pass over packed sequences, block by block. Equals Qwen3Model::forward of each
// sequence alone, but for rounding.
namespace qf {

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
