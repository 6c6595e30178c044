#include "qwen3fp4/run/kernel_bench.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "bench_kernel.h"
#include "optimiser_case.h"
#include "qwen3fp4/backend/cpu.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/kernels/cpu/adam_step.h"
#include "qwen3fp4/kernels/cpu/dequantize.h"
#include "qwen3fp4/model/synthetic.h"
#include "qwen3fp4/quant/parallel.h"
#include "qwen3fp4/quant/quantize.h"
#include "qwen3fp4/run/stopwatch.h"

// Shapes in this file: T tokens, O/I the weight's output and input features, E head_dim.
namespace qf {
namespace {

constexpr std::int64_t kHeadDim = 128;
// A repetition is as many calls as take this long, so that the clock's own cost does not count.
constexpr double kRepetitionSeconds = 0.02;
constexpr std::int64_t kRowsPerTask = 32;

std::vector<CpuIsa> isas() {
  std::vector<CpuIsa> found;
  for (const CpuIsa isa : {CpuIsa::kPortable, CpuIsa::kAvx2, CpuIsa::kAvx512}) {
    if (cpu_supports(isa)) found.push_back(isa);
  }
  return found;
}

std::vector<BenchKernel> linears(const KernelBenchOptions& options, WeightFormat format) {
  const auto weight = std::make_shared<const WeightMatrix>(
      synthetic_matrix(format, options.out_features, options.in_features, 0));
  std::vector<BenchKernel> kernels;
  for (const CpuIsa isa : isas()) {
    const auto backend = std::make_shared<const CpuBackend>(isa);
    for (const std::int64_t tokens : {1, 2, 4, 8}) {
      const auto x_TI = at::randn({tokens, options.in_features});
      const std::int64_t y_bytes = 4 * tokens * options.out_features;
      kernels.push_back({.name = fmt::format("linear {}", weight_format_name(format)),
                         .shape = shape_text(options.out_features, options.in_features),
                         .isa = cpu_isa_name(isa),
                         .tokens = tokens,
                         .bytes = weight->bytes() + bytes_of({x_TI}) + y_bytes,
                         .flops = 2 * tokens * options.out_features * options.in_features,
                         .call = [=] { (void)backend->linear(x_TI, *weight); }});
    }
  }
  return kernels;
}

std::vector<BenchKernel> dequantizers(std::int64_t rows, std::int64_t cols) {
  const auto nvfp4 =
      std::make_shared<const WeightMatrix>(synthetic_matrix(WeightFormat::kNvfp4, rows, cols, 0));
  const auto nf4 =
      std::make_shared<const WeightMatrix>(synthetic_matrix(WeightFormat::kNf4, rows, cols, 0));
  // Written before the first call, as a buffer that is used again and again has been.
  const auto out = at::zeros({rows, cols}, at::kFloat);
  std::vector<BenchKernel> kernels;
  for (const CpuIsa isa : isas()) {
    const auto call = [=] {
      parallel_chunks(rows, kRowsPerTask, [&](std::int64_t begin, std::int64_t end) {
        dequantize_nvfp4(nvfp4->nvfp4_view(), {begin, end - begin},
                         out.mutable_data_ptr<float>() + begin * cols, isa);
      });
    };
    kernels.push_back({.name = "dequantize nvfp4",
                       .shape = shape_text(rows, cols),
                       .isa = cpu_isa_name(isa),
                       .tokens = 0,
                       .bytes = nvfp4->bytes() + bytes_of({out}),
                       .call = call});
  }
  const auto call = [=] {
    parallel_chunks(rows, kRowsPerTask, [&](std::int64_t begin, std::int64_t end) {
      dequantize_nf4(nf4->nf4_view(), {begin, end - begin},
                     out.mutable_data_ptr<float>() + begin * cols);
    });
  };
  kernels.push_back({.name = "dequantize nf4",
                     .shape = shape_text(rows, cols),
                     .isa = cpu_isa_name(CpuIsa::kPortable),
                     .tokens = 0,
                     .bytes = nf4->bytes() + bytes_of({out}),
                     .call = call});
  return kernels;
}

std::vector<BenchKernel> quantizers(std::int64_t rows, std::int64_t cols) {
  const auto dense = at::randn({rows, cols});
  const auto kernel = [&](const char* name, const auto& quantize) {
    return BenchKernel{.name = name,
                       .shape = shape_text(rows, cols),
                       .isa = cpu_isa_name(best_cpu_isa()),
                       .tokens = 0,
                       .bytes = bytes_of({dense}) + quantize().bytes(),
                       .call = [=] { (void)quantize(); }};
  };
  return {kernel("quantize nvfp4 (search)",
                 [dense] { return quantize_nvfp4(dense, Nvfp4Options{.search = true}); }),
          kernel("quantize nvfp4 (amax)",
                 [dense] { return quantize_nvfp4(dense, Nvfp4Options{.search = false}); }),
          kernel("quantize nf4", [dense] { return quantize_nf4(dense); })};
}

// The training step of profile `default` from an f32 gradient.
std::vector<BenchKernel> optimiser_steps(std::int64_t rows, std::int64_t cols) {
  const auto optimiser =
      std::make_shared<const OptimiserCase>(AdamProfile::kDefault, rows, cols, at::kCPU);
  const auto gradient = at::randn({rows, cols});
  const auto squares = at::empty({rows, moment_groups(cols)});
  std::vector<BenchKernel> kernels;
  for (const CpuIsa isa : isas()) {
    const auto call = [=] {
      parallel_chunks(rows, kRowsPerTask, [&](std::int64_t begin, std::int64_t end) {
        adam_step(AdamProfile::kDefault, OptimiserCase::rule(), optimiser->weight(),
                  GradientRows{gradient.const_data_ptr<float>() + begin * cols,
                               RowRange{begin, end - begin}},
                  squares.mutable_data_ptr<float>() + begin * moment_groups(cols), isa);
      });
    };
    kernels.push_back({.name = "adam step default",
                       .shape = shape_text(rows, cols),
                       .isa = cpu_isa_name(isa),
                       .tokens = 0,
                       .bytes = optimiser->moved_bytes() + bytes_of({gradient, squares}),
                       .call = call});
  }
  return kernels;
}

std::vector<BenchKernel> elementwise(std::int64_t cols) {
  const auto backend = std::make_shared<const CpuBackend>();
  const auto x_TI = at::randn({kKernelTokens, cols});
  const auto up_TI = at::randn({kKernelTokens, cols});
  const auto norm_I = at::randn({cols});
  const auto x_THE = x_TI.view({kKernelTokens, cols / kHeadDim, kHeadDim});
  const auto angle_TE = at::randn({kKernelTokens, kHeadDim});
  const auto kernel = [](const char* name, std::int64_t bytes, std::function<void()> call) {
    return BenchKernel{.name = name,
                       .shape = "",
                       .isa = "",
                       .tokens = kKernelTokens,
                       .bytes = bytes,
                       .call = std::move(call)};
  };
  return {
      kernel("rms_norm", bytes_of({x_TI, norm_I, x_TI}),
             [=] { (void)backend->rms_norm(x_TI, norm_I, 1e-6); }),
      kernel("rope", bytes_of({x_THE, angle_TE, angle_TE, x_THE}),
             [=] { (void)backend->apply_rope(x_THE, angle_TE, angle_TE); }),
      kernel("swiglu", bytes_of({x_TI, up_TI, x_TI}), [=] { (void)backend->swiglu(x_TI, up_TI); })};
}

KernelRow measure(const BenchKernel& kernel, std::int64_t repetitions) {
  KernelRow row{.kernel = kernel.name,
                .shape = kernel.shape,
                .isa = kernel.isa,
                .tokens = kernel.tokens,
                .bytes = kernel.bytes,
                .flops = kernel.flops,
                .seconds = {}};
  kernel.call();  // first use: pages, tables, threads
  Stopwatch watch;
  kernel.call();
  const auto calls = static_cast<std::int64_t>(
      std::clamp(kRepetitionSeconds / std::max(watch.lap(), 1e-9), 1.0, 1e6));
  for (std::int64_t i = 0; i < repetitions; ++i) {
    check_interrupted();
    (void)watch.lap();
    for (std::int64_t call = 0; call < calls; ++call) kernel.call();
    row.seconds.push_back(watch.lap() / static_cast<double>(calls));
  }
  return row;
}

void check_options(const KernelBenchOptions& options) {
  if (options.out_features < 1 || options.in_features < 1 || options.in_features % kHeadDim != 0) {
    fail(ExitCode::kUsage,
         "--shape: expected OUTxIN with OUT above 0 and IN a positive multiple of {}, found {}x{}",
         kHeadDim, options.out_features, options.in_features);
  }
  if (options.repetitions < 1) {
    fail(ExitCode::kUsage, "--reps: expected at least 1, got {}", options.repetitions);
  }
}

}  // namespace

KernelBenchReport bench_kernels(const KernelBenchOptions& options, const BenchProgress& progress) {
  check_options(options);
  const c10::InferenceMode no_autograd;
  const std::int64_t rows = std::min(options.out_features, kKernelRows);
  const std::int64_t cols = options.in_features;
  const std::vector<BenchKernelGroup> groups{
      [&] { return linears(options, WeightFormat::kNvfp4); },
      [&] { return linears(options, WeightFormat::kNf4); },
      [&] { return linears(options, WeightFormat::kBF16); },
      [&] { return dequantizers(rows, cols); },
      [&] { return quantizers(rows, cols); },
      [&] { return optimiser_steps(rows, cols); },
      [&] { return elementwise(cols); },
  };
  KernelBenchReport report;
  const std::int64_t linear_rows = 3 * 4 * std::ssize(isas());
  const std::int64_t all = linear_rows + 2 * std::ssize(isas()) + 1 + 3 + 3;
  for (const BenchKernelGroup& group : groups) {
    for (const BenchKernel& kernel : group()) {
      if (progress) progress(std::ssize(report.rows), all, kernel.name);
      report.rows.push_back(measure(kernel, options.repetitions));
    }
  }
  if (progress) progress(all, all, "");
  const CpuBackend backend;
  report.backend = backend.name();
  report.description = backend.description();
  report.device.memory_peak = backend.memory_peak();
  report.device.read_bandwidth = backend.measure_read_bandwidth();
  return report;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

}  // namespace qf
