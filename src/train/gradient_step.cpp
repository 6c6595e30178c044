#include "gradient_step.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "adam_kernels.h"
#include "operations.h"
#include "qwen3fp4/base/error.h"

namespace qf {
namespace {

// Values of a weight's gradient that exist at a time (128 MB as bf16). Not an option: it decides
// the shapes of products, and with them bits.
constexpr std::int64_t kGradientValues = std::int64_t{1} << 26;

}  // namespace

at::Tensor& GradientStep::sum_of(const ModelWeight& weight) {
  const auto found = std::ranges::find(sums_, &weight, &decltype(sums_)::value_type::first);
  if (found != sums_.end()) return found->second;
  const WeightMatrix& matrix = weight.weight();
  const auto sum = at::zeros({matrix.out_features(), matrix.in_features()},
                             at::device(matrix.device()).dtype(at::kFloat));
  return sums_.emplace_back(&weight, sum).second;
}

void GradientStep::linear(const ModelWeight& weight, const at::Tensor& dy_NO,
                          const at::Tensor& x_NI) {
  if (weight.trained() == nullptr) return;
  if (options_.micro_batches > 1) {
    add_product(dy_NO.t(), x_NI, sum_of(weight));
    return;
  }
  const std::int64_t outputs = dy_NO.size(1);
  const std::int64_t most = std::max<std::int64_t>(1, kGradientValues / x_NI.size(1));
  for (std::int64_t first = 0; first < outputs; first += most) {
    const std::int64_t count = std::min(most, outputs - first);
    rows(weight, first, product(dy_NO.narrow(1, first, count).t(), x_NI), first + count == outputs);
  }
}

void GradientStep::gradient(const ModelWeight& weight, const at::Tensor& gradient) {
  if (weight.trained() == nullptr) return;
  if (options_.micro_batches > 1) {
    sum_of(weight).add_(gradient);
  } else {
    rows(weight, 0, gradient, true);
  }
}

void GradientStep::end_block() {
  for (auto& [weight, sum] : sums_) {
    rows(*weight, 0, sum, true);
    sum.reset();
  }
  sums_.clear();
}

void GradientStep::rows(const ModelWeight& weight, std::int64_t first, const at::Tensor& gradient,
                        bool last) {
  TrainedWeight* const trained = weight.trained();
  if (trained == nullptr) return;
  squares_.emplace_back(&weight, adam::sum_of_squares(gradient.contiguous()));
  if (!options_.apply) return;
  AdamStep adam = options_.adam;
  if (weight.spec().kind == WeightKind::kNorm) adam.weight_decay = 0;
  const std::int64_t count = gradient.size(0);
  const std::int64_t most = options_.chunk_rows > 0 ? options_.chunk_rows : count;
  for (std::int64_t from = 0; from < count; from += most) {
    trained->step_rows(first + from, gradient.narrow(0, from, std::min(most, count - from)), adam);
  }
  if (last) trained->finish_step(adam);
}

double GradientStep::norm() const {
  if (squares_.empty()) return 0;
  std::vector<at::Tensor> parts;
  for (const auto& [weight, values] : squares_) parts.push_back(values);
  const auto all = at::stack(parts).to(at::kCPU).to(at::kDouble).sum(1);
  const auto* const squares = all.const_data_ptr<double>();
  double sum = 0;
  for (std::size_t i = 0; i < squares_.size(); ++i) {
    if (!std::isfinite(squares[i])) {
      fail(ExitCode::kNonFinite,
           "step {}: the gradient of {} is not finite, the first one on the way back from the loss",
           options_.adam.step, squares_[i].first->spec().name);
    }
    sum += squares[i];
  }
  return std::sqrt(sum);
}

}  // namespace qf
