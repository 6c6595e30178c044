#include "packed_weight.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "adam_kernels.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/tensor_info.h"
#include "qwen3fp4/quant/parallel.h"

namespace qf {
namespace {

// Rows of a master in f32 at a time while positions are set up.
constexpr std::int64_t kStartRows = 256;

AdamProfile kernel_profile(TrainProfile profile) {
  switch (profile) {
    case TrainProfile::kFp32:
      return AdamProfile::kFp32;
    case TrainProfile::kExact:
      return AdamProfile::kExact;
    case TrainProfile::kDefault:
      return AdamProfile::kDefault;
    case TrainProfile::kMin:
      return AdamProfile::kMin;
  }
  fail(ExitCode::kUsage, "unknown training profile");
}

template <class T>
T* pointer(const at::Tensor& t) {
  return t.defined() ? static_cast<T*>(t.data_ptr()) : nullptr;
}

// The tensors that a profile has; the others stay undefined. Shapes: AdamWeight.
struct States {
  at::Tensor position, residual, residual_high;
  at::Tensor m, m_codes, m_scales;
  at::Tensor v, v_codes, v_scales, v_rows, v_columns;
  at::Tensor column_means;               // f32 [cols]
  at::Tensor column_total, column_open;  // f32 [cols], zero between steps

  // visit(name, tensor, whether it is part of the master)
  template <class Visit>
  void for_each(const Visit& visit) {
    visit("position", position, true);
    visit("residual", residual, true);
    visit("residual_high", residual_high, true);
    visit("m", m, false);
    visit("m_codes", m_codes, false);
    visit("m_scales", m_scales, false);
    visit("v", v, false);
    visit("v_codes", v_codes, false);
    visit("v_scales", v_scales, false);
    visit("v_rows", v_rows, false);
    visit("v_columns", v_columns, false);
    visit("column_means", column_means, false);
  }
};

States new_states(AdamProfile profile, std::int64_t rows, std::int64_t cols) {
  const auto bytes = [&](std::int64_t width) { return at::zeros({rows, width}, at::kByte); };
  const auto floats = [&](std::int64_t width) { return at::zeros({rows, width}, at::kFloat); };
  const bool eight = profile == AdamProfile::kExact;
  States s;
  if (profile == AdamProfile::kFp32) {
    s.position = floats(cols);
    s.m = floats(cols);
    s.v = floats(cols);
    return s;
  }
  s.m_codes = bytes(eight ? cols : cols / 2);
  s.m_scales = floats(moment_groups(cols));
  if (profile == AdamProfile::kMin) {
    s.v_rows = at::zeros({rows}, at::kFloat);
    s.v_columns = at::ones({cols}, at::kFloat);
    s.column_means = at::zeros({cols}, at::kFloat);
    s.column_total = at::zeros({cols}, at::kFloat);
    s.column_open = at::zeros({cols}, at::kFloat);
    return s;
  }
  s.residual = bytes(cols);
  if (eight) s.residual_high = bytes(cols / 2);
  s.v_codes = bytes(eight ? cols : cols / 2);
  s.v_scales = floats(moment_groups(cols));
  return s;
}

// With codes of its own, for steps write into them.
WeightMatrix copy_in_main_memory(const WeightMatrix& weight) {
  const auto codes = weight.codes().to(at::kCPU, at::kByte, /*non_blocking=*/false, /*copy=*/true);
  return WeightMatrix::nvfp4(codes, weight.scales().cpu(), weight.global_scale());
}

class PackedTrainedWeight final : public TrainedWeight {
 public:
  PackedTrainedWeight(const WeightMatrix& weight, const TrainedWeightOptions& options)
      : profile_(kernel_profile(options.profile)),
        tensor_(options.tensor),
        weight_(copy_in_main_memory(weight)),
        states_(new_states(profile_, weight.out_features(), weight.in_features())) {
    start(options);
    const at::Device device = weight.device();
    if (device.is_cpu()) return;
    weight_ =
        WeightMatrix::nvfp4(weight_.codes().to(device), weight.scales(), weight.global_scale());
    states_.for_each([&](const char*, at::Tensor& t, bool master) {
      if (!t.defined()) return;
      const bool offload = master ? options.offload_master : options.offload_moments;
      t = offload ? t.pin_memory() : t.to(device);
    });
    if (!states_.column_total.defined()) return;
    states_.column_total = states_.column_total.to(device);
    states_.column_open = states_.column_open.to(device);
  }

  [[nodiscard]] const WeightMatrix& weight() const override { return weight_; }
  [[nodiscard]] at::Tensor dequantize_rows(std::int64_t first, std::int64_t count,
                                           at::ScalarType dtype) const override;
  void step_rows(std::int64_t first, const at::Tensor& gradient, const AdamStep& step,
                 const at::Tensor& squares) override;
  [[nodiscard]] std::int64_t squares_per_row() const override { return moment_groups(cols()); }
  void finish_step(const AdamStep& step) override;
  void visit_states(const StateVisitor& visit) override;
  [[nodiscard]] std::int64_t state_bytes() const override;

 private:
  void start(const TrainedWeightOptions& options);
  [[nodiscard]] AdamWeight view() const;
  [[nodiscard]] ColumnSquares column_squares() const {
    return {pointer<float>(states_.column_total), pointer<float>(states_.column_open), rows(),
            cols()};
  }
  [[nodiscard]] std::int64_t rows() const { return weight_.out_features(); }
  [[nodiscard]] std::int64_t cols() const { return weight_.in_features(); }

  AdamProfile profile_;
  std::uint32_t tensor_;
  WeightMatrix weight_;
  States states_;
  std::int64_t next_row_ = 0;  // rows of this step so far
};

AdamWeight PackedTrainedWeight::view() const {
  AdamWeight w{.codes = pointer<std::uint8_t>(weight_.codes()),
               .scales_e4m3 = pointer<std::uint8_t>(weight_.scales()),
               .global_scale = weight_.global_scale(),
               .rows = rows(),
               .cols = cols()};
  w.position = pointer<float>(states_.position);
  w.residual = pointer<std::uint8_t>(states_.residual);
  w.residual_high = pointer<std::uint8_t>(states_.residual_high);
  w.m = pointer<float>(states_.m);
  w.m_codes = pointer<std::uint8_t>(states_.m_codes);
  w.m_scales = pointer<float>(states_.m_scales);
  w.v = pointer<float>(states_.v);
  w.v_codes = pointer<std::uint8_t>(states_.v_codes);
  w.v_scales = pointer<float>(states_.v_scales);
  w.v_rows = pointer<float>(states_.v_rows);
  w.v_columns = pointer<float>(states_.v_columns);
  return w;
}

void PackedTrainedWeight::start(const TrainedWeightOptions& options) {
  const AdamWeight w = view();
  if (!options.master.defined()) {
    const StartDraws draws{
        {static_cast<std::uint32_t>(options.seed), static_cast<std::uint32_t>(options.seed >> 32)},
        tensor_};
    parallel_chunks(rows(), kStartRows, [&](std::int64_t begin, std::int64_t end) {
      start_anywhere(profile_, draws, w, {begin, end - begin});
    });
    return;
  }
  const at::Tensor& master = options.master;
  QF_CHECK(master.sizes() == at::IntArrayRef({rows(), cols()}) && master.device().is_cpu() &&
               (master.scalar_type() == at::kFloat || master.scalar_type() == at::kBFloat16),
           "--init-master: expected f32 or bf16 {} in main memory, got {} {} on {}",
           shape_text({rows(), cols()}), at::toString(master.scalar_type()),
           shape_text(master.sizes().vec()), master.device().str());
  parallel_chunks(rows(), kStartRows, [&](std::int64_t begin, std::int64_t end) {
    const auto values = master.narrow(0, begin, end - begin).to(at::kFloat).contiguous();
    start_at_values(profile_, w, {values.const_data_ptr<float>(), {begin, end - begin}});
  });
}

at::Tensor PackedTrainedWeight::dequantize_rows(std::int64_t first, std::int64_t count,
                                                at::ScalarType dtype) const {
  QF_CHECK(first >= 0 && count >= 0 && first <= rows() - count,
           "rows: expected a range within {}, got {} from {}", rows(), count, first);
  QF_CHECK(dtype == at::kFloat || dtype == at::kBFloat16, "rows: expected f32 or bf16, got {}",
           at::toString(dtype));
  return adam::dequantize(weight_.nvfp4_view(), {first, count},
                          at::device(weight_.device()).dtype(dtype));
}

void PackedTrainedWeight::step_rows(std::int64_t first, const at::Tensor& gradient,
                                    const AdamStep& step, const at::Tensor& squares) {
  const std::int64_t count = gradient.size(0);
  check_gradient(gradient, {count, cols()}, weight_.device());
  QF_CHECK(!squares.defined() || (squares.sizes() == at::IntArrayRef({count, squares_per_row()}) &&
                                  squares.scalar_type() == at::kFloat && squares.is_contiguous() &&
                                  squares.device() == weight_.device()),
           "squares: expected f32 {} on {}, got {} {} on {}",
           shape_text({count, squares_per_row()}), weight_.device().str(),
           at::toString(squares.scalar_type()), shape_text(squares.sizes().vec()),
           squares.device().str());
  QF_CHECK(first == next_row_ && first <= rows() - count,
           "optimiser step: expected rows from {} on of {}, got {} from {}", next_row_, rows(),
           count, first);
  next_row_ += count;
  if (count == 0) return;
  const AdamRule rule = adam_rule(step, tensor_);
  const adam::Gradient in{gradient.contiguous(), {first, count}};
  adam::step(profile_, rule, view(), in, squares);
  if (profile_ == AdamProfile::kMin) adam::add_columns(rule, column_squares(), in);
}

void PackedTrainedWeight::finish_step(const AdamStep& step) {
  QF_CHECK(next_row_ == rows(), "optimiser step: expected {} rows, got {}", rows(), next_row_);
  next_row_ = 0;
  if (profile_ != AdamProfile::kMin) return;
  adam::finish_columns(adam_rule(step, tensor_), column_squares(),
                       {pointer<float>(states_.column_means), pointer<float>(states_.v_columns)},
                       weight_.device());
}

void PackedTrainedWeight::visit_states(const StateVisitor& visit) {
  auto codes = weight_.codes();
  visit("codes", codes);
  states_.for_each([&](const char* name, at::Tensor& t, bool) {
    if (t.defined()) visit(name, t);
  });
}

std::int64_t PackedTrainedWeight::state_bytes() const {
  std::size_t bytes = 0;
  auto states = states_;
  states.for_each([&](const char*, at::Tensor& t, bool) { bytes += t.defined() ? t.nbytes() : 0; });
  for (const auto& sums : {states.column_total, states.column_open}) {
    bytes += sums.defined() ? sums.nbytes() : 0;
  }
  return static_cast<std::int64_t>(bytes);
}

// E4M3 has no infinity; a NaN scale would make every weight of its block NaN.
void check_scales(const WeightMatrix& weight) {
  const bool nan = weight.scales().bitwise_and(0x7F).eq(0x7F).any().item<bool>();
  QF_CHECK(!nan, "training: expected finite block scales, found NaN");
}

}  // namespace

std::unique_ptr<TrainedWeight> make_packed_weight(const WeightMatrix& weight,
                                                  const TrainedWeightOptions& options) {
  check_scales(weight);
  TrainedWeightOptions chosen = options;
  if (weight.out_features() * weight.in_features() < kPackedStatesLeast) {
    chosen.profile = TrainProfile::kFp32;
  }
  return std::make_unique<PackedTrainedWeight>(weight, chosen);
}

}  // namespace qf
