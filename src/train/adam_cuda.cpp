#include <ATen/ATen.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "adam_kernels.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/kernels/cuda/adam_step.h"
#include "qwen3fp4/kernels/cuda/dequantize.h"

namespace qf::adam::on_cuda {
namespace {

void check(cudaError_t status, std::string_view what) {
  if (status == cudaSuccess) return;
  fail(status == cudaErrorMemoryAllocation ? ExitCode::kOutOfMemory : ExitCode::kUnreadable,
       "CUDA: {}: {}", what, cudaGetErrorString(status));
}

cudaStream_t current_stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

// Calls run(pointer to the values), f32 or the bits of bf16.
template <class Run>
void with_values(const at::Tensor& gradient, const Run& run) {
  if (gradient.scalar_type() == at::kFloat) {
    run(gradient.const_data_ptr<float>());
  } else {
    run(reinterpret_cast<const std::uint16_t*>(gradient.const_data_ptr<at::BFloat16>()));
  }
}

// run(the kernels' type of the values): float or bf16.
template <class Run>
void with_type(const at::Tensor& out, const Run& run) {
  if (out.scalar_type() == at::kFloat) {
    run(float{});
  } else {
    run(__nv_bfloat16{});
  }
}

template <class Out>
Out* values_out(const at::Tensor& t) {
  return static_cast<Out*>(t.mutable_data_ptr());
}

}  // namespace

void step(AdamProfile profile, const AdamRule& rule, const AdamWeight& weight,
          const Gradient& gradient, float* squares) {
  with_values(gradient.values, [&](const auto* values) {
    check(cuda::adam_step(profile, rule, weight, GradientRows{values, gradient.rows}, squares,
                          current_stream()),
          "optimiser step");
  });
}

void dense_step(const AdamRule& rule, const AdamDense& weight, const at::Tensor& gradient) {
  with_values(gradient, [&](const auto* values) {
    check(cuda::adam_dense_step(rule, weight, values, current_stream()), "optimiser step");
  });
}

void add_columns(const AdamRule& rule, const ColumnSquares& squares, const Gradient& gradient) {
  with_values(gradient.values, [&](const auto* values) {
    check(cuda::add_column_squares(rule, squares, GradientRows{values, gradient.rows},
                                   current_stream()),
          "sums of columns");
  });
}

void finish_columns(const AdamRule& rule, const ColumnSquares& squares, const ColumnMeans& means) {
  check(cuda::finish_column_squares(rule, squares, {means.mean, means.ratio}, current_stream()),
        "means of columns");
}

void dequantize(const Nvfp4View& weight, RowRange rows, at::Tensor& out) {
  if (rows.count == 0) return;
  Nvfp4View part = weight;
  part.codes += rows.first * weight.cols / 2;
  part.scales_e4m3 += rows.first * weight.cols / kNvfp4Block;
  part.rows = rows.count;
  with_type(out, [&]<class Out>(Out) {
    check(cuda::dequantize_nvfp4(part, values_out<Out>(out), current_stream()), "dequantise");
  });
}

void dequantize(const std::vector<Nvfp4View>& weights, std::vector<at::Tensor>& out) {
  if (weights.empty()) return;
  with_type(out.front(), [&]<class Out>(Out) {
    std::vector<cuda::DequantizeJob<Out>> jobs;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      jobs.push_back({weights[i], values_out<Out>(out[i])});
    }
    check(cuda::dequantize_nvfp4(jobs.data(), static_cast<int>(jobs.size()), current_stream()),
          "dequantise");
  });
}

std::int64_t sum_parts() { return cuda::kSumParts; }

void sum_of_squares(const at::Tensor& gradient, at::Tensor& parts) {
  with_values(gradient, [&](const auto* values) {
    check(cuda::sum_of_squares(values, gradient.numel(), parts.mutable_data_ptr<float>(),
                               current_stream()),
          "sum of squares");
  });
}

void sum(const at::Tensor& values, at::Tensor& parts) {
  check(cuda::sum(values.const_data_ptr<float>(), values.numel(), parts.mutable_data_ptr<float>(),
                  current_stream()),
        "sum");
}

}  // namespace qf::adam::on_cuda
