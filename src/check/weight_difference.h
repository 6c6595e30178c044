#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "qwen3fp4/model/config.h"
#include "qwen3fp4/quant/weight_matrix.h"

namespace qf {

// The same numbers, however they are stored: two NaN count as one number.
[[nodiscard]] bool same_values(const at::Tensor& a, const at::Tensor& b);
[[nodiscard]] bool same_values(const WeightMatrix& a, const WeightMatrix& b);

// Whether rounding to a format can be why the values differ. Not where both are of one format (and
// block layout): then one of them is another model's.
[[nodiscard]] bool of_unlike_formats(const at::Tensor& a_norm, const at::Tensor& b_norm);
[[nodiscard]] bool of_unlike_formats(const WeightMatrix& a, const WeightMatrix& b);

// What of two weights of one shape that are not the same differs, in words.
[[nodiscard]] std::string describe_difference(const at::Tensor& a_norm, const at::Tensor& b_norm);
[[nodiscard]] std::string describe_difference(const WeightMatrix& a, const WeightMatrix& b);

// The fields that the forward pass computes with and that are not the same: "rms_norm_eps 1e-06 and
// 1e-05"; empty: none.
[[nodiscard]] std::string describe_difference(const ModelConfig& a, const ModelConfig& b);

}  // namespace qf
