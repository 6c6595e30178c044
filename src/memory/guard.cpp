#include "qwen3fp4/memory/guard.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <set>
#include <utility>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/formats/dtype.h"
#include "qwen3fp4/memory/host_cap.h"

namespace qf {
namespace {

std::atomic<MemoryGuard*> current = nullptr;

std::string sentence_of(const MemoryPool& pool, std::string_view phase) {
  return fmt::format(
      "memory guard: {} of {} are used, expected at most {} (--guard-limit-gb); stopped in phase "
      "'{}'",
      gigabytes(pool.used), pool.name(), gigabytes(pool.limit), phase);
}

// As ours are written wherever users read them.
std::string type_name(const at::Tensor& tensor) {
  const auto code = static_cast<std::uint64_t>(tensor.scalar_type());
  return std::string(is_known_dtype(code) ? dtype_name(static_cast<DType>(code))
                                          : tensor.dtype().name());
}

void refuse_low_limit(const std::vector<MemoryPool>& pools) {
  for (const MemoryPool& pool : pools) {
    if (pool.kind != PoolKind::kProcess || pool.left() > 0) continue;
    fail(ExitCode::kUsage,
         "--guard-limit-gb: expected more than the {} that the program takes before it begins, got "
         "{}",
         gigabytes(pool.used), gigabytes(pool.limit));
  }
}

}  // namespace

MemoryGuard::MemoryGuard(const GuardSettings& settings, std::unique_ptr<MemoryProbe> probe,
                         std::function<void(const std::string&)> end_process)
    : settings_(settings),
      probe_(std::move(probe)),
      end_process_(std::move(end_process)),
      layout_(settings.on_device ? MemoryLayout::kDevice : MemoryLayout::kHost),
      device_cap_(kNoCap),
      log_(settings.keeps_log) {
  install_host_cap();
  last_within_ = Clock::now();
  const MemorySample sample = probe_->read();
  libraries_ = std::max<std::int64_t>(
      0, sample[MemoryGauge::kProcessAnonymous].value_or(0) - host_allocated());
  log_.begin_phase("start", sample);
  if (settings_.on) refuse_low_limit(memory_pools(sample, layout_, settings_.limit));
  if (settings_.on || settings_.keeps_log) thread_ = std::thread([this] { watch(); });
  // Nothing below throws.
  current = this;
  const std::lock_guard lock(mutex_);
  if (!settings_.on) return;
  set_cap_refresher(&MemoryGuard::refresh);
  set_caps(sample, memory_pools(sample, layout_, settings_.limit));
}

MemoryGuard::~MemoryGuard() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  ends_.notify_all();
  if (thread_.joinable()) thread_.join();
  set_cap_refresher(nullptr);
  set_drop_page_cache(false);
  set_host_cap(kNoCap);
  current = nullptr;
  forget_stop_request();
}

void MemoryGuard::watch() {
  const auto poll = std::chrono::duration<double>(settings_.poll_seconds);
  std::unique_lock lock(mutex_);
  while (!ends_.wait_for(lock, poll, [this] { return ending_; })) {
    bool late = false;
    try {
      late = look(Clock::now());
    } catch (const std::exception&) {
      // No memory for a look, or a driver that does not answer: the next one may succeed.
    }
    if (!late) continue;
    const std::string sentence =
        fmt::format("{}; it did not end within {} s of that, so it was ended here", sentence_,
                    stop_request_seen_at() ? settings_.save_seconds : settings_.grace_seconds);
    lock.unlock();  // a report reads what this guard knows
    return end_process_(sentence);
  }
}

void MemoryGuard::refresh_host_cap() const {
  const MemorySample sample = probe_->read_host();
  const auto pools = memory_pools(sample, layout_, settings_.limit);
  set_host_cap(std::max(host_cap_for(sample, pools, libraries_), floor_.load()));
}

// In the thread of an allocation, which may hold the guard's lock.
void MemoryGuard::refresh() noexcept {
  try {
    if (const auto* const guard = memory_guard()) guard->refresh_host_cap();
  } catch (const std::exception&) {
    // The old cap stands.
  }
}

void MemoryGuard::set_caps(const MemorySample& sample, const std::vector<MemoryPool>& pools) {
  floor_ = host_allocated();
  set_host_cap(std::max(host_cap_for(sample, pools, libraries_), floor_.load()));
  if (const auto cap = device_cap_for(sample, pools)) {
    device_cap_ = *cap;
    probe_->device()->set_cap(*cap);
  }
}

bool MemoryGuard::look(Clock::time_point now) {
  const MemorySample sample = probe_->read();
  log_.add(sample);
  if (!settings_.on) return false;
  if (stopped_at_) return is_late(now);
  const auto pools = memory_pools(sample, layout_, settings_.limit);
  set_caps(sample, pools);
  const auto over = std::ranges::find_if(pools, [](const MemoryPool& p) { return p.left() < 0; });
  if (over == pools.end()) {
    last_within_ = now;
    over_since_.reset();
    return false;
  }
  if (!over_since_) over_since_ = now;
  if (std::chrono::duration<double>(now - *over_since_).count() < settings_.over_seconds) {
    return false;
  }
  stop_run(*over);
  stopped_at_ = now;
  return false;
}

void MemoryGuard::stop_run(const MemoryPool& pool) {
  const std::string phase(log_.phase());
  sentence_ = sentence_of(pool, phase);
  breach_ = Breach{.pool = pool,
                   .phase = phase,
                   .last_within = log_.seconds_until(last_within_),
                   .first_over = log_.seconds_until(*over_since_),
                   .requested = log_.seconds(),
                   .seen = {}};
  request_stop(ExitCode::kGuardStopped, sentence_);
}

bool MemoryGuard::is_late(Clock::time_point now) const {
  const auto seen_at = stop_request_seen_at();
  const auto since = [&](Clock::time_point then) {
    return std::chrono::duration<double>(now - then).count();
  };
  return seen_at ? since(*seen_at) > settings_.save_seconds
                 : since(*stopped_at_) > settings_.grace_seconds;
}

void MemoryGuard::watch_device(std::unique_ptr<DeviceMemory> device) {
  const std::lock_guard lock(mutex_);
  if (probe_->device() != nullptr) return;
  probe_->watch_device(std::move(device));
  layout_ = probe_->device()->integrated() ? MemoryLayout::kShared : MemoryLayout::kDevice;
  set_drop_page_cache(layout_ == MemoryLayout::kShared);
  if (!settings_.on) return;
  const MemorySample sample = probe_->read();
  set_caps(sample, memory_pools(sample, layout_, settings_.limit));
}

void MemoryGuard::begin_phase(std::string_view name) {
  const std::lock_guard lock(mutex_);
  const MemorySample sample = settings_.keeps_log ? probe_->read() : MemorySample{};
  log_.begin_phase(name, sample);
}

void MemoryGuard::set_tensors(std::string_view kind, std::vector<TensorBytes> tensors) {
  const std::lock_guard lock(mutex_);
  log_.set_tensors(kind, std::move(tensors));
}

std::vector<MemoryPool> MemoryGuard::pools() const {
  const std::lock_guard lock(mutex_);
  return memory_pools(probe_->read(), layout_, settings_.limit);
}

MemorySample MemoryGuard::read() const {
  const std::lock_guard lock(mutex_);
  return probe_->read();
}

std::string MemoryGuard::why_empty(MemoryGauge gauge) const {
  const std::lock_guard lock(mutex_);
  return probe_->why_empty(gauge);
}

std::int64_t MemoryGuard::device_cap() const { return device_cap_; }

std::optional<Breach> MemoryGuard::breach() const {
  const std::lock_guard lock(mutex_);
  auto breach = breach_;
  const auto seen_at = stop_request_seen_at();
  if (breach && seen_at) breach->seen = log_.seconds_until(*seen_at);
  return breach;
}

MemoryLog MemoryGuard::log() const {
  const std::lock_guard lock(mutex_);
  return log_;
}

MemoryGuard* memory_guard() { return current; }

void begin_memory_phase(std::string_view name) {
  auto* const guard = memory_guard();
  if (guard == nullptr) return;
  // Where main memory is what runs full, a phase does not begin with what the last one kept.
  if (guard->layout() == MemoryLayout::kHost) give_back_free_pages();
  guard->begin_phase(name);
}

void note_memory_tensors(std::string_view kind, const std::vector<at::Tensor>& tensors) {
  auto* const guard = memory_guard();
  if (guard == nullptr || !guard->settings().keeps_log) return;
  std::map<std::pair<std::string, std::string>, std::int64_t> bytes;
  std::set<const void*> known;  // views of one storage count once
  for (const at::Tensor& t : tensors) {
    if (!t.defined() || !known.insert(t.storage().data()).second) continue;
    bytes[{t.device().str(), type_name(t)}] += static_cast<std::int64_t>(t.storage().nbytes());
  }
  std::vector<TensorBytes> table;
  for (const auto& [where, count] : bytes) {
    table.push_back({std::string(kind), where.first, where.second, count});
  }
  guard->set_tensors(kind, std::move(table));
}

void watch_device_memory() {
  auto* const guard = memory_guard();
  if (guard == nullptr) return;
  if (auto device = make_device_memory()) guard->watch_device(std::move(device));
}

}  // namespace qf
