#include "qwen3fp4/run/kernel_bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>

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
            kValues * 4 + kValues / 16 + 2 * (kValues * 5 / 2 + 2 * 4 * 192));
  EXPECT_EQ((bytes[{"rms_norm", 512}]), 4 * 128 * (2 * 512 + 1));
  EXPECT_EQ((bytes[{"rope", 512}]), 4 * 512 * (2 * 128 + 2 * 128));
  EXPECT_EQ((bytes[{"swiglu", 512}]), 4 * 512 * 3 * 128);
  EXPECT_GT(report.device.read_bandwidth, 0);
  EXPECT_GT(report.device.memory_peak, 0);
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
