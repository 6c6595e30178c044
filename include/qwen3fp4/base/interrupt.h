#pragma once

#include <chrono>
#include <csignal>
#include <optional>
#include <string>

#include "qwen3fp4/base/error.h"

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

// A signal came, or request_stop() was called.
[[nodiscard]] bool interrupted();
// Throws once interrupted() is true: exit code 130, or what request_stop() said.
void check_interrupted();
// Throws as check_interrupted() would, the sentence going on with `when` ("after step 3; ...").
[[noreturn]] void fail_interrupted(const std::string& when);

// From any thread: the run is to end at its next layer or chunk. The first call counts, until
// forget_stop_request().
void request_stop(ExitCode code, const std::string& sentence);
void forget_stop_request();
// Throws what request_stop() said. For places that a signal must not cut short: the layers of a
// step that a SIGINT lets finish.
void check_stop_request();
// When one of the functions above first met the request; empty before.
[[nodiscard]] std::optional<std::chrono::steady_clock::time_point> stop_request_seen_at();

}  // namespace qf
