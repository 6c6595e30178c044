#include "qwen3fp4/memory/limits.h"

#include <fmt/format.h>

#include <algorithm>

#include "qwen3fp4/memory/host_cap.h"

namespace qf {
namespace {

constexpr std::int64_t kMiB = std::int64_t{1} << 20;

}  // namespace

std::string_view pool_name(PoolKind kind) {
  switch (kind) {
    case PoolKind::kMachine:
      return "the machine's main memory";
    case PoolKind::kShared:
      return "the memory that machine and GPU share";
    case PoolKind::kProcess:
      return "this process's main memory";
    case PoolKind::kCgroup:
      return "the cgroup's memory";
    case PoolKind::kDevice:
      return "the GPU's memory";
  }
  return "";
}

std::int64_t host_reserve(std::int64_t total) {
  return std::min(total / 20 + 512 * kMiB, total / 4);
}
std::int64_t device_reserve(std::int64_t total) {
  return std::min(total / 50 + 256 * kMiB, total / 4);
}

std::vector<MemoryPool> memory_pools(const MemorySample& sample, MemoryLayout layout,
                                     std::optional<std::int64_t> given) {
  using enum MemoryGauge;
  std::vector<MemoryPool> pools;
  const bool shared = layout == MemoryLayout::kShared;
  if (sample[kMachineTotal] && sample[kMachineAvailable]) {
    const std::int64_t total = *sample[kMachineTotal];
    const std::int64_t limit = total - host_reserve(total);
    pools.push_back({.kind = shared ? PoolKind::kShared : PoolKind::kMachine,
                     .used = total - *sample[kMachineAvailable],
                     .limit = shared ? given.value_or(limit) : limit});
  }
  if (sample[kProcessResident] && given && layout == MemoryLayout::kHost) {
    pools.push_back(
        {.kind = PoolKind::kProcess, .used = *sample[kProcessResident], .limit = *given});
  }
  if (sample[kCgroupUsed] && sample[kCgroupLimit]) {
    const std::int64_t limit = *sample[kCgroupLimit];
    pools.push_back({.kind = PoolKind::kCgroup,
                     .used = *sample[kCgroupUsed],
                     .limit = limit - host_reserve(limit)});
  }
  if (layout == MemoryLayout::kDevice && sample[kDeviceTotal] && sample[kDeviceFree]) {
    const std::int64_t total = *sample[kDeviceTotal];
    pools.push_back({.kind = PoolKind::kDevice,
                     .used = total - *sample[kDeviceFree],
                     .limit = given.value_or(total - device_reserve(total))});
  }
  return pools;
}

std::int64_t host_cap_for(const MemorySample& sample, const std::vector<MemoryPool>& pools,
                          std::int64_t libraries) {
  const std::int64_t counted = sample[MemoryGauge::kHostAllocated].value_or(0);
  const std::int64_t anonymous = sample[MemoryGauge::kProcessAnonymous].value_or(counted);
  const std::int64_t unwritten = std::max<std::int64_t>(0, counted + libraries - anonymous);
  std::int64_t cap = kNoCap;
  for (const MemoryPool& pool : pools) {
    if (pool.kind == PoolKind::kDevice) continue;
    // Of a shared pool each side gets a part, so that both cannot take the same bytes.
    const std::int64_t left = pool.kind == PoolKind::kShared ? pool.left() / 4 : pool.left();
    cap = std::min(cap, counted + left - unwritten);
  }
  return cap == kNoCap ? cap : cap - kCapMargin;
}

std::optional<std::int64_t> device_cap_for(const MemorySample& sample,
                                           const std::vector<MemoryPool>& pools) {
  const auto& reserved = sample[MemoryGauge::kDeviceReserved];
  if (!reserved) return std::nullopt;
  for (const MemoryPool& pool : pools) {
    if (pool.kind != PoolKind::kDevice && pool.kind != PoolKind::kShared) continue;
    const std::int64_t left = pool.kind == PoolKind::kShared ? pool.left() / 4 * 3 : pool.left();
    return std::max<std::int64_t>(0, *reserved + left);
  }
  return std::nullopt;
}

std::string gigabytes(std::int64_t bytes) {
  const double gb = static_cast<double>(bytes) / 1e9;
  return gb < 10 ? fmt::format("{:.2f} GB", gb) : fmt::format("{:.1f} GB", gb);
}

}  // namespace qf
