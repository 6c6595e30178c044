#include "qwen3fp4/run/kernel_bench.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

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

struct Kernel {
  std::string name;
  std::string isa;
  std::int64_t tokens;
  std::int64_t bytes;
  std::function<void()> call;
};
// Makes the operands of a few kernels, which live no longer than the kernels do.
using KernelGroup = std::function<std::vector<Kernel>()>;

std::vector<CpuIsa> isas() {
  std::vector<CpuIsa> found;
  for (const CpuIsa isa : {CpuIsa::kPortable, CpuIsa::kAvx2, CpuIsa::kAvx512}) {
    if (cpu_supports(isa)) found.push_back(isa);
  }
  return found;
}

std::int64_t bytes_of(std::initializer_list<at::Tensor> tensors) {
  std::int64_t bytes = 0;
  for (const at::Tensor& tensor : tensors) bytes += static_cast<std::int64_t>(tensor.nbytes());
  return bytes;
}

std::vector<Kernel> linears(const KernelBenchOptions& options, WeightFormat format) {
  const auto weight = std::make_shared<const WeightMatrix>(
      synthetic_matrix(format, options.out_features, options.in_features, 0));
  std::vector<Kernel> kernels;
  for (const CpuIsa isa : isas()) {
    const auto backend = std::make_shared<const CpuBackend>(isa);
    for (const std::int64_t tokens : {1, 2, 4, 8}) {
      const auto x_TI = at::randn({tokens, options.in_features});
      const std::int64_t y_bytes = 4 * tokens * options.out_features;
      kernels.push_back({.name = fmt::format("linear {}", weight_format_name(format)),
                         .isa = cpu_isa_name(isa),
                         .tokens = tokens,
                         .bytes = weight->bytes() + bytes_of({x_TI}) + y_bytes,
                         .call = [=] { (void)backend->linear(x_TI, *weight); }});
    }
  }
  return kernels;
}

std::vector<Kernel> dequantizers(std::int64_t rows, std::int64_t cols) {
  const auto nvfp4 =
      std::make_shared<const WeightMatrix>(synthetic_matrix(WeightFormat::kNvfp4, rows, cols, 0));
  const auto nf4 =
      std::make_shared<const WeightMatrix>(synthetic_matrix(WeightFormat::kNf4, rows, cols, 0));
  // Written before the first call, as a buffer that is used again and again has been.
  const auto out = at::zeros({rows, cols}, at::kFloat);
  std::vector<Kernel> kernels;
  for (const CpuIsa isa : isas()) {
    const auto call = [=] {
      parallel_chunks(rows, kRowsPerTask, [&](std::int64_t begin, std::int64_t end) {
        dequantize_nvfp4(nvfp4->nvfp4_view(), {begin, end - begin},
                         out.mutable_data_ptr<float>() + begin * cols, isa);
      });
    };
    kernels.push_back({.name = "dequantize nvfp4",
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
                     .isa = cpu_isa_name(CpuIsa::kPortable),
                     .tokens = 0,
                     .bytes = nf4->bytes() + bytes_of({out}),
                     .call = call});
  return kernels;
}

std::vector<Kernel> quantizers(std::int64_t rows, std::int64_t cols) {
  const auto dense = at::randn({rows, cols});
  const auto kernel = [&](const char* name, const auto& quantize) {
    return Kernel{.name = name,
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
std::vector<Kernel> optimiser_steps(std::int64_t rows, std::int64_t cols) {
  const auto weight = synthetic_matrix(WeightFormat::kNvfp4, rows, cols, 0);
  const auto bytes = [rows](std::int64_t width) { return at::zeros({rows, width}, at::kByte); };
  const auto scales = [&] { return at::zeros({rows, moment_groups(cols)}, at::kFloat); };
  const auto gradient = at::randn({rows, cols});
  const std::vector<at::Tensor> states{
      weight.codes().clone(), bytes(cols), bytes(cols / 2), scales(), bytes(cols / 2), scales()};
  AdamWeight w{.codes = states[0].mutable_data_ptr<std::uint8_t>(),
               .scales_e4m3 = weight.scales().const_data_ptr<std::uint8_t>(),
               .global_scale = weight.global_scale(),
               .rows = rows,
               .cols = cols};
  w.residual = states[1].mutable_data_ptr<std::uint8_t>();
  w.m_codes = states[2].mutable_data_ptr<std::uint8_t>();
  w.m_scales = states[3].mutable_data_ptr<float>();
  w.v_codes = states[4].mutable_data_ptr<std::uint8_t>();
  w.v_scales = states[5].mutable_data_ptr<float>();
  const AdamRule rule{.gradient_scale = 1,
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
  std::int64_t moved = bytes_of({gradient, weight.scales()});
  for (const at::Tensor& state : states) moved += 2 * bytes_of({state});
  std::vector<Kernel> kernels;
  for (const CpuIsa isa : isas()) {
    // The copies of the tensors keep what `w` points to.
    const auto call = [=] {
      parallel_chunks(rows, kRowsPerTask, [&](std::int64_t begin, std::int64_t end) {
        adam_step(AdamProfile::kDefault, rule, w,
                  GradientRows{gradient.const_data_ptr<float>() + begin * cols,
                               RowRange{begin, end - begin}},
                  isa);
      });
      static_cast<void>(states);
      static_cast<void>(weight);
    };
    kernels.push_back({.name = "adam step default",
                       .isa = cpu_isa_name(isa),
                       .tokens = 0,
                       .bytes = moved,
                       .call = call});
  }
  return kernels;
}

std::vector<Kernel> elementwise(std::int64_t cols) {
  const auto backend = std::make_shared<const CpuBackend>();
  const auto x_TI = at::randn({kKernelTokens, cols});
  const auto up_TI = at::randn({kKernelTokens, cols});
  const auto norm_I = at::randn({cols});
  const auto x_THE = x_TI.view({kKernelTokens, cols / kHeadDim, kHeadDim});
  const auto angle_TE = at::randn({kKernelTokens, kHeadDim});
  const auto kernel = [](const char* name, std::int64_t bytes, std::function<void()> call) {
    return Kernel{
        .name = name, .isa = "", .tokens = kKernelTokens, .bytes = bytes, .call = std::move(call)};
  };
  return {
      kernel("rms_norm", bytes_of({x_TI, norm_I, x_TI}),
             [=] { (void)backend->rms_norm(x_TI, norm_I, 1e-6); }),
      kernel("rope", bytes_of({x_THE, angle_TE, angle_TE, x_THE}),
             [=] { (void)backend->apply_rope(x_THE, angle_TE, angle_TE); }),
      kernel("swiglu", bytes_of({x_TI, up_TI, x_TI}), [=] { (void)backend->swiglu(x_TI, up_TI); })};
}

KernelRow measure(const Kernel& kernel, std::int64_t repetitions) {
  KernelRow row{.kernel = kernel.name,
                .isa = kernel.isa,
                .tokens = kernel.tokens,
                .bytes = kernel.bytes,
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
         "--shape: expected OUTxIN with OUT above 0 and IN a positive multiple of {}, got {}x{}",
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
  const std::vector<KernelGroup> groups{
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
  for (const KernelGroup& group : groups) {
    for (const Kernel& kernel : group()) {
      if (progress) progress(std::ssize(report.rows), all, kernel.name);
      report.rows.push_back(measure(kernel, options.repetitions));
    }
  }
  if (progress) progress(all, all, "");
  const CpuBackend backend;
  report.device.memory_peak = backend.memory_peak();
  report.device.read_bandwidth = backend.measure_read_bandwidth();
  return report;
}

}  // namespace qf
