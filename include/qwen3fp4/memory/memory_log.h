#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/memory/gauges.h"
#include "qwen3fp4/memory/limits.h"

namespace qf {

// Bytes of tensors of one kind ("weights", "KV cache"), on one device, of one type.
struct TensorBytes {
  std::string kind, device, dtype;
  std::int64_t bytes = 0;
};

struct LoggedSample {
  double seconds = 0;     // since the log began
  std::size_t phase = 0;  // index into phases
  MemorySample sample;
};

// A stretch of the run between two marks.
struct LoggedPhase {
  std::string name;
  double begin = 0;       // seconds since the log began
  MemorySample at_begin;  // read when the mark was made
  MemorySample largest;   // of each gauge while it lasted; of machine_available and device_free the
                          // smallest
};

// What a run's memory was over time, in bounded space: beyond kMostSamples every second sample is
// dropped and from then on half as many are kept. Phases of one name that come again (a training
// step's) are one phase; its begin is the first one's. Not thread-safe.
class MemoryLog {
 public:
  static constexpr std::size_t kMostSamples = 4096;

  // `keeps_samples`: false for phases and extremes only.
  explicit MemoryLog(bool keeps_samples);
  void begin_phase(std::string_view name, const MemorySample& sample);
  void add(const MemorySample& sample);
  // Replaces what was said of this kind before.
  void set_tensors(std::string_view kind, std::vector<TensorBytes> tensors);

  // From the log's begin to `when`, or now.
  [[nodiscard]] double seconds_until(std::chrono::steady_clock::time_point when) const;
  [[nodiscard]] double seconds() const { return seconds_until(std::chrono::steady_clock::now()); }
  [[nodiscard]] std::string_view phase() const { return phases_.at(phase_).name; }
  [[nodiscard]] const std::vector<LoggedSample>& samples() const { return samples_; }
  [[nodiscard]] const std::vector<LoggedPhase>& phases() const { return phases_; }
  [[nodiscard]] const std::vector<TensorBytes>& tensors() const { return tensors_; }
  // As LoggedPhase::largest, of the whole run.
  [[nodiscard]] const MemorySample& largest() const { return largest_; }

 private:
  std::chrono::steady_clock::time_point begin_;
  bool keeps_samples_;
  std::vector<LoggedSample> samples_;
  std::vector<LoggedPhase> phases_;
  std::vector<TensorBytes> tensors_;
  MemorySample largest_;
  std::size_t phase_ = 0;
  std::size_t stride_ = 1, skipped_ = 0;
};

}  // namespace qf
