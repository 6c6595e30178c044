#include "tap_comparison.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace qf {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Largest x / y, where 0 / 0 is no difference.
double largest_ratio(const at::Tensor& x, const at::Tensor& y) {
  const auto ratio = at::where(x == 0, at::zeros_like(x), x / y);
  return ratio.numel() == 0 ? 0 : ratio.max().item<double>();
}

double ratio(double x, double y) { return x == 0 ? 0 : x / y; }

bool same_finiteness(const TapStatistics& s) {
  return s.nan_ref == s.nan_got && s.inf_ref == s.inf_got;
}

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
  const auto norm = [](const at::Tensor& x) { return x.to(at::kDouble).norm().item<double>(); };
  const bool quantised = scale.quantisation.defined();
  const double ref_norm = norm(ref.nan_to_num(0, 0, 0));
  double allowed = kSigmas * norm(scale.rounding.nan_to_num(0, 0, 0));
  if (quantised) allowed += kQuantisedSigmas * norm(scale.quantisation.nan_to_num(0, 0, 0));
  Verdict verdict{.bound = ratio(allowed, ref_norm), .misfit = 0};
  if (!same_finiteness(statistics)) {
    verdict.misfit = kInfinity;
    return verdict;
  }
  const auto limit =
      (quantised ? scale.rounding + scale.quantisation : scale.rounding).to(at::kDouble) * kSigmas;
  const auto both = at::isfinite(ref) & at::isfinite(got);
  const auto diff = (got.to(at::kDouble) - ref).abs_().masked_fill_(both.logical_not(), 0);
  verdict.misfit =
      std::max(largest_ratio(diff, limit), ratio(statistics.relative_l2, verdict.bound));
  return verdict;
}

Verdict judge_chained(const TapStatistics& statistics, double bound) {
  return {.bound = bound,
          .misfit = same_finiteness(statistics) ? ratio(statistics.relative_l2, bound) : kInfinity};
}

}  // namespace qf
