#include "qwen3fp4/memory/plan.h"

#include <fmt/format.h>

#include <algorithm>

namespace qf {

std::int64_t MemoryPlan::peak() const {
  std::int64_t sum = 0;
  for (const auto& [name, bytes] : held) sum += bytes;
  std::int64_t most = 0;
  for (const auto& [name, bytes] : phases) most = std::max(most, bytes);
  return sum + most;
}

std::int64_t bytes_in_use(const MemorySample& sample, bool on_device) {
  if (!on_device) return sample[MemoryGauge::kProcessResident].value_or(0);
  return std::max<std::int64_t>(0, sample[MemoryGauge::kDeviceProcess].value_or(0) -
                                       sample[MemoryGauge::kDeviceReserved].value_or(0));
}

const MemoryPool* pool_too_small(const MemoryPlan& plan, const std::vector<MemoryPool>& pools,
                                 bool on_device) {
  const MemoryPool* worst = nullptr;
  for (const MemoryPool& pool : pools) {
    const bool of_device = pool.kind == PoolKind::kDevice;
    if (pool.kind != PoolKind::kShared && of_device != on_device) continue;
    if (plan.added_peak() <= pool.left()) continue;
    if (worst == nullptr || pool.left() < worst->left()) worst = &pool;
  }
  return worst;
}

std::int64_t largest_that_fits(std::int64_t least, std::int64_t most,
                               const std::vector<MemoryPool>& pools, bool on_device,
                               const std::function<MemoryPlan(std::int64_t)>& plan_of) {
  std::int64_t fits = least - 1;
  while (fits < most) {
    const std::int64_t middle = fits + (most - fits + 1) / 2;
    if (pool_too_small(plan_of(middle), pools, on_device) == nullptr) {
      fits = middle;
    } else {
      most = middle - 1;
    }
  }
  return fits;
}

std::string plan_table(const MemoryPlan& plan) {
  const auto row = [](const std::string& name, std::int64_t bytes) {
    return fmt::format("{:<56} {:>10.1f} MB\n", name, static_cast<double>(bytes) / 1e6);
  };
  std::string table = "held all the time\n";
  if (plan.in_use > 0) table += row("  program and libraries, in use now", plan.in_use);
  if (plan.libraries > 0) table += row("  libraries and heaps, beside tensors", plan.libraries);
  for (const auto& [name, bytes] : plan.held) table += row("  " + name, bytes);
  table += "one after the other\n";
  for (const auto& [name, bytes] : plan.phases) table += row("  " + name, bytes);
  table += row("peak of tensors", plan.peak());
  return plan.in_use > 0 ? table + row("peak of the process", plan.process_peak()) : table;
}

}  // namespace qf
