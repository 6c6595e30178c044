#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "qwen3fp4/memory/gauges.h"
#include "qwen3fp4/memory/limits.h"
#include "qwen3fp4/memory/memory_log.h"

namespace qf {

struct GuardSettings {
  bool on = true;
  std::optional<std::int64_t> limit;  // bytes, of the memory that the run computes in
  bool on_device = false;             // which will be a GPU's, once there is one to watch
  double poll_seconds = 0.05;
  double over_seconds = 0;  // how long a pool may be over its limit
  // How long the run may take to see the request to stop; then how long to save and end.
  double grace_seconds = 10;
  double save_seconds = 120;
  bool keeps_log = false;  // samples over time, for a report
};

// Why and when the guard stopped the run.
struct Breach {
  MemoryPool pool;
  std::string phase;
  // Seconds since the guard began. The pool passed its limit at some moment between the first two.
  double last_within = 0;      // the last look that found no pool over its limit
  double first_over = 0;       // the first one that did
  double requested = 0;        // the run was asked to stop
  std::optional<double> seen;  // and met that, at a layer, chunk or tensor
};

// Keeps the run from filling the memory of the machine or of the GPU. Before a limit: caps on the
// allocators of tensors and of operator new, which refuse at once (CapExceeded, or libtorch's
// OutOfMemoryError) and which follow what libraries and other programs take. At a limit, for what
// the caps cannot see: request_stop() with exit code 75 (base/interrupt.h); a run that does not end
// in time is ended. One at a time; it owns the only thread of the program that is not in libtorch's
// or oneTBB's pools, and the destructor joins it.
class MemoryGuard {
 public:
  // `end_process`: called once, in the guard's thread, with the sentence when the run did not end
  // by itself; does not return in a real run.
  MemoryGuard(const GuardSettings& settings, std::unique_ptr<MemoryProbe> probe,
              std::function<void(const std::string&)> end_process);
  MemoryGuard(const MemoryGuard&) = delete;
  MemoryGuard& operator=(const MemoryGuard&) = delete;
  // Lifts the caps.
  ~MemoryGuard();

  // From here on the GPU is watched, and its allocator capped.
  void watch_device(std::unique_ptr<DeviceMemory> device);
  void begin_phase(std::string_view name);
  void set_tensors(std::string_view kind, std::vector<TensorBytes> tensors);

  // Of what a plan has to respect: what is used now, and how much may be.
  [[nodiscard]] std::vector<MemoryPool> pools() const;
  [[nodiscard]] MemorySample read() const;
  [[nodiscard]] std::string why_empty(MemoryGauge gauge) const;
  [[nodiscard]] MemoryLayout layout() const { return layout_; }
  [[nodiscard]] const GuardSettings& settings() const { return settings_; }
  [[nodiscard]] std::optional<Breach> breach() const;
  // A copy, for a report.
  [[nodiscard]] MemoryLog log() const;
  // The most that the GPU's tensors may take, as it stands; kNoCap where there is no such cap.
  [[nodiscard]] std::int64_t device_cap() const;

 private:
  using Clock = std::chrono::steady_clock;
  void watch();
  void set_caps(const MemorySample& sample, const std::vector<MemoryPool>& pools);
  void refresh_host_cap() const;
  static void refresh() noexcept;
  // Both return whether the run is to be ended.
  bool look(Clock::time_point now);
  [[nodiscard]] bool is_late(Clock::time_point now) const;
  void stop_run(const MemoryPool& pool);

  GuardSettings settings_;
  std::unique_ptr<MemoryProbe> probe_;
  std::function<void(const std::string&)> end_process_;
  std::int64_t libraries_ = 0;  // anonymous bytes at the start that are no counted blocks
  std::atomic<MemoryLayout> layout_;
  std::atomic<std::int64_t> device_cap_;
  // The cap is never below what was allocated at the last look, so that a run that is over a limit
  // can still end in order.
  std::atomic<std::int64_t> floor_ = 0;

  mutable std::mutex mutex_;  // of everything below, and of probe_
  std::condition_variable ends_;
  bool ending_ = false;
  MemoryLog log_;
  std::optional<Clock::time_point> over_since_, stopped_at_;
  Clock::time_point last_within_;
  std::optional<Breach> breach_;
  std::string sentence_;
  std::thread thread_;  // last: it uses the others
};

// The running guard, or nullptr: what follows then does nothing.
[[nodiscard]] MemoryGuard* memory_guard();
void begin_memory_phase(std::string_view name);
// For the report: what these tensors take, by device and type, replaces what was said of this kind.
void note_memory_tensors(std::string_view kind, const std::vector<at::Tensor>& tensors);
// Called by the backend of a GPU.
void watch_device_memory();

}  // namespace qf
