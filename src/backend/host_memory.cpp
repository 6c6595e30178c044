#include <ATen/ATen.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "qwen3fp4/backend/backend.h"
#include "qwen3fp4/backend/bandwidth.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/quant/parallel.h"

namespace qf {
namespace {

constexpr std::int64_t kWordsPerTask = std::int64_t{1} << 17;
constexpr int kPasses = 4;

// Another device's numbers are not the host's.
void check_host(const Backend& backend) {
  QF_CHECK(backend.device().is_cpu(),
           "backend {}: expected its own measure of its memory, found none", backend.name());
}

}  // namespace

std::int64_t bandwidth_buffer_bytes(bool on_device) {
  if (on_device) return std::int64_t{1} << 30;                   // caches hold a twentieth
  constexpr std::int64_t kLeastBytes = std::int64_t{256} << 20;  // where the cache is unknown
  const std::int64_t cache = std::max<std::int64_t>(0, ::sysconf(_SC_LEVEL3_CACHE_SIZE));
  return std::max(kLeastBytes, 4 * cache);
}

double Backend::measure_read_bandwidth() const {
  check_host(*this);
  const StoppableLoops loops;
  const std::int64_t count = bandwidth_buffer_bytes(/*on_device=*/false) / 8;  // words
  auto buffer = at::empty({count}, at::kLong);
  auto* const words = buffer.mutable_data_ptr<std::int64_t>();
  // Written by the threads that will read: on machines of several nodes, pages lie where they are
  // first written.
  parallel_chunks(count, kWordsPerTask, [&](std::int64_t begin, std::int64_t end) {
    std::fill(words + begin, words + end, std::int64_t{1});
  });
  std::vector<std::int64_t> sums(static_cast<std::size_t>((count - 1) / kWordsPerTask + 1));
  double best_seconds = std::numeric_limits<double>::infinity();
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    parallel_chunks(count, kWordsPerTask, [&](std::int64_t begin, std::int64_t end) {
      sums[static_cast<std::size_t>(begin / kWordsPerTask)] =
          std::accumulate(words + begin, words + end, std::int64_t{0});
    });
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    best_seconds = std::min(best_seconds, elapsed.count());
    // Used, so that no compiler may leave the reading out.
    if (std::accumulate(sums.begin(), sums.end(), std::int64_t{0}) != count) {
      throw std::logic_error("the read of the bandwidth measurement lost words");
    }
  }
  return static_cast<double>(buffer.nbytes()) / best_seconds;
}

std::int64_t Backend::memory_peak() const {
  check_host(*this);
  // Not getrusage(): its maximum survives exec, and is then that of whoever started us.
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoll(line.substr(6)) * 1024;
  }
  fail(ExitCode::kUnreadable, "/proc/self/status: expected a line VmHWM, found none");
}

}  // namespace qf
