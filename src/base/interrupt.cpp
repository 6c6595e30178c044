#include "qwen3fp4/base/interrupt.h"

#include <atomic>
#include <mutex>

namespace qf {
namespace {

std::atomic<bool> interrupt_seen = false;
static_assert(std::atomic<bool>::is_always_lock_free, "only then may a signal handler touch it");

extern "C" void note_interrupt(int) { interrupt_seen = true; }

struct StopRequest {
  std::atomic<bool> made = false;
  std::atomic<bool> seen = false;
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
  request().seen = true;
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
  request().seen = false;
}

void check_stop_request() {
  if (!stop_requested()) return;
  const std::lock_guard lock(request().mutex);
  throw Error(request().code, request().sentence);
}

bool stop_request_seen() { return request().seen; }

}  // namespace qf
