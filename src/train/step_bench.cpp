#include "qwen3fp4/train/step_bench.h"

#include <fmt/format.h>

#include <random>
#include <string>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/run/stopwatch.h"
#include "qwen3fp4/train/trainer.h"

namespace qf {
namespace {

TrainBatch random_batch(const StepBatch& shape, std::int64_t vocab, std::mt19937_64& random) {
  TrainBatch batch;
  for (std::int64_t i = 0; i < shape.sequences; ++i) {
    TrainSequence sequence;
    for (std::int64_t t = 0; t < shape.tokens; ++t) {
      sequence.ids.push_back(
          static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(vocab)));
      sequence.targets.push_back(t > 0);
    }
    batch.push_back(std::move(sequence));
  }
  return batch;
}

std::int64_t multiplied_weights(const ModelWeights& model) {
  std::int64_t count = 0;
  model.for_each([&](const ModelWeight& weight) {
    const bool multiplied = weight.spec().kind == WeightKind::kLinear || &weight == &model.head();
    if (multiplied) count += weight.weight().out_features() * weight.weight().in_features();
  });
  return count;
}

}  // namespace

BenchReport bench_steps(const ModelWeights& model, const StepBenchOptions& options,
                        const BenchProgress& progress) {
  std::int64_t all = 0;
  for (const StepBatch& shape : options.batches) {
    if (shape.sequences < 1 || shape.tokens < 2) {
      fail(ExitCode::kUsage,
           "--train: expected batches of at least 1 sequence and 2 tokens, got {}x{}",
           shape.sequences, shape.tokens);
    }
    all += shape.sequences * shape.tokens * (options.repetitions + 1);
  }
  TrainSettings settings;
  settings.compute = options.compute;
  settings.schedule.peak = 1e-5;
  settings.schedule.steps = (options.repetitions + 1) * std::ssize(options.batches);
  settings.seed = options.seed;
  Trainer trainer(model, nullptr, settings);
  std::mt19937_64 random(options.seed);
  BenchReport report;
  std::int64_t done = 0;
  for (const StepBatch& shape : options.batches) {
    BenchRow row;
    row.test = fmt::format("train{}x{}", shape.sequences, shape.tokens);
    row.tokens = shape.sequences * shape.tokens;
    row.bytes = 3 * model.weight_bytes() + 2 * model.state_bytes();
    row.flops = 8 * row.tokens * multiplied_weights(model);
    for (std::int64_t i = 0; i <= options.repetitions; ++i) {
      check_interrupted();
      const TrainBatch batch = random_batch(shape, model.config().vocab_size, random);
      Stopwatch watch;
      // Its result holds numbers of the device: the step is over when they are here.
      (void)trainer.step(batch);
      const double seconds = watch.lap();
      if (i > 0) row.seconds.push_back(seconds);
      done += row.tokens;
      if (progress) progress(done, all, row.test);
    }
    report.rows.push_back(std::move(row));
  }
  report.device.memory_peak = model.backend().memory_peak();
  report.device.read_bandwidth = model.backend().measure_read_bandwidth();
  return report;
}

}  // namespace qf
