#include "qwen3fp4/train/trained_weight.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <cmath>
#include <cstdint>
#include <utility>

#include "adam_kernels.h"
#include "packed_weight.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/tensor_info.h"

namespace qf {
namespace {

constexpr std::pair<std::string_view, TrainProfile> kProfiles[] = {
    {"fp32", TrainProfile::kFp32},
    {"exact", TrainProfile::kExact},
    {"default", TrainProfile::kDefault},
    {"min", TrainProfile::kMin}};

AdamDense dense_view(at::Tensor& values, at::Tensor& m, at::Tensor& v) {
  return {values.mutable_data_ptr<float>(), m.mutable_data_ptr<float>(),
          v.mutable_data_ptr<float>(), values.numel()};
}

// A dense weight with an f32 master and f32 states.
class DenseTrainedWeight final : public TrainedWeight {
 public:
  DenseTrainedWeight(const WeightMatrix& weight, std::uint32_t tensor)
      : weight_(WeightMatrix::dense(weight.dense_values().clone())),
        // An f32 weight is its own master.
        master_(weight_.dense_values().to(at::kFloat)),
        m_(at::zeros_like(master_)),
        v_(at::zeros_like(master_)),
        tensor_(tensor) {}

  [[nodiscard]] const WeightMatrix& weight() const override { return weight_; }
  [[nodiscard]] at::Tensor dequantize_rows(std::int64_t first, std::int64_t count,
                                           at::ScalarType dtype) const override {
    return weight_.dense_values().narrow(0, first, count).to(dtype);
  }
  void step_rows(std::int64_t first, const at::Tensor& gradient, const AdamStep& step,
                 const at::Tensor&) override {
    const std::int64_t count = gradient.size(0);
    check_gradient(gradient, {count, weight_.in_features()}, weight_.device());
    auto values = master_.narrow(0, first, count);
    auto m = m_.narrow(0, first, count);
    auto v = v_.narrow(0, first, count);
    adam::dense_step(adam_rule(step, tensor_), dense_view(values, m, v), gradient.contiguous());
    if (weight_.format() == WeightFormat::kF32) return;
    // A weight that was loaded in inference mode may be written only in it.
    const c10::InferenceMode no_autograd;
    weight_.dense_values().narrow(0, first, count).copy_(values);
  }
  void finish_step(const AdamStep&) override {}
  void visit_states(const StateVisitor& visit) override {
    auto values = weight_.dense_values();
    visit("values", values);
    if (weight_.format() != WeightFormat::kF32) visit("master", master_);
    visit("m", m_);
    visit("v", v_);
  }
  [[nodiscard]] std::int64_t state_bytes() const override {
    const std::int64_t tensors = weight_.format() == WeightFormat::kF32 ? 2 : 3;
    return tensors * static_cast<std::int64_t>(master_.nbytes());
  }

 private:
  WeightMatrix weight_;
  at::Tensor master_, m_, v_;  // f32 [out, in]
  std::uint32_t tensor_;
};

}  // namespace

TrainProfile train_profile(std::string_view name) {
  for (const auto& [known, profile] : kProfiles) {
    if (known == name) return profile;
  }
  fail(ExitCode::kUsage, "--profile: expected fp32, exact, default or min, got '{}'", name);
}

std::string_view train_profile_name(TrainProfile profile) {
  for (const auto& [name, known] : kProfiles) {
    if (known == profile) return name;
  }
  return "unknown";
}

AdamRule adam_rule(const AdamStep& step, std::uint32_t tensor) {
  QF_CHECK(step.step >= 1 && step.step <= UINT32_MAX, "optimiser step: expected 1 .. {}, got {}",
           UINT32_MAX, step.step);
  QF_CHECK(
      step.epsilon > 0 && step.beta1 >= 0 && step.beta1 < 1 && step.beta2 >= 0 && step.beta2 < 1,
      "Adam: expected epsilon > 0 and betas in [0, 1), got {}, {} and {}", step.epsilon, step.beta1,
      step.beta2);
  const auto count = static_cast<double>(step.step);
  const auto narrow = [](double value) { return static_cast<float>(value); };
  return {
      .gradient_scale = narrow(step.gradient_scale),
      .beta1 = narrow(step.beta1),
      .rest1 = narrow(1 - step.beta1),
      .beta2 = narrow(step.beta2),
      .rest2 = narrow(1 - step.beta2),
      .step_size = narrow(step.learning_rate / (1 - std::pow(step.beta1, count))),
      .root_correction = narrow(1 / std::sqrt(1 - std::pow(step.beta2, count))),
      .epsilon = narrow(step.epsilon),
      .decay = narrow(step.learning_rate * step.weight_decay),
      .seed = {static_cast<std::uint32_t>(step.seed), static_cast<std::uint32_t>(step.seed >> 32)},
      .tensor = tensor,
      .step = static_cast<std::uint32_t>(step.step)};
}

void check_gradient(const at::Tensor& gradient, at::IntArrayRef shape, at::Device device) {
  const auto type = gradient.scalar_type();
  QF_CHECK((type == at::kFloat || type == at::kBFloat16) && gradient.sizes() == shape &&
               gradient.device() == device,
           "gradient: expected f32 or bf16 {} on {}, got {} {} on {}", shape_text(shape.vec()),
           device.str(), at::toString(type), shape_text(gradient.sizes().vec()),
           gradient.device().str());
}

std::int64_t state_bytes(TrainProfile profile, WeightFormat format, std::int64_t rows,
                         std::int64_t cols) {
  const std::int64_t values = rows * cols;
  if (format == WeightFormat::kF32) return values * 8;  // m, v
  if (format != WeightFormat::kNvfp4 || values < kPackedStatesLeast ||
      profile == TrainProfile::kFp32) {
    return values * 12;  // master, m, v
  }
  const std::int64_t group_scales = rows * moment_groups(cols) * 4;
  switch (profile) {
    case TrainProfile::kExact:  // 12 bits of position, 8 of m and v each
      return values / 2 * 7 + 2 * group_scales;
    case TrainProfile::kDefault:  // 8 bits of position, 4 of m and v each
      return values * 2 + 2 * group_scales;
    default:  // kMin: m in 4 bits; a number a row, four a column
      return values / 2 + group_scales + rows * 4 + cols * 16;
  }
}

std::unique_ptr<TrainedWeight> make_trained_weight(const WeightMatrix& weight,
                                                   const TrainedWeightOptions& options) {
  if (weight.format() == WeightFormat::kNvfp4) {
    QF_CHECK(!weight.streamed() && weight.scales().scalar_type() == at::kByte,
             "training: expected an NVFP4 weight in rows with E4M3 scales, got {}",
             weight.streamed() ? "the layout of the decode kernel" : "f32 scales (convert it)");
    return make_packed_weight(weight, options);
  }
  QF_CHECK(weight.format() != WeightFormat::kNf4,
           "training: expected weights in nvfp4, f32, f16 or bf16, got {} (convert --format nvfp4)",
           weight_format_name(weight.format()));
  return std::make_unique<DenseTrainedWeight>(weight, options.tensor);
}

}  // namespace qf
