#include "qwen3fp4/memory/limits.h"

#include <gtest/gtest.h>

#include "qwen3fp4/memory/host_cap.h"
#include "recorded_machine.h"

namespace qf {
namespace {

using test::kGiB;
using test::kMiB;
using enum MemoryGauge;

MemorySample host(std::int64_t resident, std::int64_t available) {
  MemorySample sample;
  sample[kProcessResident] = resident;
  sample[kProcessAnonymous] = resident - 100 * kMiB;
  sample[kHostAllocated] = resident - 300 * kMiB;
  sample[kMachineTotal] = 128 * kGiB;
  sample[kMachineAvailable] = available;
  return sample;
}

const MemoryPool* find(const std::vector<MemoryPool>& pools, PoolKind kind) {
  for (const MemoryPool& pool : pools) {
    if (pool.kind == kind) return &pool;
  }
  return nullptr;
}

TEST(MemoryLimits, ReserveIsAShareAndAtMostAQuarter) {
  EXPECT_EQ(host_reserve(100 * kGiB), 5 * kGiB + 512 * kMiB);
  EXPECT_EQ(host_reserve(kGiB), 256 * kMiB);
  EXPECT_EQ(device_reserve(80 * kGiB), 80 * kGiB / 50 + 256 * kMiB);
}

TEST(MemoryLimits, TheMachineIsAlwaysAPool) {
  const auto pools = memory_pools(host(2 * kGiB, 100 * kGiB), MemoryLayout::kHost, std::nullopt);
  ASSERT_EQ(pools.size(), 1U);
  EXPECT_EQ(pools[0].used, 28 * kGiB);
  EXPECT_EQ(pools[0].limit, 128 * kGiB - host_reserve(128 * kGiB));
}

TEST(MemoryLimits, AGivenLimitIsTheProcessesWithoutGpu) {
  const auto pools = memory_pools(host(2 * kGiB, 100 * kGiB), MemoryLayout::kHost, 3 * kGiB);
  const auto* const process = find(pools, PoolKind::kProcess);
  ASSERT_NE(process, nullptr);
  EXPECT_EQ(process->left(), kGiB);
}

TEST(MemoryLimits, AGivenLimitIsTheGpusWithOne) {
  auto sample = host(2 * kGiB, 100 * kGiB);
  sample[kDeviceTotal] = 80 * kGiB;
  sample[kDeviceFree] = 75 * kGiB;
  sample[kDeviceReserved] = 4 * kGiB;
  const auto pools = memory_pools(sample, MemoryLayout::kDevice, 8 * kGiB);
  EXPECT_EQ(find(pools, PoolKind::kProcess), nullptr);
  const auto* const device = find(pools, PoolKind::kDevice);
  ASSERT_NE(device, nullptr);
  EXPECT_EQ(device->used, 5 * kGiB);
  EXPECT_EQ(device->limit, 8 * kGiB);
  EXPECT_EQ(device_cap_for(sample, pools), 7 * kGiB) << "1 GiB is CUDA's or another program's";
}

// GB10: CUDA calls page cache used, and /proc knows better. A load of 60 GiB through the page cache
// leaves CUDA 8 GiB "free" and the kernel 68.
TEST(MemoryLimits, OfUnifiedMemoryOnlyTheMachinesWordCounts) {
  auto sample = host(2 * kGiB, 68 * kGiB);
  sample[kDeviceTotal] = 128 * kGiB;
  sample[kDeviceFree] = 8 * kGiB;
  sample[kDeviceReserved] = 50 * kGiB;
  const auto pools = memory_pools(sample, MemoryLayout::kShared, std::nullopt);
  ASSERT_EQ(pools.size(), 1U);
  EXPECT_EQ(pools[0].used, 60 * kGiB);
  const std::int64_t left = pools[0].left();
  EXPECT_GT(left, 60 * kGiB);
  EXPECT_EQ(device_cap_for(sample, pools), 50 * kGiB + left / 4 * 3);
  // Both sides together stay within what is left.
  const std::int64_t host_more = host_cap_for(sample, pools, 200 * kMiB) - *sample[kHostAllocated];
  EXPECT_LE(host_more + left / 4 * 3, left);
  EXPECT_EQ(memory_pools(sample, MemoryLayout::kShared, 61 * kGiB)[0].left(), kGiB);
}

TEST(MemoryLimits, CgroupsArePools) {
  auto sample = host(2 * kGiB, 100 * kGiB);
  sample[kCgroupLimit] = 4 * kGiB;
  sample[kCgroupUsed] = 3 * kGiB;
  const auto pools = memory_pools(sample, MemoryLayout::kHost, std::nullopt);
  const auto* const cgroup = find(pools, PoolKind::kCgroup);
  ASSERT_NE(cgroup, nullptr);
  EXPECT_EQ(cgroup->limit, 4 * kGiB - host_reserve(4 * kGiB));
}

TEST(MemoryLimits, CapLeavesRoomForPagesNotYetWritten) {
  auto sample = host(2 * kGiB, 100 * kGiB);
  const auto pools = memory_pools(sample, MemoryLayout::kHost, 3 * kGiB);
  constexpr std::int64_t kLibraries = 200 * kMiB;  // resident = shared + libraries + counted
  EXPECT_EQ(host_cap_for(sample, pools, kLibraries), *sample[kHostAllocated] + kGiB - kCapMargin);
  // 500 MiB more are allocated, and nobody has written them.
  sample[kHostAllocated] = *sample[kHostAllocated] + 500 * kMiB;
  EXPECT_EQ(host_cap_for(sample, pools, kLibraries),
            *sample[kHostAllocated] + kGiB - 500 * kMiB - kCapMargin);
}

TEST(MemoryLimits, NothingToReadIsNoCap) {
  EXPECT_EQ(host_cap_for({}, memory_pools({}, MemoryLayout::kHost, std::nullopt), 0), kNoCap);
  EXPECT_EQ(device_cap_for({}, {}), std::nullopt);
}

TEST(MemoryLimits, GigabytesHaveThreeDigits) {
  EXPECT_EQ(gigabytes(1234567890), "1.23 GB");
  EXPECT_EQ(gigabytes(12345678900), "12.3 GB");
}

}  // namespace
}  // namespace qf
