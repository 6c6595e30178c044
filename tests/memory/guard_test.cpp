#include "qwen3fp4/memory/guard.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/memory/host_cap.h"
#include "recorded_machine.h"

namespace qf {
namespace {

using test::kGiB;
using test::kMiB;
using testing::HasSubstr;

constexpr double kPoll = 0.005;

void expect_no_end(const std::string& sentence) { ADD_FAILURE() << "ended: " << sentence; }

// As long runs do; false after half a minute.
bool waits_for_stop() {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (std::chrono::steady_clock::now() < until) {
    if (interrupted()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

test::RecordedMachine& calm(test::RecordedMachine& machine) {
  machine.meminfo(16 * kGiB, 12 * kGiB);
  machine.statm(500 * kMiB, 100 * kMiB);
  return machine;
}

TEST(MemoryGuard, StopsARunThatPassesItsLimit) {
  test::RecordedMachine machine;
  MemoryGuard guard({.limit = kGiB, .poll_seconds = kPoll}, calm(machine).probe(), expect_no_end);
  guard.begin_phase("decode");
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(interrupted()) << "below the limit";
  machine.statm(2 * kGiB, 100 * kMiB);
  ASSERT_TRUE(waits_for_stop());
  try {
    check_interrupted();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kGuardStopped);
    EXPECT_THAT(error.what(), HasSubstr("2.15 GB of this process's main memory are used"));
    EXPECT_THAT(error.what(), HasSubstr("expected at most 1.07 GB (--guard-limit-gb)"));
    EXPECT_THAT(error.what(), HasSubstr("'decode'"));
  }
  EXPECT_EQ(guard.breach()->pool.used, 2 * kGiB);
}

TEST(MemoryGuard, KnowsWhenItSawAskedAndWasHeard) {
  test::RecordedMachine machine;
  MemoryGuard guard({.limit = kGiB, .poll_seconds = kPoll, .over_seconds = 0.02},
                    calm(machine).probe(), expect_no_end);
  machine.statm(2 * kGiB, 0);
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!guard.breach() && std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ASSERT_TRUE(guard.breach());
  EXPECT_FALSE(guard.breach()->seen) << "nobody looked yet";
  ASSERT_TRUE(interrupted());
  const auto breach = *guard.breach();
  EXPECT_GE(breach.last_within, 0);
  EXPECT_LT(breach.last_within, breach.first_over);
  EXPECT_GE(breach.requested - breach.first_over, 0.02) << "--guard-over-secs";
  ASSERT_TRUE(breach.seen);
  EXPECT_GT(*breach.seen, breach.requested);
  ASSERT_TRUE(interrupted());
  EXPECT_EQ(guard.breach()->seen, breach.seen) << "the first time counts";
}

TEST(MemoryGuard, ForgetsItsRequestAndItsCapsAtTheEnd) {
  test::RecordedMachine machine;
  {
    const MemoryGuard guard({.limit = 600 * kMiB, .poll_seconds = kPoll}, calm(machine).probe(),
                            expect_no_end);
    EXPECT_NE(host_cap(), kNoCap);
    machine.statm(kGiB, 0);
    ASSERT_TRUE(waits_for_stop());
  }
  EXPECT_EQ(host_cap(), kNoCap);
  EXPECT_FALSE(interrupted());
  EXPECT_NO_THROW(check_stop_request());
}

TEST(MemoryGuard, ForgivesWhatIsShorterThanOverSeconds) {
  test::RecordedMachine machine;
  const MemoryGuard guard({.limit = kGiB, .poll_seconds = kPoll, .over_seconds = 3600},
                          calm(machine).probe(), expect_no_end);
  machine.statm(2 * kGiB, 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_FALSE(interrupted());
}

TEST(MemoryGuard, EndsARunThatDoesNotNotice) {
  test::RecordedMachine machine;
  std::atomic<bool> ended = false;
  std::string said;
  MemoryGuard guard({.limit = kGiB, .poll_seconds = kPoll, .grace_seconds = 0.02},
                    calm(machine).probe(), [&](const std::string& sentence) {
                      said = sentence;
                      EXPECT_EQ(memory_guard()->breach()->pool.used, 2 * kGiB)
                          << "a report can be written meanwhile";
                      ended = true;
                    });
  machine.statm(2 * kGiB, 0);
  for (int i = 0; i < 30000 && !ended; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  ASSERT_TRUE(ended);
  EXPECT_THAT(said, HasSubstr("it did not end within 0.02 s"));
}

TEST(MemoryGuard, OffWatchesAndStopsNothing) {
  test::RecordedMachine machine;
  MemoryGuard guard({.on = false, .limit = kGiB, .poll_seconds = kPoll, .keeps_log = true},
                    calm(machine).probe(), expect_no_end);
  machine.statm(2 * kGiB, 0);
  for (int i = 0; i < 30000; ++i) {
    if (guard.log().largest()[MemoryGauge::kProcessResident] == 2 * kGiB) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(guard.log().largest()[MemoryGauge::kProcessResident], 2 * kGiB);
  EXPECT_FALSE(interrupted());
  EXPECT_EQ(host_cap(), kNoCap);
}

TEST(MemoryGuard, CapsTheDeviceAndFollowsWhatOthersTake) {
  test::RecordedMachine machine;
  test::PlayedDevice device{.total = 80 * kGiB, .free = 78 * kGiB, .reserved = kGiB};
  MemoryGuard guard({.limit = 10 * kGiB, .on_device = true, .poll_seconds = kPoll},
                    calm(machine).probe(), expect_no_end);
  guard.watch_device(device.memory());
  EXPECT_EQ(device.cap, 9 * kGiB);
  EXPECT_EQ(guard.device_cap(), 9 * kGiB);
  device.free = 76 * kGiB;  // another program took two
  for (int i = 0; i < 30000 && device.cap != 7 * kGiB; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_EQ(device.cap, 7 * kGiB);
}

// CUDA alone takes more main memory than some limits of a GPU's.
TEST(MemoryGuard, ALimitOfTheGpusIsNotTheProcesses) {
  test::RecordedMachine machine;
  const MemoryGuard guard({.limit = kGiB / 4, .on_device = true, .poll_seconds = kPoll},
                          calm(machine).probe(), expect_no_end);
  machine.statm(2 * kGiB, 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(interrupted());
}

TEST(MemoryGuard, WatchesUnifiedMemoryByTheMachinesWord) {
  test::RecordedMachine machine;
  test::PlayedDevice device{.integrated = true, .total = 128 * kGiB, .free = 100 * kMiB};
  machine.meminfo(128 * kGiB, 100 * kGiB);
  machine.statm(kGiB, 0);
  MemoryGuard guard({.limit = std::nullopt, .poll_seconds = kPoll}, machine.probe(), expect_no_end);
  guard.watch_device(device.memory());
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(interrupted()) << "CUDA's 100 MiB are page cache";
  machine.meminfo(128 * kGiB, 5 * kGiB);
  ASSERT_TRUE(waits_for_stop());
  EXPECT_EQ(guard.breach()->pool.kind, PoolKind::kShared);
}

// The real machine: allocations are refused at the limit, whoever asks, and it is never passed.
TEST(MemoryGuard, NoAllocationPassesTheLimit) {
  MemoryProbe probe;
  const std::int64_t limit = *probe.read()[MemoryGauge::kProcessResident] + 200 * kMiB;
  const MemoryGuard guard({.limit = limit, .poll_seconds = 0.001}, std::make_unique<MemoryProbe>(),
                          expect_no_end);
  std::vector<at::Tensor> tensors;
  std::vector<std::unique_ptr<char[]>> blocks;
  bool refused = false;
  tensors.reserve(1000);
  blocks.reserve(1000);
  for (int i = 0; i < 1000 && !refused; ++i) {
    try {
      tensors.push_back(at::ones({3 * kMiB}, at::kByte));
      blocks.push_back(std::make_unique<char[]>(static_cast<std::size_t>(2 * kMiB)));
    } catch (const CapExceeded&) {
      refused = true;
    }
  }
  EXPECT_TRUE(refused);
  EXPECT_GE(tensors.size(), 20U) << "most of the 200 MiB could be had";
  EXPECT_LE(*probe.read()[MemoryGauge::kProcessResident], limit);
  EXPECT_FALSE(guard.breach()) << "nothing passed that the watch would have had to stop";
}

// Pages that are written after the allocation count as well.
TEST(MemoryGuard, UnwrittenBlocksCountAgainstTheLimit) {
  MemoryProbe probe;
  const std::int64_t limit = *probe.read()[MemoryGauge::kProcessResident] + 200 * kMiB;
  const MemoryGuard guard({.limit = limit, .poll_seconds = 0.001}, std::make_unique<MemoryProbe>(),
                          expect_no_end);
  std::vector<at::Tensor> tensors;
  try {
    for (int i = 0; i < 100; ++i) {
      tensors.push_back(at::empty({8 * kMiB}, at::kByte));
      std::this_thread::sleep_for(std::chrono::milliseconds(2));  // the guard looks meanwhile
    }
    FAIL() << "800 MiB were had of 200";
  } catch (const CapExceeded&) {
  }
  for (at::Tensor& tensor : tensors) tensor.fill_(1);
  EXPECT_LE(*probe.read()[MemoryGauge::kProcessResident], limit);
}

TEST(MemoryLog, HoldsBoundedSamplesAndAllExtremes) {
  MemoryLog log(true);
  log.begin_phase("a", {});
  for (std::int64_t i = 0; i < 50000; ++i) {
    MemorySample sample;
    sample[MemoryGauge::kProcessResident] = i == 31337 ? 10 * kGiB : i;
    sample[MemoryGauge::kMachineAvailable] = i == 4711 ? 1 : kGiB;
    if (i == 40000) log.begin_phase("b", sample);
    log.add(sample);
  }
  EXPECT_LE(log.samples().size(), MemoryLog::kMostSamples);
  EXPECT_GE(log.samples().size(), MemoryLog::kMostSamples / 2);
  EXPECT_EQ(log.largest()[MemoryGauge::kProcessResident], 10 * kGiB);
  EXPECT_EQ(log.largest()[MemoryGauge::kMachineAvailable], 1);
  ASSERT_EQ(log.phases().size(), 2U);
  EXPECT_EQ(log.phases()[1].largest[MemoryGauge::kProcessResident], 49999);
  EXPECT_EQ(log.phases()[1].at_begin[MemoryGauge::kProcessResident], 40000);
  log.begin_phase("a", {});
  EXPECT_EQ(log.phase(), "a");
  EXPECT_EQ(log.phases().size(), 2U) << "phases that come again are one";
}

}  // namespace
}  // namespace qf
