#include "qwen3fp4/backend/cpu.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "check_linear.h"
#include "qwen3fp4/kernels/cpu/linear.h"
#include "qwen3fp4/quant/parallel.h"

// Shapes in this file: T tokens, I/O the linear's input and output features.
namespace qf {
namespace {

static_assert(CpuBackend::kFusedTokens == kLinearMaxTokens);

// A thread's share of a fused product in weights: enough work to pay for waking it.
constexpr std::int64_t kWeightsPerTask = std::int64_t{1} << 16;
// Tokens of one task of an elementwise operation; fewer are not worth a second thread.
constexpr std::int64_t kTokensPerTask = 16;

void multiply_rows(const WeightMatrix& weight, const LinearInput& in, RowRange rows,
                   const LinearOutput& out, CpuIsa isa) {
  const auto dense = [&](DenseType type) {
    linear_dense(
        {weight.dense_values().const_data_ptr(), type, weight.out_features(), weight.in_features()},
        in, rows, out, isa);
  };
  switch (weight.format()) {
    case WeightFormat::kNvfp4:
      return linear_nvfp4(weight.nvfp4_view(), in, rows, out, isa);
    case WeightFormat::kNf4:
      return linear_nf4(weight.nf4_view(), in, rows, out, isa);
    case WeightFormat::kF32:
      return dense(DenseType::kF32);
    case WeightFormat::kF16:
      return dense(DenseType::kF16);
    case WeightFormat::kBF16:
      return dense(DenseType::kBF16);
  }
}

void multiply_fused(const at::Tensor& x_TI, const WeightMatrix& weight, CpuIsa isa, float* y) {
  const auto* const x = x_TI.const_data_ptr<float>();
  const std::int64_t tokens = x_TI.size(0);
  const std::int64_t inputs = x_TI.size(1);
  const bool packed =
      weight.format() == WeightFormat::kNvfp4 || weight.format() == WeightFormat::kNf4;
  std::vector<float> x_packed(packed ? static_cast<std::size_t>(tokens * packed_cols(inputs)) : 0);
  if (packed) pack_columns(x, tokens, inputs, x_packed.data());
  const LinearInput in{x, x_packed.data(), tokens};
  const LinearOutput out{y, weight.out_features()};
  const std::int64_t chunk = std::max<std::int64_t>(1, kWeightsPerTask / inputs);
  parallel_chunks(weight.out_features(), chunk, [&](std::int64_t begin, std::int64_t end) {
    multiply_rows(weight, in, {begin, end - begin}, out, isa);
  });
}

// compute(begin, count) of pieces of the tokens, put together: a result of x's shape.
template <class Compute>
at::Tensor by_tokens(const at::Tensor& x, const Compute& compute) {
  const std::int64_t tokens = x.size(0);
  if (tokens <= kTokensPerTask) return compute(0, tokens);
  auto y = at::empty(x.sizes(), at::kFloat);
  parallel_chunks(tokens, kTokensPerTask, [&](std::int64_t begin, std::int64_t end) {
    y.narrow(0, begin, end - begin).copy_(compute(begin, end - begin));
  });
  return y;
}

}  // namespace

CpuBackend::CpuBackend(CpuIsa isa, LinearMode linear_mode) : isa_(isa), linear_mode_(linear_mode) {
  TORCH_INTERNAL_ASSERT(linear_mode != LinearMode::kW4A4);
}

std::string CpuBackend::description() const {
  if (linear_mode_ == LinearMode::kReference) {
    return "cpu: linears as the reference's (each weight unpacked whole, libtorch fp32 on one "
           "thread)";
  }
  return fmt::format(
      "cpu: straight from packed weights, fp32; {} kernels up to {} tokens, libtorch on tiles of "
      "{} rows above",
      cpu_isa_name(isa_), kFusedTokens, kTileRows);
}

at::Tensor CpuBackend::linear(const at::Tensor& x_TI, const WeightMatrix& weight) const {
  check_linear(x_TI, weight);
  if (linear_mode_ == LinearMode::kReference) return at::mm(x_TI, weight.dequantize().t());
  const auto x = x_TI.contiguous();
  auto y_TO = at::empty({x.size(0), weight.out_features()}, at::kFloat);
  if (x.size(0) == 0) return y_TO;
  if (x.size(0) <= kFusedTokens) {
    multiply_fused(x, weight, isa_, y_TO.mutable_data_ptr<float>());
    return y_TO;
  }
  parallel_chunks(weight.out_features(), kTileRows, [&](std::int64_t begin, std::int64_t end) {
    const auto tile = weight.dequantize_rows(begin, end - begin);
    y_TO.narrow(1, begin, end - begin).copy_(at::mm(x, tile.t()));
  });
  return y_TO;
}

at::Tensor CpuBackend::rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) const {
  return by_tokens(x, [&](std::int64_t first, std::int64_t count) {
    return Backend::rms_norm(x.narrow(0, first, count), weight, eps);
  });
}

at::Tensor CpuBackend::apply_rope(const at::Tensor& x_THE, const at::Tensor& cos_TE,
                                  const at::Tensor& sin_TE) const {
  return by_tokens(x_THE, [&](std::int64_t first, std::int64_t count) {
    return Backend::apply_rope(x_THE.narrow(0, first, count), cos_TE.narrow(0, first, count),
                               sin_TE.narrow(0, first, count));
  });
}

at::Tensor CpuBackend::swiglu(const at::Tensor& gate, const at::Tensor& up) const {
  return by_tokens(gate, [&](std::int64_t first, std::int64_t count) {
    return Backend::swiglu(gate.narrow(0, first, count), up.narrow(0, first, count));
  });
}

}  // namespace qf
