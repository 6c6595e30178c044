#include "qwen3fp4/memory/host_cap.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "recorded_machine.h"

namespace qf {
namespace {

using test::kMiB;

class HostCap : public testing::Test {
 protected:
  HostCap() { install_host_cap(); }
  ~HostCap() override {
    set_cap_refresher(nullptr);
    set_host_cap(kNoCap);
    set_allocation_hook(nullptr);
  }
};

TEST_F(HostCap, CountsBlocksOfNewAndOfTensors) {
  const std::int64_t before = host_allocated();
  {
    const std::vector<char> block(static_cast<std::size_t>(3 * kMiB));
    const auto tensor = at::empty({5 * kMiB}, at::kByte);
    EXPECT_GE(host_allocated(), before + 8 * kMiB);
    EXPECT_LT(host_allocated(), before + 9 * kMiB);
    EXPECT_GE(host_allocated_peak(), before + 8 * kMiB);
  }
  EXPECT_LT(host_allocated(), before + kMiB / 8) << "given back";
  struct alignas(256) Wide {
    char bytes[256];
  };
  {
    const auto wide = std::make_unique<Wide[]>(8192);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(wide.get()) % 256, 0U);
    EXPECT_GE(host_allocated(), before + 2 * kMiB);
  }
  EXPECT_LT(host_allocated(), before + kMiB / 8);
}

TEST_F(HostCap, RefusesWhatPassesItAndTakesNothing) {
  set_host_cap(host_allocated() + 4 * kMiB);
  const std::int64_t before = host_allocated();
  EXPECT_THROW((void)at::empty({5 * kMiB}, at::kByte), CapExceeded);
  EXPECT_THROW((void)std::make_unique<char[]>(static_cast<std::size_t>(5 * kMiB)), CapExceeded);
  EXPECT_LT(host_allocated(), before + kMiB / 8);
  EXPECT_NO_THROW((void)at::empty({3 * kMiB}, at::kByte));
  try {
    (void)at::empty({5 * kMiB}, at::kByte);
  } catch (const std::bad_alloc& error) {
    EXPECT_NE(std::string(error.what()).find("asked for 5242880 bytes"), std::string::npos);
  }
}

TEST_F(HostCap, LetsSmallBlocksPassByALittle) {
  std::vector<std::unique_ptr<char[]>> blocks;
  blocks.reserve(100000);
  set_host_cap(host_allocated() - kMiB);
  std::int64_t taken = 0;
  try {
    for (; taken < 100000; ++taken) blocks.push_back(std::make_unique<char[]>(1024));
  } catch (const CapExceeded&) {
  }
  EXPECT_GT(taken, 1000);
  EXPECT_LT(taken * 1024, kSmallBlockSlack);
}

// Eight threads ask for what only one of them can have.
TEST_F(HostCap, HoldsBetweenThreads) {
  constexpr std::int64_t kBlock = 16 * kMiB;
  for (int round = 0; round < 20; ++round) {
    std::atomic<int> had = 0;
    std::atomic<bool> go = false;
    std::vector<std::thread> threads;
    std::atomic<int> done = 0;
    set_host_cap(kNoCap);
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&] {
        while (!go) std::this_thread::yield();
        try {
          const auto block = std::make_unique<char[]>(static_cast<std::size_t>(kBlock));
          ++had;
          ++done;
          while (done < 8) std::this_thread::yield();
        } catch (const CapExceeded&) {
          ++done;
        }
      });
    }
    set_host_cap(host_allocated() + kBlock + kBlock / 2);
    go = true;
    for (auto& thread : threads) thread.join();
    set_host_cap(kNoCap);
    EXPECT_EQ(had, 1);
  }
}

TEST_F(HostCap, AsksTheRefresherBeforeItRefuses) {
  static int asked = 0;
  static std::int64_t later = 0;
  asked = 0;
  later = host_allocated() + 64 * kMiB;
  set_cap_refresher([]() noexcept {
    ++asked;
    set_host_cap(later);
  });
  set_host_cap(host_allocated() + kMiB);
  EXPECT_NO_THROW((void)at::empty({8 * kMiB}, at::kByte));
  EXPECT_EQ(asked, 1);
  EXPECT_THROW((void)at::empty({100 * kMiB}, at::kByte), CapExceeded);
  EXPECT_EQ(asked, 2);
}

TEST_F(HostCap, FailsTheAllocationThatAHookNames) {
  static int left = 0;
  left = 3;
  set_allocation_hook([]() noexcept { return --left == 0; });
  const auto first = std::make_unique<int>(1);
  const auto second = std::make_unique<int>(2);
  EXPECT_THROW((void)std::make_unique<int>(3), CapExceeded);
  EXPECT_NO_THROW((void)std::make_unique<int>(*first + *second));
}

}  // namespace
}  // namespace qf
