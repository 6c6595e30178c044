#include "value_scan.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace qf {

void ValueScan::add(const at::Tensor& piece) {
  if (piece.numel() == 0) return;
  // f64 keeps its width; everything else is exact in f32.
  auto values = piece.scalar_type() == at::kDouble ? piece : piece.to(at::kFloat);
  auto [low, high] = at::aminmax(values);
  if (!std::isfinite(low.item<double>()) || !std::isfinite(high.item<double>())) {
    nan_ += at::isnan(values).sum().item<std::int64_t>();
    infinite_ += at::isinf(values).sum().item<std::int64_t>();
    values = values.masked_select(at::isfinite(values));
    if (values.numel() == 0) return;
    std::tie(low, high) = at::aminmax(values);
  }
  const double magnitude = std::max(-low.item<double>(), high.item<double>());
  amax_ = std::max(amax_.value_or(0.0), std::abs(magnitude));
}

std::vector<std::string> ValueScan::flags() const {
  std::vector<std::string> flags;
  if (nan_ > 0) flags.push_back(fmt::format("{} NaN", nan_));
  if (infinite_ > 0) flags.push_back(fmt::format("{} infinite", infinite_));
  return flags;
}

}  // namespace qf
