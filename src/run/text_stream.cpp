#include "qwen3fp4/run/text_stream.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "qwen3fp4/base/error.h"

namespace qf {
namespace {

// How many bytes at the end of `text` are the beginning of `stop`.
std::size_t begun_bytes(std::string_view text, std::string_view stop) {
  for (std::size_t count = std::min(text.size(), stop.size() - 1); count > 0; --count) {
    if (text.ends_with(stop.substr(0, count))) return count;
  }
  return 0;
}

}  // namespace

TextStream::TextStream(std::vector<std::string> stop_strings)
    : stop_strings_(std::move(stop_strings)) {
  for (const std::string& stop : stop_strings_) {
    if (stop.empty()) fail(ExitCode::kUsage, "--stop: expected a text, got an empty one");
  }
}

std::string TextStream::release(std::string_view characters) {
  held_ += characters;
  std::size_t cut = std::string::npos;
  std::size_t cut_end = std::string::npos;
  std::size_t keep_back = 0;
  for (const std::string& stop : stop_strings_) {
    keep_back = std::max(keep_back, begun_bytes(held_, stop));
    const std::size_t found = held_.find(stop);
    if (found == std::string::npos) continue;
    // The one that is complete first wins, whatever pieces the text comes in.
    const std::size_t end = found + stop.size();
    if (end < cut_end || (end == cut_end && found < cut)) {
      cut = found;
      cut_end = end;
    }
  }
  stopped_ = cut != std::string::npos;
  std::string shown = held_.substr(0, stopped_ ? cut : held_.size() - keep_back);
  held_.erase(0, shown.size());
  return shown;
}

std::string TextStream::push(std::string_view bytes) {
  if (stopped_) return {};
  return release(characters_.push(bytes));
}

std::string TextStream::finish() {
  if (stopped_) return {};
  std::string rest = release(characters_.finish());
  if (!stopped_) rest += std::exchange(held_, {});
  return rest;
}

}  // namespace qf
