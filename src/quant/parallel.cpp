#include "qwen3fp4/quant/parallel.h"

#include <ATen/Parallel.h>
#include <ATen/ThreadLocalState.h>

#include <algorithm>
#include <exception>

namespace qf {

void parallel_chunks(std::int64_t count, std::int64_t chunk, const ChunkTask& task) {
  const std::int64_t chunks = (count + chunk - 1) / chunk;
  std::exception_ptr failure;
  at::get_num_threads();  // applies OMP_NUM_THREADS and at::set_num_threads on first use
  const at::ThreadLocalState caller;
#ifdef _OPENMP
#pragma omp parallel for schedule(static)
#endif
  for (std::int64_t i = 0; i < chunks; ++i) {
    try {
      const at::ThreadLocalStateGuard as_the_caller(caller);
      task(i * chunk, std::min(count, (i + 1) * chunk));
    } catch (...) {
#ifdef _OPENMP
#pragma omp critical(qf_parallel_chunks)
#endif
      failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace qf
