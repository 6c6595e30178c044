#include "qwen3fp4/quant/parallel.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "qwen3fp4/base/interrupt.h"

namespace qf {
namespace {

class ParallelChunks : public testing::TestWithParam<int> {
 protected:
  void SetUp() override { set_parallel_threads(GetParam()); }
  ~ParallelChunks() override { set_parallel_threads(0); }
};
INSTANTIATE_TEST_SUITE_P(Threads, ParallelChunks, testing::Values(1, 2, 3, 8));

TEST_P(ParallelChunks, VisitsEveryIndexOnceInTheSamePieces) {
  for (const std::int64_t count : {0, 1, 7, 64, 1001}) {
    for (const std::int64_t chunk : {1, 3, 64, 5000}) {
      std::vector<std::atomic<int>> visits(static_cast<std::size_t>(count));
      parallel_chunks(count, chunk, [&](std::int64_t begin, std::int64_t end) {
        EXPECT_EQ(begin % chunk, 0);
        EXPECT_EQ(end, std::min(count, begin + chunk));
        for (std::int64_t i = begin; i < end; ++i) ++visits[static_cast<std::size_t>(i)];
      });
      for (const auto& visit : visits) EXPECT_EQ(visit, 1) << count << " by " << chunk;
    }
  }
}

// Each task waits for the others, so that one thread cannot run two of them.
TEST_P(ParallelChunks, AsManyThreadsTakePartAsWereAskedFor) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  std::atomic<int> arrived = 0;
  parallel_chunks(GetParam(), 1, [&](std::int64_t, std::int64_t) {
    ++arrived;
    while (arrived < GetParam() && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
    EXPECT_EQ(arrived, GetParam());
  });
}

TEST_P(ParallelChunks, EndsBetweenTwoPiecesWhereAStopMayCutItShort) {
  std::atomic<int> ran = 0;
  const auto loop = [&] {
    ran = 0;
    parallel_chunks(1000, 1, [&](std::int64_t, std::int64_t) {
      if (++ran == 1) request_stop(ExitCode::kGuardStopped, "stopped");
    });
  };
  loop();
  EXPECT_EQ(ran, 1000) << "what is being trained is not cut short";
  forget_stop_request();
  {
    const StoppableLoops loops;
    EXPECT_THROW(loop(), Error);
    EXPECT_LE(ran, 2 * GetParam()) << "each thread sees it before its next piece";
  }
  EXPECT_NO_THROW(loop());
  forget_stop_request();
}

TEST_P(ParallelChunks, RethrowsWhatATaskThrowsAndWorksAfterwards) {
  const auto fail_at = [](std::int64_t bad) {
    parallel_chunks(100, 1, [&](std::int64_t begin, std::int64_t) {
      if (begin == bad) throw std::runtime_error("task " + std::to_string(bad));
    });
  };
  EXPECT_THROW(fail_at(0), std::runtime_error);
  EXPECT_THROW(fail_at(99), std::runtime_error);
  EXPECT_NO_THROW(fail_at(100));
}

TEST_P(ParallelChunks, LoopsInsideATaskStayOnItsThread) {
  parallel_chunks(20, 1, [](std::int64_t, std::int64_t) {
    const auto mine = std::this_thread::get_id();
    parallel_chunks(
        50, 1, [&](std::int64_t, std::int64_t) { EXPECT_EQ(std::this_thread::get_id(), mine); });
  });
}

TEST_P(ParallelChunks, LibtorchStartsNoThreadsInsideATaskAndGetsItsOwnBack) {
  at::set_num_threads(3);
  parallel_chunks(20, 1, [](std::int64_t, std::int64_t) { EXPECT_EQ(at::get_num_threads(), 1); });
  EXPECT_EQ(at::get_num_threads(), 3);
}

}  // namespace
}  // namespace qf
