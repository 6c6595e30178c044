#pragma once

#include <ATen/core/Tensor.h>

#include "error_scale.h"
#include "qwen3fp4/check/ab_check.h"

namespace qf {

// A difference of this many error scales does not happen by chance: 2 exp(-8^2 / 2) = 2.5e-14 by
// Hoeffding's inequality, for each element.
inline constexpr double kSigmas = 8;
// Norms of errors that come from quantised values: so many of them add up that their mean square
// does not stray far from what is expected.
inline constexpr double kQuantisedSigmas = 2;

[[nodiscard]] TapStatistics tap_statistics(const at::Tensor& ref, const at::Tensor& got);

struct Verdict {
  double bound = 0;   // of the relative L2
  double misfit = 0;  // infinite where values are not finite that should be, or the other way round
};
// An isolated operation: element by element, and as a whole.
[[nodiscard]] Verdict judge_isolated(const at::Tensor& ref, const at::Tensor& got,
                                     const ErrorScale& scale, const TapStatistics& statistics);
// A chained tap: `bound` is the relative L2 that random errors as large as every operation's bound
// have grown to.
[[nodiscard]] Verdict judge_chained(const TapStatistics& statistics, double bound);

}  // namespace qf
