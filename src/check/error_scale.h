#pragma once

#include <ATen/core/Tensor.h>

#include <array>

#include "operation.h"
#include "qwen3fp4/backend/emulated.h"

namespace qf {

// What may differ between two computations of the same operation on the same inputs.
struct Arithmetics {
  ComputeDtype a = ComputeDtype::kF32;
  ComputeDtype b = ComputeDtype::kF32;
  // One side quantises the inputs of linears with NVFP4 weights to NVFP4, the other does not.
  bool quantised_activations = false;
  // What each side rounds the inputs of linears, NF4's weights, queries, keys, values and weights
  // of the softmax to, for tensor cores (the backend `cuda` with a 16-bit dtype).
  std::array<ComputeDtype, 2> operands{};
  // What each side hands its results on in where every operation reads them so (training; else an
  // operation's inputs are compared as they are): inputs of the other operations and embedding rows
  // are rounded to it.
  std::array<ComputeDtype, 2> handed_on{};
};

// How far two correct results of one operation may be apart, element by element (doc/ab_check.md
// derives each formula). `rounding`: scale of the accumulated rounding errors. `quantisation`:
// scale of the errors of values that were rounded to few bits; undefined where there are none.
// Both f32 of the result's shape.
struct ErrorScale {
  at::Tensor rounding;
  at::Tensor quantisation;
};

// Path b's weight of an operation where it is not the same; at most one of the two.
struct OtherWeight {
  const WeightMatrix* matrix = nullptr;
  const at::Tensor* norm = nullptr;
};

// `y`: the operation's result.
[[nodiscard]] ErrorScale error_scale(const Operation& operation, const at::Tensor& y,
                                     const Arithmetics& arithmetics, const OtherWeight& other);

// The unit roundoff of the narrowest type that holds all values: what a norm was stored as.
[[nodiscard]] double stored_unit(const at::Tensor& values);

// f32 [out, in]: half the distance to the next value that the format can hold, 1.5 code steps where
// the largest code may have clipped.
[[nodiscard]] at::Tensor half_steps(const WeightMatrix& weight);

}  // namespace qf
