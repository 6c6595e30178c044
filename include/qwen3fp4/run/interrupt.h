#pragma once

#include <csignal>

namespace qf {

// While one lives, the first SIGINT or SIGTERM only sets a flag that long loops look at; the second
// one ends the process at once. One at a time.
class InterruptGuard {
 public:
  InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
  // Restores the previous handlers and forgets an interrupt.
  ~InterruptGuard();

 private:
  struct sigaction previous_int_ {};
  struct sigaction previous_term_ {};
};

[[nodiscard]] bool interrupted();
// Throws (exit code 130) once interrupted() is true.
void check_interrupted();

}  // namespace qf
