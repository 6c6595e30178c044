#include "adam_kernels.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "qwen3fp4/base/half.h"
#include "qwen3fp4/quant/parallel.h"

namespace qf::adam {
namespace {

// A thread's share of elements: enough work to pay for waking it.
constexpr std::int64_t kElementsPerTask = std::int64_t{1} << 15;
constexpr std::int64_t kColumnsPerTask = 256;

const float* f32(const at::Tensor& t) { return t.const_data_ptr<float>(); }
const std::uint16_t* bf16(const at::Tensor& t) {
  return reinterpret_cast<const std::uint16_t*>(t.const_data_ptr<at::BFloat16>());
}

// Calls run(pointer to the values), f32 or the bits of bf16.
template <class Run>
void with_values(const at::Tensor& gradient, const Run& run) {
  if (gradient.scalar_type() == at::kFloat) {
    run(f32(gradient));
  } else {
    run(bf16(gradient));
  }
}

}  // namespace

void step(AdamProfile profile, const AdamRule& rule, const AdamWeight& weight,
          const Gradient& gradient, const at::Tensor& squares) {
  float* const sums = squares.defined() ? squares.mutable_data_ptr<float>() : nullptr;
  if (gradient.values.is_cuda()) return on_cuda::step(profile, rule, weight, gradient, sums);
  const std::int64_t groups = moment_groups(weight.cols);
  with_values(gradient.values, [&](const auto* values) {
    const std::int64_t rows_per_task = std::max<std::int64_t>(1, kElementsPerTask / weight.cols);
    parallel_chunks(gradient.rows.count, rows_per_task, [&](std::int64_t begin, std::int64_t end) {
      adam_step(profile, rule, weight,
                GradientRows{values + begin * weight.cols,
                             RowRange{gradient.rows.first + begin, end - begin}},
                sums == nullptr ? nullptr : sums + begin * groups);
    });
  });
}

void dense_step(const AdamRule& rule, const AdamDense& weight, const at::Tensor& gradient) {
  if (gradient.is_cuda()) return on_cuda::dense_step(rule, weight, gradient);
  with_values(gradient, [&](const auto* values) {
    parallel_chunks(weight.count, kElementsPerTask, [&](std::int64_t begin, std::int64_t end) {
      adam_dense_step(rule,
                      {weight.values + begin, weight.m + begin, weight.v + begin, end - begin},
                      values + begin);
    });
  });
}

void add_columns(const AdamRule& rule, const ColumnSquares& squares, const Gradient& gradient) {
  if (gradient.values.is_cuda()) return on_cuda::add_columns(rule, squares, gradient);
  with_values(gradient.values, [&](const auto* values) {
    parallel_chunks(squares.cols, kColumnsPerTask, [&](std::int64_t begin, std::int64_t end) {
      add_column_squares(rule, squares, GradientRows{values, gradient.rows},
                         ColumnRange{begin, end - begin});
    });
  });
}

void finish_columns(const AdamRule& rule, const ColumnSquares& squares, const ColumnMeans& means,
                    at::Device device) {
  if (device.is_cuda()) return on_cuda::finish_columns(rule, squares, means);
  finish_column_squares(rule, squares, means.mean, means.ratio);
}

at::Tensor dequantize(const Nvfp4View& weight, RowRange rows, at::TensorOptions options) {
  auto out = at::empty({rows.count, weight.cols}, options);
  if (out.is_cuda()) {
    on_cuda::dequantize(weight, rows, out);
    return out;
  }
  const std::int64_t rows_per_task = std::max<std::int64_t>(1, kElementsPerTask / weight.cols);
  parallel_chunks(rows.count, rows_per_task, [&](std::int64_t begin, std::int64_t end) {
    const RowRange part{rows.first + begin, end - begin};
    if (out.scalar_type() == at::kFloat) {
      return dequantize_nvfp4(weight, part, out.mutable_data_ptr<float>() + begin * weight.cols);
    }
    auto* halves = reinterpret_cast<std::uint16_t*>(out.mutable_data_ptr<at::BFloat16>()) +
                   begin * weight.cols;
    std::vector<float> row(static_cast<std::size_t>(weight.cols));
    for (std::int64_t i = 0; i < part.count; ++i, halves += weight.cols) {
      dequantize_nvfp4(weight, {part.first + i, 1}, row.data());
      std::transform(row.begin(), row.end(), halves, float_to_bf16);
    }
  });
  return out;
}

std::vector<at::Tensor> dequantize(const std::vector<Nvfp4View>& weights,
                                   at::TensorOptions options) {
  std::vector<at::Tensor> out;
  if (!options.device().is_cuda()) {
    for (const Nvfp4View& weight : weights) {
      out.push_back(dequantize(weight, {0, weight.rows}, options));
    }
    return out;
  }
  for (const Nvfp4View& weight : weights) {
    out.push_back(at::empty({weight.rows, weight.cols}, options));
  }
  on_cuda::dequantize(weights, out);
  return out;
}

std::int64_t sum_parts(at::Device device) { return device.is_cuda() ? on_cuda::sum_parts() : 1; }

void sum_of_squares(const at::Tensor& gradient, at::Tensor& parts) {
  if (gradient.is_cuda()) return on_cuda::sum_of_squares(gradient, parts);
  parts.copy_(at::linalg_vector_norm(gradient, 2, {}, false, at::kFloat).square());
}

void sum(const at::Tensor& values, at::Tensor& parts) {
  if (values.is_cuda()) return on_cuda::sum(values, parts);
  const auto* const first = f32(values);
  // fill_() would refuse a double that is too large for a float, which is infinity here.
  parts.fill_(static_cast<float>(std::accumulate(first, first + values.numel(), 0.0)));
}

}  // namespace qf::adam
