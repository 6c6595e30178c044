#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "qwen3fp4/quant/weight_matrix.h"

namespace qf {

struct Nvfp4Options {
  bool search = true;     // block scales by least squared error instead of amax/6
  bool two_level = true;  // false: --compat, no tensor scale (global_scale 1)
  // f32 [in], finite, >= 0: what the search multiplies a column's squared errors with; undefined:
  // all 1.
  at::Tensor column_weights = {};
};

// The one NVFP4 and the one NF4 quantiser: convert, calibration, training and export share them.
// `weight` f32 [out, in]; in a multiple of 16 (NVFP4), out*in even (NF4). Non-finite weights throw.
[[nodiscard]] WeightMatrix quantize_nvfp4(const at::Tensor& weight, const Nvfp4Options& options);
// Plain absmax, blocks of 64 flattened elements, bitsandbytes' code book.
[[nodiscard]] WeightMatrix quantize_nf4(const at::Tensor& weight);

// Rows compared at a time in relative_rms_error, so that no second whole matrix is held.
inline constexpr std::int64_t kErrorChunkRows = 1024;
// ||dequantised - weight|| / ||weight||, in double; 0 for an all-zero weight.
[[nodiscard]] double relative_rms_error(const WeightMatrix& quantised, const at::Tensor& weight);

}  // namespace qf
