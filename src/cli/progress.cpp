#include "progress.h"

#include <fmt/chrono.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace qf::cli {
namespace {

std::string duration_text(double seconds) {
  const auto whole = static_cast<std::int64_t>(seconds + 0.5);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

}  // namespace

ProgressBar::ProgressBar(std::string what)
    : what_(std::move(what)), terminal_(::isatty(STDERR_FILENO) == 1) {}

ProgressBar::~ProgressBar() {
  if (line_open_) std::fputc('\n', stderr);
}

void ProgressBar::update(std::int64_t done, std::int64_t total, std::string_view item) {
  const double part = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 1.0;
  const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
  const std::string left = done >= total ? "done in " + duration_text(elapsed)
                           : done > 0    ? duration_text(elapsed / part * (1.0 - part)) + " left"
                                         : "starting";
  if (terminal_) {
    constexpr int kWidth = 30;
    const auto filled = static_cast<std::size_t>(part * kWidth);
    fmt::print(stderr, "\r\x1b[K{} [{}{}] {:3.0f} % {} {}", what_, std::string(filled, '#'),
               std::string(kWidth - filled, '.'), 100.0 * part, left, item);
    std::fflush(stderr);
    line_open_ = true;
    return;
  }
  const auto tenths = static_cast<std::int64_t>(part * 10.0);
  if (tenths == tenths_printed_) return;
  tenths_printed_ = tenths;
  fmt::print(stderr, "{} {:3.0f} % {}\n", what_, 100.0 * part, left);
}

}  // namespace qf::cli
