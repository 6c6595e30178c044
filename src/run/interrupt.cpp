#include "qwen3fp4/run/interrupt.h"

#include <atomic>

#include "qwen3fp4/base/error.h"

namespace qf {
namespace {

std::atomic<bool> interrupt_seen = false;
static_assert(std::atomic<bool>::is_always_lock_free, "only then may a signal handler touch it");

extern "C" void note_interrupt(int) { interrupt_seen = true; }

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

bool interrupted() { return interrupt_seen; }

void check_interrupted() {
  if (interrupted()) fail(ExitCode::kInterrupted, "interrupted");
}

}  // namespace qf
