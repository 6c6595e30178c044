#include "optimiser_case.h"

#include <ATen/ATen.h>

#include "qwen3fp4/model/synthetic.h"

namespace qf {

OptimiserCase::OptimiserCase(AdamProfile profile, std::int64_t rows, std::int64_t cols,
                             at::Device device)
    : packed_(synthetic_matrix(WeightFormat::kNvfp4, rows, cols, 0).to(device)) {
  const auto state = [&](std::initializer_list<std::int64_t> shape, at::ScalarType type) {
    states_.push_back(at::zeros(shape, at::device(device).dtype(type)));
    return states_.back();
  };
  const auto bytes = [&](std::int64_t width) {
    return state({rows, width}, at::kByte).mutable_data_ptr<std::uint8_t>();
  };
  const auto floats = [&](std::int64_t width) {
    return state({rows, width}, at::kFloat).mutable_data_ptr<float>();
  };
  states_.push_back(packed_.codes().clone());
  weight_ = {.codes = states_[0].mutable_data_ptr<std::uint8_t>(),
             .scales_e4m3 = packed_.scales().const_data_ptr<std::uint8_t>(),
             .global_scale = packed_.global_scale(),
             .rows = rows,
             .cols = cols};
  const std::int64_t groups = moment_groups(cols);
  switch (profile) {
    case AdamProfile::kFp32:
      weight_.position = floats(cols);
      weight_.m = floats(cols);
      weight_.v = floats(cols);
      return;
    case AdamProfile::kExact:
      weight_.residual = bytes(cols);
      weight_.residual_high = bytes(cols / 2);
      weight_.m_codes = bytes(cols);
      weight_.v_codes = bytes(cols);
      break;
    case AdamProfile::kDefault:
      weight_.residual = bytes(cols);
      weight_.m_codes = bytes(cols / 2);
      weight_.v_codes = bytes(cols / 2);
      break;
    case AdamProfile::kMin:
      weight_.m_codes = bytes(cols / 2);
      weight_.v_rows = floats(1);
      v_columns_ = at::ones({cols}, at::device(device).dtype(at::kFloat));
      weight_.v_columns = v_columns_.const_data_ptr<float>();
      break;
  }
  weight_.m_scales = floats(groups);
  if (profile != AdamProfile::kMin) weight_.v_scales = floats(groups);
}

std::int64_t OptimiserCase::moved_bytes() const {
  auto moved = static_cast<std::int64_t>(packed_.scales().nbytes());
  if (v_columns_.defined()) moved += static_cast<std::int64_t>(v_columns_.nbytes());
  for (const at::Tensor& state : states_) moved += 2 * static_cast<std::int64_t>(state.nbytes());
  return moved;
}

AdamRule OptimiserCase::rule() {
  return {.gradient_scale = 1,
          .beta1 = 0.9F,
          .rest1 = 0.1F,
          .beta2 = 0.99F,
          .rest2 = 0.01F,
          .step_size = 1e-5F,
          .root_correction = 1,
          .epsilon = 1e-8F,
          .decay = 0,
          .seed = {1, 2},
          .tensor = 0,
          .step = 1};
}

}  // namespace qf
