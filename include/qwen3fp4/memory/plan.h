#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "qwen3fp4/memory/limits.h"

namespace qf {

// What a run holds in the memory it computes in: `in_use` by the program before it begins, `held`
// from its first token or step to its last, and of `phases`, which follow each other, one at a
// time. Bytes.
struct MemoryPlan {
  std::int64_t in_use = 0;  // program, libraries, CUDA's context
  // What a run adds to main memory that no tensor or buffer of it is: pages of libraries that it
  // touches first, and what heaps keep of freed blocks.
  std::int64_t libraries = 0;
  std::vector<std::pair<std::string, std::int64_t>> held, phases;

  // Of tensors and buffers.
  [[nodiscard]] std::int64_t peak() const;
  // Of all that the run adds to what is in use.
  [[nodiscard]] std::int64_t added_peak() const { return peak() + libraries; }
  // Of the process.
  [[nodiscard]] std::int64_t process_peak() const { return in_use + added_peak(); }
};

// MemoryPlan::libraries of runs in main memory. Measured (doc/bench/memory_cpu_202611.md): they do
// not grow with the model, since blocks of 4 MiB and more are no heap's. Of libtorch's pages a
// forward pass touches 14 MB, a training step 17, a conversion 8; the rest is heaps'.
inline constexpr std::int64_t kInferenceLibraries = 24'000'000;
inline constexpr std::int64_t kTrainingLibraries = 56'000'000;
inline constexpr std::int64_t kConversionLibraries = 9'000'000;

// The bytes that the program takes before a run: on a GPU (`on_device`) CUDA's context as far as
// NVML tells, else resident memory.
[[nodiscard]] std::int64_t bytes_in_use(const MemorySample& sample, bool on_device);

// The pool that the plan's peak exceeds the most, among those of the memory that it computes in;
// nullptr when it fits.
[[nodiscard]] const MemoryPool* pool_too_small(const MemoryPlan& plan,
                                               const std::vector<MemoryPool>& pools,
                                               bool on_device);

// The largest value from `least` to `most` whose plan fits; `least` - 1 where none does. Plans must
// not shrink as the value grows.
[[nodiscard]] std::int64_t largest_that_fits(
    std::int64_t least, std::int64_t most, const std::vector<MemoryPool>& pools, bool on_device,
    const std::function<MemoryPlan(std::int64_t)>& plan_of);

// One row a component, the peak last.
[[nodiscard]] std::string plan_table(const MemoryPlan& plan);

}  // namespace qf
