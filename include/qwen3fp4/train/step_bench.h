#pragma once

#include <cstdint>
#include <vector>

#include "qwen3fp4/run/bench.h"
#include "qwen3fp4/train/model_weights.h"

namespace qf {

// Random ids, every one but a sequence's first trained.
struct StepBatch {
  std::int64_t sequences = 1;
  std::int64_t tokens = 192;  // of each
};

struct StepBenchOptions {
  std::vector<StepBatch> batches;
  ComputeDtype compute = ComputeDtype::kF32;
  std::int64_t repetitions = 5;
  std::uint64_t seed = 0;
};

// Whole optimiser steps ("train4x2048"), each batch after a warm-up. A row's bytes are what a step
// cannot do without: weights read by the forward, the recomputation and the backward, states read
// and written. Its flops: 8 a token for each weight of projections and head (2 forward, 2 again, 4
// backward); attention is not counted.
[[nodiscard]] BenchReport bench_steps(const ModelWeights& model, const StepBenchOptions& options,
                                      const BenchProgress& progress = {});

}  // namespace qf
