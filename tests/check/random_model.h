#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "qwen3fp4/backend/reference.h"
#include "qwen3fp4/model/qwen3_model.h"

namespace qf::test {

// A random model in memory: any shape that Qwen3 or the Llama family may have, with weights as
// trained models have them (spread of 1/sqrt(inputs), a few large channels, norms around 1).
struct RandomModel {
  std::uint32_t seed = 1;
  std::int64_t layers = 3;
  WeightFormat format = WeightFormat::kNvfp4;  // of linears and the head
  bool bf16_norms = false;                     // stored as bf16 instead of f32

  [[nodiscard]] Qwen3Model make() const;
};

// Borrowed by the models that make() returns.
[[nodiscard]] const Backend& reference_backend();

// `count` ids of the model.
[[nodiscard]] std::vector<std::int64_t> random_ids(const Qwen3Model& model, std::int64_t count,
                                                   std::uint32_t seed);

}  // namespace qf::test
