#pragma once

#include <cstdint>
#include <functional>

namespace qf {

using ChunkTask = std::function<void(std::int64_t begin, std::int64_t end)>;

// Calls task(begin, end) for [0, count) cut into pieces of `chunk` (> 0), on parallel_threads()
// threads in the caller's modes (c10::InferenceMode), and rethrows what a task throws. The cut does
// not depend on the number of threads, and libtorch calls inside a task start no threads of their
// own: results that depend on neither the order of tasks nor shared state are the same bits for
// every number of threads.
//
// Not at::parallel_for: that cuts by the number of threads, and its OpenMP team spins at the end of
// every loop until its last thread has run. Where another program holds a core, that thread runs
// a time slice later, and a token has hundreds of such loops. Here the threads that do run take all
// the pieces, and idle ones sleep.
void parallel_chunks(std::int64_t count, std::int64_t chunk, const ChunkTask& task);

// While one lives, loops that its thread starts end between two chunks when the run is to stop
// (check_stop_request() of base/interrupt.h): a layer of a long prompt takes seconds. For work of
// which nothing half done outlives the exception; not for weights that are being trained.
class StoppableLoops {
 public:
  StoppableLoops();
  StoppableLoops(const StoppableLoops&) = delete;
  StoppableLoops& operator=(const StoppableLoops&) = delete;
  ~StoppableLoops();

 private:
  bool outer_;
};

// Threads of parallel_chunks, the caller included; 0: one a core, which is also the start. Leaves
// libtorch a single thread outside of tasks, too: its team would hold on to our cores after every
// operation. Not to be called from several threads at once, nor during a loop.
void set_parallel_threads(int threads);
[[nodiscard]] int parallel_threads();
// The most that make sense to ask for: four a core that this process may run on.
[[nodiscard]] int most_parallel_threads();

}  // namespace qf
