// The loss of a chunk of the vocabulary, and the optimiser's steps.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <memory>
#include <utility>

#include "cuda_kernels.h"
#include "optimiser_case.h"
#include "qwen3fp4/kernels/cuda/adam_step.h"
#include "qwen3fp4/kernels/cuda/loss.h"

namespace qf {
namespace {

constexpr std::int64_t kTokens = 2048;
constexpr std::int64_t kChunk = 8192;  // of the vocabulary

BenchKernel row(std::string name, std::int64_t rows, std::int64_t cols, std::int64_t bytes,
                std::function<void()> call) {
  return {.name = std::move(name),
          .shape = shape_text(rows, cols),
          .isa = "",
          .tokens = 0,
          .bytes = bytes,
          .flops = 0,
          .call = std::move(call)};
}

std::vector<BenchKernel> losses() {
  const auto f32 = on_cuda(at::kFloat);
  const auto logits = at::randn({kTokens, kChunk}, f32);
  const auto teacher = at::randn({kTokens, kChunk}, f32);
  const auto gradient = at::empty({kTokens, kChunk}, on_cuda(at::kBFloat16));
  const auto next = at::randint(0, kChunk, {kTokens}, on_cuda(at::kLong));
  const auto sums = at::zeros({kTokens}, f32);
  const auto taught = at::zeros({kTokens}, f32);
  const auto values = at::zeros({kTokens}, f32);
  const cuda::LogitChunk chunk{floats(logits), kTokens, kChunk, 0};
  const auto kernel = [&](const char* name, std::int64_t bytes, const auto& launch) {
    const auto call = [=] {
      check_cuda(launch(), name);
      static_cast<void>(logits);
    };
    return row(name, kTokens, kChunk, bytes, call);
  };
  return {kernel("cross_entropy", bytes_of({logits}),
                 [=] {
                   return cuda::cross_entropy(chunk, next.const_data_ptr<std::int64_t>(),
                                              floats(sums), floats(values), current_stream());
                 }),
          kernel("cross_entropy_gradient to bf16", bytes_of({logits, gradient}),
                 [=] {
                   return cuda::cross_entropy_gradient(chunk, next.const_data_ptr<std::int64_t>(),
                                                       floats(sums), 1.0F, bf16s(gradient),
                                                       current_stream());
                 }),
          kernel("divergence", bytes_of({logits, teacher}),
                 [=] {
                   return cuda::divergence(chunk, floats(teacher), floats(sums), floats(taught),
                                           floats(values), current_stream());
                 }),
          kernel("divergence_gradient to bf16", bytes_of({logits, teacher, gradient}), [=] {
            return cuda::divergence_gradient(chunk, floats(teacher), floats(sums), floats(taught),
                                             1.0F, bf16s(gradient), current_stream());
          })};
}

BenchKernel step_of(AdamProfile profile, const char* name, std::int64_t rows, std::int64_t cols) {
  const auto optimiser =
      std::make_shared<const OptimiserCase>(profile, rows, cols, at::Device(at::kCUDA, 0));
  const auto gradient = at::randn({rows, cols}, on_cuda(at::kBFloat16)) * 1e-3;
  const auto squares = at::empty({rows, moment_groups(cols)}, on_cuda(at::kFloat));
  const auto call = [=] {
    const GradientRows<std::uint16_t> all{device_data<const std::uint16_t>(gradient), {0, rows}};
    check_cuda(cuda::adam_step(profile, OptimiserCase::rule(), optimiser->weight(), all,
                               floats(squares), current_stream()),
               "adam_step");
  };
  return row(fmt::format("adam_step {}, bf16", name), rows, cols,
             optimiser->moved_bytes() + bytes_of({gradient, squares}), call);
}

std::vector<BenchKernel> gradient_sums(std::int64_t rows, std::int64_t cols) {
  const auto gradient = at::randn({rows, cols}, on_cuda(at::kBFloat16)) * 1e-3;
  const auto columns = at::zeros({4, cols}, on_cuda(at::kFloat));
  const auto parts = at::empty({cuda::kSumParts}, on_cuda(at::kFloat));
  const auto* const values = device_data<const std::uint16_t>(gradient);
  const ColumnSquares squares{floats(columns[0]), floats(columns[1]), rows, cols};
  return {row("add_column_squares, bf16", rows, cols, bytes_of({gradient}),
              [=] {
                check_cuda(cuda::add_column_squares(OptimiserCase::rule(), squares,
                                                    GradientRows<std::uint16_t>{values, {0, rows}},
                                                    current_stream()),
                           "add_column_squares");
                static_cast<void>(columns);
                static_cast<void>(gradient);
              }),
          row("finish_column_squares", 1, cols, bytes_of({columns}),
              [=] {
                check_cuda(cuda::finish_column_squares(OptimiserCase::rule(), squares,
                                                       {floats(columns[2]), floats(columns[3])},
                                                       current_stream()),
                           "finish_column_squares");
              }),
          row("sum_of_squares, bf16", rows, cols, bytes_of({gradient}), [=] {
            check_cuda(
                cuda::sum_of_squares(values, gradient.numel(), floats(parts), current_stream()),
                "sum_of_squares");
          })};
}

BenchKernel dense_step(std::int64_t count) {
  const auto states = at::zeros({3, count}, on_cuda(at::kFloat));
  const auto gradient = at::randn({count}, on_cuda(at::kFloat)) * 1e-3;
  return row("adam_dense_step, f32", 1, count, bytes_of({states, states, gradient}), [=] {
    const AdamDense weight{floats(states[0]), floats(states[1]), floats(states[2]), count};
    check_cuda(cuda::adam_dense_step(OptimiserCase::rule(), weight,
                                     static_cast<const float*>(floats(gradient)), current_stream()),
               "adam_dense_step");
  });
}

}  // namespace

std::vector<BenchKernelGroup> cuda_training_kernels(const CudaBenchDevice& device) {
  const std::int64_t cols = device.config.hidden_size;
  const std::int64_t rows = device.config.intermediate_size;
  std::vector<BenchKernelGroup> groups{[] { return losses(); }};
  for (const auto& [profile, name] :
       {std::pair{AdamProfile::kFp32, "fp32"}, std::pair{AdamProfile::kExact, "exact"},
        std::pair{AdamProfile::kDefault, "default"}, std::pair{AdamProfile::kMin, "min"}}) {
    groups.emplace_back([=, profile = profile, name = name] {
      return std::vector{step_of(profile, name, rows, cols)};
    });
  }
  groups.emplace_back([=] { return gradient_sums(rows, cols); });
  groups.emplace_back([=] { return std::vector{dense_step(cols)}; });
  return groups;
}

}  // namespace qf
