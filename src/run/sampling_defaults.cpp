#include "qwen3fp4/run/sampling_defaults.h"

namespace qf {
namespace {

double resolve_temperature(const GenerationConfig& config, const SamplingOverrides& overrides) {
  if (overrides.temperature) return *overrides.temperature;
  if (overrides.top_k || overrides.top_p || overrides.min_p) return config.temperature.value_or(1);
  // transformers' default temperature is 1 when do_sample stands alone.
  const bool samples = config.do_sample.value_or(config.temperature.has_value());
  return samples ? config.temperature.value_or(1) : 0;
}

}  // namespace

SamplingOptions resolve_sampling(const GenerationConfig& config,
                                 const SamplingOverrides& overrides) {
  const auto first = [](const auto& flag, const auto& file, auto off) {
    return flag ? *flag : file.value_or(off);
  };
  const SamplingOptions off;
  return {.temperature = resolve_temperature(config, overrides),
          .top_k = first(overrides.top_k, config.top_k, off.top_k),
          .top_p = first(overrides.top_p, config.top_p, off.top_p),
          .min_p = first(overrides.min_p, config.min_p, off.min_p),
          .repetition_penalty = first(overrides.repetition_penalty, config.repetition_penalty,
                                      off.repetition_penalty),
          .seed = overrides.seed};
}

}  // namespace qf
