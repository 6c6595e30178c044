#include "qwen3fp4/base/interrupt.h"

#include <atomic>
#include <mutex>

namespace qf {
namespace {

std::atomic<bool> interrupt_seen = false;
static_assert(std::atomic<bool>::is_always_lock_free, "only then may a signal handler touch it");

extern "C" void note_interrupt(int) { interrupt_seen = true; }

using Clock = std::chrono::steady_clock;

struct StopRequest {
  std::atomic<bool> made = false;
  std::atomic<Clock::rep> seen_at = 0;  // ticks; 0: not yet
  std::mutex mutex;
  ExitCode code = ExitCode::kDone;
  std::string sentence;
};
StopRequest& request() {
  static StopRequest request;
  return request;
}

bool stop_requested() {
  if (!request().made.load(std::memory_order_acquire)) return false;
  Clock::rep not_yet = 0;
  request().seen_at.compare_exchange_strong(not_yet, Clock::now().time_since_epoch().count());
  return true;
}

}  // namespace

InterruptGuard::InterruptGuard() {
  struct sigaction action {};
  action.sa_handler = note_interrupt;
  // RESETHAND: the second signal kills. RESTART: reads and writes under way are not cut short.
  action.sa_flags = static_cast<int>(SA_RESETHAND) | SA_RESTART;
  sigaction(SIGINT, &action, &previous_int_);
  sigaction(SIGTERM, &action, &previous_term_);
}

InterruptGuard::~InterruptGuard() {
  sigaction(SIGINT, &previous_int_, nullptr);
  sigaction(SIGTERM, &previous_term_, nullptr);
  interrupt_seen = false;
}

bool interrupted() { return stop_requested() || interrupt_seen; }

void check_interrupted() {
  check_stop_request();
  if (interrupt_seen) fail(ExitCode::kInterrupted, "interrupted");
}

void fail_interrupted(const std::string& when) {
  if (!stop_requested()) fail(ExitCode::kInterrupted, "interrupted {}", when);
  const std::lock_guard lock(request().mutex);
  fail(request().code, "{} {}", request().sentence, when);
}

void request_stop(ExitCode code, const std::string& sentence) {
  const std::lock_guard lock(request().mutex);
  if (request().made) return;
  request().code = code;
  request().sentence = sentence;
  request().made.store(true, std::memory_order_release);
}

void forget_stop_request() {
  request().made = false;
  request().seen_at = 0;
}

void check_stop_request() {
  if (!stop_requested()) return;
  const std::lock_guard lock(request().mutex);
  throw Error(request().code, request().sentence);
}

std::optional<Clock::time_point> stop_request_seen_at() {
  const Clock::rep ticks = request().seen_at;
  return ticks == 0 ? std::nullopt : std::optional(Clock::time_point(Clock::duration(ticks)));
}

}  // namespace qf
