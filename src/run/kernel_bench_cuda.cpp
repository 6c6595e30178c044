#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <utility>

#include "cuda_kernels.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/model/synthetic.h"
#include "qwen3fp4/run/kernel_bench.h"

namespace qf {
namespace {

constexpr int kWarmUps = 3;
// Of what is read between calls, in sizes of the L2 cache.
constexpr std::int64_t kFlushCaches = 4;

int attribute(cudaDeviceAttr which) {
  int value = 0;
  check_cuda(cudaDeviceGetAttribute(&value, which, 0), "device attribute");
  return value;
}

// Times calls that find nothing of their operands in the L2 cache.
class ColdTimer {
 public:
  ColdTimer()
      : other_(
            at::zeros({kFlushCaches * attribute(cudaDevAttrL2CacheSize) / 4}, on_cuda(at::kFloat))),
        sum_(at::empty({}, on_cuda(at::kFloat))) {}

  double seconds(const BenchKernel& kernel) {
    if (kernel.prepare) kernel.prepare();
    // Read, not written: what a call drives out of the cache must not have to be written back on
    // its time. It runs while the launches below are queued, so that their cost on the host is not
    // counted either.
    at::sum_out(sum_, other_, c10::IntArrayRef{0});
    check_cuda(cudaEventRecord(start_.get(), current_stream()), "event");
    kernel.call();
    check_cuda(cudaEventRecord(stop_.get(), current_stream()), "event");
    check_cuda(cudaEventSynchronize(stop_.get()), kernel.name);
    float ms = 0;
    check_cuda(cudaEventElapsedTime(&ms, start_.get(), stop_.get()), "event");
    return ms / 1e3;
  }

 private:
  at::Tensor other_, sum_;
  Event start_ = make_timed_event();
  Event stop_ = make_timed_event();
};

KernelRow measure(const BenchKernel& kernel, ColdTimer& timer, std::int64_t repetitions) {
  KernelRow row{.kernel = kernel.name,
                .shape = kernel.shape,
                .isa = kernel.isa,
                .tokens = kernel.tokens,
                .bytes = kernel.bytes,
                .flops = kernel.flops,
                .seconds = {}};
  for (int i = 0; i < kWarmUps; ++i) (void)timer.seconds(kernel);
  for (std::int64_t i = 0; i < repetitions; ++i) {
    check_interrupted();
    std::vector<double> calls;
    for (std::int64_t call = 0; call < kCudaKernelCalls; ++call) {
      calls.push_back(timer.seconds(kernel));
    }
    row.seconds.push_back(median(std::move(calls)));
  }
  return row;
}

}  // namespace

KernelBenchReport bench_cuda_kernels(std::int64_t repetitions, const BenchProgress& progress) {
  if (repetitions < 1) {
    fail(ExitCode::kUsage, "--reps: expected at least 1, got {}", repetitions);
  }
  const c10::InferenceMode no_autograd;
  const auto backend = make_backend("cuda");
  const CudaBenchDevice device{.backend = *backend,
                               .config = qwen3_config("qwen3-4b"),
                               .major = attribute(cudaDevAttrComputeCapabilityMajor),
                               .minor = attribute(cudaDevAttrComputeCapabilityMinor),
                               .multiprocessors = attribute(cudaDevAttrMultiProcessorCount)};
  std::vector<BenchKernelGroup> groups;
  for (const auto& made :
       {cuda_linear_kernels(device), cuda_format_kernels(device), cuda_operation_kernels(device),
        cuda_choice_kernels(device), cuda_training_kernels(device)}) {
    groups.insert(groups.end(), made.begin(), made.end());
  }
  KernelBenchReport report{.rows = {},
                           .backend = std::string(backend->name()),
                           .description = backend->description(),
                           .device = {}};
  ColdTimer timer;
  const std::int64_t all = std::ssize(groups);
  for (std::int64_t done = 0; done < all; ++done) {
    for (const BenchKernel& kernel : groups[static_cast<std::size_t>(done)]()) {
      if (progress) progress(done, all, kernel.name);
      report.rows.push_back(measure(kernel, timer, repetitions));
    }
  }
  if (progress) progress(all, all, "");
  report.device.memory_peak = backend->memory_peak();
  report.device.read_bandwidth = backend->measure_read_bandwidth();
  return report;
}

}  // namespace qf
