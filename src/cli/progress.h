#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace qf::cli {

// Progress on stderr: one line with a bar and the time left, rewritten in place, on a terminal; a
// line at each tenth otherwise, so that logs stay short.
class ProgressBar {
 public:
  explicit ProgressBar(std::string what);
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  // Ends the line that update() left open.
  ~ProgressBar();

  void update(std::int64_t done, std::int64_t total, std::string_view item);

 private:
  using Clock = std::chrono::steady_clock;

  std::string what_;
  bool terminal_;
  bool line_open_ = false;
  std::int64_t tenths_printed_ = -1;
  Clock::time_point start_ = Clock::now();
};

}  // namespace qf::cli
