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

// Sums of squares that one tensor holds: to allocate each costs as much as to launch its kernel.
constexpr std::int64_t kSquaresAtATime = 512;

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
  auto parts = next_parts(weight, gradient.device());
  // The step reads the gradient anyway, and tells its squares where it can.
  const std::int64_t told = options_.apply ? trained->squares_per_row() : 0;
  if (told == 0) adam::sum_of_squares(gradient.contiguous(), parts);
  if (!options_.apply) return;
  AdamStep adam = options_.adam;
  if (weight.spec().kind == WeightKind::kNorm) adam.weight_decay = 0;
  const std::int64_t count = gradient.size(0);
  const std::int64_t most = options_.chunk_rows > 0 ? options_.chunk_rows : count;
  at::Tensor squares;
  if (told > 0) squares = at::empty({count, told}, gradient.options().dtype(at::kFloat));
  for (std::int64_t from = 0; from < count; from += most) {
    const std::int64_t chunk = std::min(most, count - from);
    trained->step_rows(first + from, gradient.narrow(0, from, chunk), adam,
                       told > 0 ? squares.narrow(0, from, chunk) : squares);
  }
  if (told > 0) adam::sum(squares, parts);
  if (last) trained->finish_step(adam);
}

at::Tensor GradientStep::next_parts(const ModelWeight& weight, at::Device device) {
  const std::int64_t row = std::ssize(measured_) % kSquaresAtATime;
  if (row == 0) {
    squares_.push_back(at::empty({kSquaresAtATime, adam::sum_parts(device)},
                                 at::device(device).dtype(at::kFloat)));
  }
  measured_.push_back(&weight);
  return squares_.back().select(0, row);
}

double GradientStep::norm() const {
  if (measured_.empty()) return 0;
  const auto all =
      at::cat(squares_).narrow(0, 0, std::ssize(measured_)).to(at::kDouble).sum(1).to(at::kCPU);
  const auto* const squares = all.const_data_ptr<double>();
  double sum = 0;
  for (std::size_t i = 0; i < measured_.size(); ++i) {
    if (!std::isfinite(squares[i])) {
      fail(ExitCode::kNonFinite,
           "step {}: the gradient of {} is not finite, the first one on the way back from the loss",
           options_.adam.step, measured_[i]->spec().name);
    }
    sum += squares[i];
  }
  return std::sqrt(sum);
}

}  // namespace qf
