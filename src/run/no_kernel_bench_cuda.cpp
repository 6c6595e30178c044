#include "qwen3fp4/backend/cuda.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/run/kernel_bench.h"

namespace qf {

KernelBenchReport bench_cuda_kernels(std::int64_t, const BenchProgress&) {
  fail(ExitCode::kUsage, "backend 'cuda': {}", no_cuda_reason());
}

}  // namespace qf
