#pragma once

#include <cstdint>
#include <optional>

#include "qwen3fp4/model/model_folder.h"
#include "qwen3fp4/run/sampler.h"

namespace qf {

// What a user may set; empty fields leave it to the model.
struct SamplingOverrides {
  std::optional<double> temperature = std::nullopt;
  std::optional<std::int64_t> top_k = std::nullopt;
  std::optional<double> top_p = std::nullopt;
  std::optional<double> min_p = std::nullopt;
  std::optional<double> repetition_penalty = std::nullopt;
  std::uint64_t seed = 0;
};

// The overrides, then generation_config.json, then off. Greedy unless a temperature is set on
// either side; do_sample=false there makes its temperature count for nothing. Overriding top-k,
// top-p or min-p without a temperature asks for sampling all the same: at the file's temperature,
// or 1.
[[nodiscard]] SamplingOptions resolve_sampling(const GenerationConfig& config,
                                               const SamplingOverrides& overrides);

}  // namespace qf
