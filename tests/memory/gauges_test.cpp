#include "qwen3fp4/memory/gauges.h"

#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "recorded_machine.h"

namespace qf {
namespace {

using test::kGiB;
using test::kMiB;
using enum MemoryGauge;

TEST(MemoryProbe, ReadsThisMachine) {
  const MemorySample sample = MemoryProbe().read();
  ASSERT_TRUE(sample[kProcessResident] && sample[kMachineTotal] && sample[kMachineAvailable]);
  EXPECT_GT(*sample[kProcessResident], kMiB);
  EXPECT_LE(*sample[kProcessAnonymous], *sample[kProcessResident]);
  EXPECT_LT(*sample[kProcessResident], *sample[kMachineTotal]);
  // Pages that are written become resident.
  std::vector<char> block(static_cast<std::size_t>(64 * kMiB), 'x');
  EXPECT_GT(*MemoryProbe().read()[kProcessAnonymous], *sample[kProcessAnonymous] + 60 * kMiB)
      << block.back();
}

TEST(MemoryProbe, LeavesEmptyWhatCannotBeReadAndSaysWhy) {
  const test::RecordedMachine machine;
  const auto probe = machine.probe();
  const MemorySample sample = probe->read();
  for (const auto gauge : {kProcessResident, kMachineTotal, kMachineAvailable, kCgroupLimit,
                           kCgroupUsed, kDeviceTotal, kDeviceProcess}) {
    EXPECT_EQ(sample[gauge], std::nullopt) << gauge_name(gauge);
    EXPECT_NE(probe->why_empty(gauge), "") << gauge_name(gauge);
  }
  EXPECT_EQ(probe->why_empty(kDeviceTotal), "the run uses no GPU");
  EXPECT_EQ(probe->why_empty(kMachineTotal), "/proc/meminfo, MemTotal cannot be read");
}

TEST(MemoryProbe, FindsTheTightestCgroupOfVersion2) {
  const test::RecordedMachine machine;
  machine.write("proc/self/cgroup", "0::/user.slice/run\n");
  machine.write("sys/fs/cgroup/user.slice/run/memory.max", "max\n");
  machine.write("sys/fs/cgroup/user.slice/run/memory.current", "1000\n");
  machine.write("sys/fs/cgroup/user.slice/memory.max", "8589934592\n");
  machine.write("sys/fs/cgroup/user.slice/memory.current", "3221225472\n");
  machine.write("sys/fs/cgroup/user.slice/memory.stat",
                "anon 5\nfile 9\ninactive_file 1073741824\n");
  const MemorySample sample = machine.probe()->read();
  EXPECT_EQ(sample[kCgroupLimit], 8 * kGiB);
  EXPECT_EQ(sample[kCgroupUsed], 2 * kGiB) << "inactive page cache can be given back";
}

TEST(MemoryProbe, ReadsCgroupsOfVersion1) {
  const test::RecordedMachine machine;
  machine.write("proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/a\n1:name=systemd:/\n");
  machine.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  machine.write("sys/fs/cgroup/memory/memory.usage_in_bytes", "5\n");
  machine.write("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1073741824\n");
  machine.write("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "1048576\n");
  machine.write("sys/fs/cgroup/memory/a/memory.stat", "total_inactive_file 2097152\n");
  const MemorySample sample = machine.probe()->read();
  EXPECT_EQ(sample[kCgroupLimit], kGiB);
  EXPECT_EQ(sample[kCgroupUsed], 0);
}

TEST(MemoryProbe, TakesNoLimitForNone) {
  const test::RecordedMachine machine;
  machine.write("proc/self/cgroup", "0::/\n");
  machine.write("sys/fs/cgroup/memory.max", "max\n");
  machine.write("sys/fs/cgroup/memory.current", "1000\n");
  EXPECT_EQ(machine.probe()->read()[kCgroupLimit], std::nullopt);
}

TEST(MemoryProbe, ReadsADeviceOnceThereIsOne) {
  const test::RecordedMachine machine;
  test::PlayedDevice device{.total = 80 * kGiB, .free = 70 * kGiB, .allocated = 3, .reserved = 4};
  const auto probe = machine.probe();
  probe->watch_device(device.memory());
  const MemorySample sample = probe->read();
  EXPECT_EQ(sample[kDeviceFree], 70 * kGiB);
  EXPECT_EQ(sample[kDeviceReserved], 4);
  EXPECT_EQ(sample[kDeviceProcess], std::nullopt);
  EXPECT_EQ(probe->why_empty(kDeviceProcess), "a played GPU");
}

}  // namespace
}  // namespace qf
