#pragma once

#include <cstdint>
#include <functional>

namespace qf {

using ChunkTask = std::function<void(std::int64_t begin, std::int64_t end)>;

// Calls task(begin, end) for [0, count) cut into pieces of `chunk` (> 0), on libtorch's threads
// (at::set_num_threads) in the caller's modes (c10::InferenceMode), and rethrows what a task
// throws. The cut does not depend on the number of threads, and libtorch calls inside a task start
// no threads of their own: results that depend on neither the order of tasks nor shared state are
// the same bits for every number of threads.
//
// Not at::parallel_for: that cuts by the number of threads, and runs a single piece outside the
// team, where MKL threads as it likes.
void parallel_chunks(std::int64_t count, std::int64_t chunk, const ChunkTask& task);

}  // namespace qf
