#include "qwen3fp4/memory/memory_log.h"

#include <algorithm>
#include <utility>

namespace qf {
namespace {

// Where less is worse.
bool counts_what_is_left(MemoryGauge gauge) {
  return gauge == MemoryGauge::kMachineAvailable || gauge == MemoryGauge::kDeviceFree;
}

void widen(MemorySample& largest, const MemorySample& sample) {
  for (std::size_t i = 0; i < kMemoryGauges; ++i) {
    const auto& now = sample.bytes[i];
    auto& known = largest.bytes[i];
    if (!now) continue;
    if (!known) {
      known = now;
    } else {
      known = counts_what_is_left(static_cast<MemoryGauge>(i)) ? std::min(*known, *now)
                                                               : std::max(*known, *now);
    }
  }
}

}  // namespace

// All space at once: samples are added by a thread that must not meet a cap.
MemoryLog::MemoryLog(bool keeps_samples)
    : begin_(std::chrono::steady_clock::now()), keeps_samples_(keeps_samples) {
  if (keeps_samples_) samples_.reserve(kMostSamples + 1);
}

double MemoryLog::seconds_until(std::chrono::steady_clock::time_point when) const {
  return std::chrono::duration<double>(when - begin_).count();
}

void MemoryLog::begin_phase(std::string_view name, const MemorySample& sample) {
  const auto known = std::ranges::find(phases_, name, &LoggedPhase::name);
  phase_ = static_cast<std::size_t>(known - phases_.begin());
  if (known == phases_.end()) {
    phases_.push_back(
        {.name = std::string(name), .begin = seconds(), .at_begin = sample, .largest = {}});
  }
  widen(phases_[phase_].largest, sample);
  widen(largest_, sample);
}

void MemoryLog::add(const MemorySample& sample) {
  widen(largest_, sample);
  if (!phases_.empty()) widen(phases_[phase_].largest, sample);
  if (!keeps_samples_ || ++skipped_ < stride_) return;
  skipped_ = 0;
  samples_.push_back({seconds(), phase_, sample});
  if (samples_.size() < kMostSamples) return;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < samples_.size(); i += 2) samples_[kept++] = samples_[i];
  samples_.resize(kept);
  stride_ *= 2;
}

void MemoryLog::set_tensors(std::string_view kind, std::vector<TensorBytes> tensors) {
  std::erase_if(tensors_, [&](const TensorBytes& known) { return known.kind == kind; });
  std::ranges::move(tensors, std::back_inserter(tensors_));
}

}  // namespace qf
