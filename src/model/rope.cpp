#include "qwen3fp4/model/rope.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "qwen3fp4/base/error.h"

// Formulas and names: transformers' modeling_rope_utils. Everything in f32 and in its order, so
// that the angles are the same bits.
namespace qf {
namespace {

// YaRN (arXiv 2309.00071): dimension whose wavelength makes `rotations` turns in the original
// context.
double correction_dimension(double rotations, const ModelConfig& config) {
  const auto context = static_cast<double>(config.rope.original_max_position_embeddings);
  return static_cast<double>(config.head_dim) *
         std::log(context / (rotations * 2 * std::numbers::pi)) / (2 * std::log(config.rope.theta));
}

at::Tensor yarn(const ModelConfig& config, const at::Tensor& position_frequencies) {
  const RopeConfig& rope = config.rope;
  double low = correction_dimension(rope.beta_fast, config);
  double high = correction_dimension(rope.beta_slow, config);
  if (rope.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(config.head_dim - 1));
  if (low == high) high += 0.001;  // the ramp must not divide by zero
  const auto ramp =
      ((at::arange(config.head_dim / 2, at::kFloat) - low) / (high - low)).clamp(0, 1);
  const auto kept = 1 - ramp;
  const auto extrapolated = 1.0 / position_frequencies;
  const auto interpolated = 1.0 / (rope.factor * position_frequencies);
  return interpolated * (1 - kept) + extrapolated * kept;
}

at::Tensor unchecked_frequencies(const ModelConfig& config) {
  const auto exponents = at::arange(0, config.head_dim, 2, at::kLong).to(at::kFloat) /
                         static_cast<double>(config.head_dim);
  const auto position_frequencies = at::pow(config.rope.theta, exponents);
  switch (config.rope.type) {
    case RopeType::kDefault:
      return 1.0 / position_frequencies;
    case RopeType::kLinear:
      return 1.0 / position_frequencies / config.rope.factor;
    case RopeType::kYarn:
      return yarn(config, position_frequencies);
  }
  return {};
}

}  // namespace

at::Tensor rope_inverse_frequencies(const ModelConfig& config) {
  auto frequencies = unchecked_frequencies(config);
  // A theta or factor beyond f32 would show only as NaN logits.
  QF_CHECK(at::isfinite(frequencies).all().item<bool>(),
           "rope: expected finite angles, found others for rope_theta {} and factor {} "
           "(config.json)",
           config.rope.theta, config.rope.factor);
  return frequencies;
}

std::pair<at::Tensor, at::Tensor> rope_tables(const ModelConfig& config,
                                              const at::Tensor& inverse_frequencies,
                                              std::int64_t first, std::int64_t count) {
  const auto positions = at::arange(first, first + count, at::kLong).to(at::kFloat);
  const auto half = at::outer(positions, inverse_frequencies);
  const auto angles = at::cat({half, half}, 1);
  return {at::cos(angles) * config.rope.attention_factor,
          at::sin(angles) * config.rope.attention_factor};
}

RopeTable::RopeTable(const ModelConfig& config, at::Device device)
    : config_(config),
      device_(device),
      inverse_frequencies_(rope_inverse_frequencies(config)),
      cos_(at::empty({0, config.head_dim}, device)),
      sin_(cos_) {}

std::pair<at::Tensor, at::Tensor> RopeTable::rows(std::int64_t first, std::int64_t count) {
  const std::int64_t known = cos_.size(0);
  if (first + count > known) {
    // Twice what is known: a token at a time costs no more than all at once.
    const std::int64_t more = std::max(first + count - known, known);
    const auto [cos, sin] = rope_tables(config_, inverse_frequencies_, known, more);
    cos_ = at::cat({cos_, cos.to(device_)});
    sin_ = at::cat({sin_, sin.to(device_)});
  }
  return {cos_.narrow(0, first, count), sin_.narrow(0, first, count)};
}

}  // namespace qf
