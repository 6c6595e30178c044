#include "qwen3fp4/run/kernel_bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

#include "qwen3fp4/backend/cuda.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/kernels/cpu/isa.h"

namespace qf {
namespace {

std::set<std::string> isa_names() {
  std::set<std::string> names;
  for (const CpuIsa isa : {CpuIsa::kPortable, CpuIsa::kAvx2, CpuIsa::kAvx512}) {
    if (cpu_supports(isa)) names.insert(cpu_isa_name(isa));
  }
  return names;
}

TEST(BenchKernels, MeasuresEveryKernelOnEveryInstructionSet) {
  std::int64_t last = -1;
  std::int64_t total = 0;
  const auto report = bench_kernels({.out_features = 192, .in_features = 128, .repetitions = 2},
                                    [&](std::int64_t done, std::int64_t all, auto) {
                                      EXPECT_GT(done, last);
                                      last = done;
                                      total = all;
                                    });
  EXPECT_EQ(last, total);
  EXPECT_EQ(total, std::ssize(report.rows));
  std::map<std::string, std::set<std::string>> isas;
  std::map<std::pair<std::string, std::int64_t>, std::int64_t> bytes;
  for (const KernelRow& row : report.rows) {
    EXPECT_EQ(row.seconds.size(), 2U) << row.kernel;
    const bool linear = row.kernel.starts_with("linear ");
    EXPECT_EQ(row.flops, linear ? 2 * row.tokens * 192 * 128 : 0) << row.kernel;
    EXPECT_EQ(row.shape, row.tokens == kKernelTokens ? "" : "192x128") << row.kernel;
    for (const double seconds : row.seconds) EXPECT_GT(seconds, 0) << row.kernel;
    isas[row.kernel].insert(row.isa);
    bytes[{row.kernel, row.tokens}] = row.bytes;
  }
  for (const auto* const kernel :
       {"linear nvfp4", "linear nf4", "linear bf16", "dequantize nvfp4", "adam step default"}) {
    EXPECT_EQ(isas[kernel], isa_names()) << kernel;
  }
  constexpr std::int64_t kValues = 192 * 128;
  for (const std::int64_t tokens : {1, 2, 4, 8}) {
    const std::int64_t activations = 4 * tokens * (128 + 192);
    EXPECT_EQ((bytes[{"linear nvfp4", tokens}]), kValues * 9 / 16 + 4 + activations);
    EXPECT_EQ((bytes[{"linear nf4", tokens}]), kValues * 9 / 16 + 64 + activations);
    EXPECT_EQ((bytes[{"linear bf16", tokens}]), kValues * 2 + activations);
  }
  EXPECT_EQ((bytes[{"dequantize nvfp4", 0}]), kValues * 9 / 16 + 4 + kValues * 4);
  EXPECT_EQ((bytes[{"dequantize nf4", 0}]), kValues * 9 / 16 + 64 + kValues * 4);
  EXPECT_EQ((bytes[{"quantize nvfp4 (search)", 0}]), kValues * 9 / 16 + 4 + kValues * 4);
  EXPECT_EQ((bytes[{"quantize nvfp4 (amax)", 0}]), kValues * 9 / 16 + 4 + kValues * 4);
  EXPECT_EQ((bytes[{"quantize nf4", 0}]), kValues * 9 / 16 + 64 + kValues * 4);
  // The gradient and the blocks' scales; read and written: codes, residuals, moments, their scales.
  EXPECT_EQ((bytes[{"adam step default", 0}]),
            kValues * 4 + kValues / 16 + 2 * (kValues * 5 / 2 + 2 * 4 * 192) + 4 * 192);
  EXPECT_EQ((bytes[{"rms_norm", 512}]), 4 * 128 * (2 * 512 + 1));
  EXPECT_EQ((bytes[{"rope", 512}]), 4 * 512 * (2 * 128 + 2 * 128));
  EXPECT_EQ((bytes[{"swiglu", 512}]), 4 * 512 * 3 * 128);
  EXPECT_GT(report.device.read_bandwidth, 0);
  EXPECT_GT(report.device.memory_peak, 0);
  EXPECT_EQ(report.backend, "cpu");
}

// Every launcher of kernels/cuda that a run of the program uses has a row, but the whole token of
// the decode kernel, which is what `bench --tg` measures.
TEST(BenchCudaKernels, MeasuresEveryKernelThatTheDeviceHas) {
  if (!no_cuda_reason().empty()) {
    try {
      (void)bench_cuda_kernels(1);
      FAIL() << "measured without a GPU";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUsage);
      EXPECT_THAT(error.what(), testing::HasSubstr(no_cuda_reason()));
    }
    GTEST_SKIP() << no_cuda_reason();
  }
  std::int64_t last = 0;
  const auto report = bench_cuda_kernels(1, [&](std::int64_t done, std::int64_t all, auto) {
    EXPECT_GE(done, last);
    EXPECT_LE(done, all);
    last = done;
  });
  EXPECT_EQ(report.backend, "cuda");
  std::set<std::string> kernels;
  for (const KernelRow& row : report.rows) {
    kernels.insert(row.kernel.substr(0, row.kernel.find_first_of(", ")));
    ASSERT_EQ(row.seconds.size(), 1U) << row.kernel;
    const double rate = static_cast<double>(row.bytes) / row.seconds[0];
    EXPECT_GT(rate, 0) << row.kernel;
    // What is in no cache cannot be read faster than from memory, but for what the clock leaves
    // open. (Results may stay in the cache.)
    const bool reads = row.kernel.starts_with("linear_") || row.kernel == "attend_token";
    if (reads) {
      EXPECT_LT(rate, 1.15 * report.device.read_bandwidth) << row.kernel << " " << row.shape;
    }
  }
  for (const auto* const kernel : {"linear_nvfp4",
                                   "linear_nf4",
                                   "linear_token",
                                   "linear_swiglu_token",
                                   "dequantize",
                                   "dequantize_nvfp4",
                                   "dequantize_nf4",
                                   "absolute_max",
                                   "quantize_nvfp4",
                                   "quantize_nf4",
                                   "quantize_activations",
                                   "scale_rows",
                                   "rms_norm",
                                   "apply_rope",
                                   "swiglu",
                                   "add",
                                   "embed_token",
                                   "add_rms_norm",
                                   "place_heads",
                                   "attend_token",
                                   "rotate_heads",
                                   "rotate_heads_backward",
                                   "swiglu_backward",
                                   "sample_token",
                                   "cross_entropy",
                                   "cross_entropy_gradient",
                                   "divergence",
                                   "divergence_gradient",
                                   "adam_step",
                                   "add_column_squares",
                                   "finish_column_squares",
                                   "sum_of_squares",
                                   "adam_dense_step"}) {
    EXPECT_TRUE(kernels.contains(kernel)) << kernel;
  }
  const bool hopper = report.description.find("(compute capability 9.0)") != std::string::npos;
  for (const auto* const kernel :
       {"linear_stream", "gemm_stream", "pack_stream", "dequantize_stream", "prompt_attention"}) {
    EXPECT_EQ(kernels.contains(kernel), hopper) << kernel;
  }
}

TEST(BenchKernels, RefusesShapesThatTheKernelsCannotTake) {
  for (const auto& [out, in] : {std::pair{0, 128}, {1, 0}, {1, 64}, {-1, 128}}) {
    try {
      (void)bench_kernels({.out_features = out, .in_features = in});
      FAIL() << out << "x" << in;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUsage);
    }
  }
  EXPECT_THROW((void)bench_kernels({.repetitions = 0}), Error);
}

}  // namespace
}  // namespace qf
