#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "qwen3fp4/backend/backend.h"
#include "qwen3fp4/model/config.h"

// Operations as wrong implementations compute them: for injecting faults and for recognising them.
namespace qf {

// Rotates features 2i and 2i+1 instead of i and i + E/2.
[[nodiscard]] at::Tensor rope_interleaved(const Backend& backend, const at::Tensor& x_THE,
                                          const at::Tensor& cos_TE, const at::Tensor& sin_TE);
// Positions first, first + 1, ... with another base.
[[nodiscard]] at::Tensor rope_with_base(const Backend& backend, const at::Tensor& x_THE,
                                        const ModelConfig& config, double base, std::int64_t first);
// Every token sees `extra` positions more (or, negative, fewer) than the causal mask allows; one
// that would see nothing gives zeros.
[[nodiscard]] at::Tensor attention_seeing(const Backend& backend, const at::Tensor& q_THE,
                                          const at::Tensor& k_SKE, const at::Tensor& v_SKE,
                                          std::int64_t extra);
// Position p holds what belongs to p - 1; position 0 holds zeros.
[[nodiscard]] at::Tensor one_late(const at::Tensor& cached_SKE);
// Kept in fp16 in units of `unit`: what exceeds 65504 of them becomes infinite.
[[nodiscard]] at::Tensor kept_in_fp16(const at::Tensor& y, double unit);

}  // namespace qf
