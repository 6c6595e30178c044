#include "tap_comparison.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace qf {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Largest difference over its limit. Equal values need no limit; where none could be derived (not
// finite), unequal ones are out of bounds.
double largest_ratio(const at::Tensor& diff, const at::Tensor& limit) {
  if (diff.numel() == 0) return 0;
  const auto ratio = at::where(at::isfinite(limit), diff / limit, at::full_like(diff, kInfinity));
  return ratio.masked_fill(diff == 0, 0).max().item<double>();
}

double ratio(double x, double y) { return x == 0 ? 0 : x / y; }

}  // namespace

TapStatistics tap_statistics(const at::Tensor& ref, const at::Tensor& got) {
  TapStatistics s;
  const auto count = [](const at::Tensor& mask) { return mask.sum().item<std::int64_t>(); };
  const auto ref_finite = at::isfinite(ref);
  const auto got_finite = at::isfinite(got);
  auto r = ref.to(at::kDouble);
  auto g = got.to(at::kDouble);
  if (count(ref_finite) != ref.numel() || count(got_finite) != got.numel()) {
    s.nan_ref = count(at::isnan(ref));
    s.nan_got = count(at::isnan(got));
    s.inf_ref = ref.numel() - count(ref_finite) - s.nan_ref;
    s.inf_got = got.numel() - count(got_finite) - s.nan_got;
    s.non_finite_agree = at::equal(at::isnan(ref), at::isnan(got)) &&
                         at::equal(at::isposinf(ref), at::isposinf(got)) &&
                         at::equal(at::isneginf(ref), at::isneginf(got));
    const auto bad = (ref_finite & got_finite).logical_not();
    r = r.masked_fill(bad, 0);
    g = g.masked_fill(bad, 0);
  }
  if (ref.numel() == 0) return s;
  const auto diff = g - r;
  s.max_ref = r.abs().max().item<double>();
  s.max_got = g.abs().max().item<double>();
  s.max_diff = diff.abs().max().item<double>();
  const double rr = r.square().sum().item<double>();
  const double gg = g.square().sum().item<double>();
  const double rg = (r * g).sum().item<double>();
  s.relative_l2 = ratio(std::sqrt(diff.square().sum().item<double>()), std::sqrt(rr));
  s.cosine = rr > 0 && gg > 0 ? rg / std::sqrt(rr * gg) : (rr == gg ? 1 : 0);
  s.scale = rr > 0 ? rg / rr : 1;
  return s;
}

Verdict judge_isolated(const at::Tensor& ref, const at::Tensor& got, const ErrorScale& scale,
                       const TapStatistics& statistics) {
  const auto excluded = (at::isfinite(ref) & at::isfinite(got)).logical_not();
  const auto comparable = [&](const at::Tensor& x) {
    return x.to(at::kDouble).masked_fill(excluded, 0);
  };
  const auto norm = [](const at::Tensor& x) { return x.norm().item<double>(); };
  const auto rounding = comparable(scale.rounding);
  auto limit = rounding * kSigmas;
  double allowed = norm(limit);
  if (scale.quantisation.defined()) {
    const auto quantisation = comparable(scale.quantisation);
    limit += quantisation * kSigmas;
    allowed += kQuantisedSigmas * norm(quantisation);
  }
  Verdict verdict{.bound = ratio(allowed, norm(comparable(ref))), .misfit = kInfinity};
  if (!statistics.non_finite_agree) return verdict;
  const auto diff = (comparable(got) - comparable(ref)).abs_();
  verdict.misfit =
      std::max(largest_ratio(diff, limit), ratio(statistics.relative_l2, verdict.bound));
  return verdict;
}

Verdict judge_chained(const TapStatistics& statistics, double bound) {
  return {.bound = bound,
          .misfit = statistics.non_finite_agree ? ratio(statistics.relative_l2, bound) : kInfinity};
}

}  // namespace qf
