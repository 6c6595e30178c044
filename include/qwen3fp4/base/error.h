#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace qf {

// The process exit codes; doc/cli.md holds the same list for users.
enum class ExitCode : int {
  kDone = 0,
  kCheckFailed = 1,
  kUsage = 2,
  kNonFinite = 3,
  kUnreadable = 4,
  kOutOfMemory = 5,
  kGuardStopped = 75,
  kInterrupted = 130,
};

// The one exception type above the kernels, caught once, in main. The message is one sentence:
// the thing, what was expected, what was found, and the flag that changes it.
class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  [[nodiscard]] ExitCode code() const noexcept { return code_; }

 private:
  ExitCode code_;
};

template <class... Args>
[[noreturn]] void fail(ExitCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace qf

// Refuses input (never our own bugs: those are asserts) with exit code 4.
#define QF_CHECK(condition, ...)                            \
  do {                                                      \
    if (!(condition)) [[unlikely]] {                        \
      ::qf::fail(::qf::ExitCode::kUnreadable, __VA_ARGS__); \
    }                                                       \
  } while (false)
