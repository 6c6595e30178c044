#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/run/bench.h"

namespace qf {

struct KernelBenchOptions {
  // The weight of the linears. The default is the head of Qwen3-4B, which is larger than most
  // caches; the other kernels take at most kKernelRows rows of it.
  std::int64_t out_features = 151936;
  std::int64_t in_features = 2560;  // a multiple of 128
  std::int64_t repetitions = 5;
};

struct KernelRow {
  std::string kernel;           // "linear nvfp4", "dequantize nf4", "rms_norm", ...
  std::string shape;            // "9728x2560", of the weight or cache; may be empty
  std::string isa;              // "avx2"; empty for operations of libtorch and on a GPU
  std::int64_t tokens = 0;      // rows of activations; 0 for kernels that take none
  std::int64_t bytes = 0;       // operands read and results written by one call
  std::int64_t flops = 0;       // of one call; 0 where arithmetic is not what bounds it
  std::vector<double> seconds;  // of one call, by repetition
};

struct KernelBenchReport {
  std::vector<KernelRow> rows;
  std::string backend;  // "cpu", "cuda"
  std::string description;
  BenchDevice device;
};

// Rows of weights for (de)quantisation, whose f32 side would be large.
inline constexpr std::int64_t kKernelRows = 8192;
// Rows of activations for rms_norm, rope and swiglu.
inline constexpr std::int64_t kKernelTokens = 512;

// The CPU's kernels with parallel_threads(), each linear and nvfp4's dequantisation with every
// instruction set that this machine has, the others with the widest. Progress: (rows done, rows in
// all, the kernel that comes next).
[[nodiscard]] KernelBenchReport bench_kernels(const KernelBenchOptions& options,
                                              const BenchProgress& progress = {});
// The GPU's kernels that this device has, in the shapes of Qwen3-4B, by CUDA's events: a repetition
// is the median of kCudaKernelCalls calls, before each of which the L2 cache is filled with other
// data. Progress counts groups of kernels. Throws (exit code 2) where the backend `cuda` is not.
inline constexpr std::int64_t kCudaKernelCalls = 20;
[[nodiscard]] KernelBenchReport bench_cuda_kernels(std::int64_t repetitions,
                                                   const BenchProgress& progress = {});

// Of at least one value: the middle one, or the mean of the two in the middle.
[[nodiscard]] double median(std::vector<double> values);

}  // namespace qf
