#include "qwen3fp4/run/non_finite.h"

#include <ATen/ATen.h>

#include <bit>
#include <cstddef>
#include <optional>
#include <string_view>

namespace qf {
namespace {

// The first row (token) of `output` that holds a value that is not finite.
std::optional<std::int64_t> first_bad_row(const at::Tensor& output) {
  const auto bad_rows = at::isfinite(output).logical_not().reshape({output.size(0), -1}).any(1);
  const auto found = bad_rows.nonzero();
  if (found.size(0) == 0) return std::nullopt;
  return found[0][0].item<std::int64_t>();
}

}  // namespace

bool all_finite(std::span<const float> values) {
  // No early exit, so that the compiler can vectorise.
  constexpr std::uint32_t kExponent = 0x7F800000U;
  bool found = false;
  for (const float value : values) {
    found |= (std::bit_cast<std::uint32_t>(value) & kExponent) == kExponent;
  }
  return !found;
}

NonFiniteOrigin find_non_finite(const Qwen3Model& model, KvCache& cache,
                                std::span<const std::int64_t> tokens, std::int64_t first) {
  std::optional<NonFiniteOrigin> origin;
  const Tap tap = [&](std::string_view module, const at::Tensor& output) {
    const auto row = origin ? std::nullopt : first_bad_row(output);
    if (row) origin = {std::string(module), first + *row};
    return output;
  };
  cache.truncate(first);
  (void)model.forward(tokens.subspan(static_cast<std::size_t>(first)), cache, tap);
  const auto last = static_cast<std::int64_t>(tokens.size()) - 1;
  return origin.value_or(NonFiniteOrigin{"lm_head", last});
}

}  // namespace qf
