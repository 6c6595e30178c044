#include "qwen3fp4/quant/parallel.h"

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>
#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/info.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <utility>

#include "qwen3fp4/base/interrupt.h"

#ifdef _OPENMP
#include <omp.h>
#endif

// Inside libtorch_cpu.so where that was built with MKL.
// NOLINTNEXTLINE(readability-identifier-naming): MKL's name
extern "C" __attribute__((weak)) int MKL_Set_Num_Threads_Local(int threads);

namespace qf {
namespace {

std::atomic<int> chosen_threads{0};
// oneTBB starts no more than one a core unless it is told to.
std::optional<tbb::global_control> most_threads;
thread_local bool in_task = false;
thread_local bool stoppable = false;

// While it lives, libtorch and its MKL compute on the calling thread alone, and so do loops within
// a task.
class OneThread {
 public:
  OneThread() : libtorch_(at::get_num_threads()), nested_(std::exchange(in_task, true)) {
    set(1);
    if (MKL_Set_Num_Threads_Local != nullptr) mkl_ = MKL_Set_Num_Threads_Local(1);
  }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;
  ~OneThread() {
    in_task = nested_;
    set(libtorch_);
    if (MKL_Set_Num_Threads_Local != nullptr) MKL_Set_Num_Threads_Local(mkl_);
  }

 private:
  // Of this thread only, unlike at::set_num_threads.
  static void set([[maybe_unused]] int threads) {
#ifdef _OPENMP
    omp_set_num_threads(threads);
#endif
  }
  int libtorch_;
  int mkl_ = 0;
  bool nested_;
};

// The arena of `threads` that this thread used last: making one costs more than a small loop.
tbb::task_arena& arena_of(int threads) {
  thread_local std::optional<tbb::task_arena> arena;
  if (!arena || arena->max_concurrency() != threads) arena.emplace(threads);
  return *arena;
}

}  // namespace

StoppableLoops::StoppableLoops() : outer_(std::exchange(stoppable, true)) {}
StoppableLoops::~StoppableLoops() { stoppable = outer_; }

void set_parallel_threads(int threads) {
  chosen_threads = threads;
  most_threads.emplace(tbb::global_control::max_allowed_parallelism,
                       static_cast<std::size_t>(parallel_threads()));
  at::set_num_threads(1);
}

int parallel_threads() {
  const int threads = chosen_threads;
  return threads > 0 ? threads : tbb::info::default_concurrency();
}

int most_parallel_threads() { return 4 * tbb::info::default_concurrency(); }

void parallel_chunks(std::int64_t count, std::int64_t chunk, const ChunkTask& task) {
  const std::int64_t chunks = (count + chunk - 1) / chunk;
  const at::ThreadLocalState caller;
  const auto run = [&, may_stop = stoppable](const tbb::blocked_range<std::int64_t>& range) {
    const at::ThreadLocalStateGuard as_the_caller(caller);
    const OneThread alone;
    for (std::int64_t i = range.begin(); i < range.end(); ++i) {
      if (may_stop) check_stop_request();
      task(i * chunk, std::min(count, (i + 1) * chunk));
    }
  };
  const tbb::blocked_range<std::int64_t> all(0, chunks);
  const int threads = parallel_threads();
  if (in_task || threads == 1 || chunks <= 1) return run(all);
  arena_of(threads).execute([&] { tbb::parallel_for(all, run, tbb::auto_partitioner()); });
}

}  // namespace qf
