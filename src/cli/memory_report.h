#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "qwen3fp4/memory/guard.h"

namespace qf::cli {

struct RunEnd {
  std::string command;
  int exit_code = 0;
  std::string sentence;  // of the error; empty without
};

// What a run's memory was: limits, sources, phases, tensors by kind, device and type, samples over
// time. doc/memory.md lists the fields.
[[nodiscard]] nlohmann::ordered_json memory_report(const MemoryGuard& guard, const RunEnd& end);
// The same as a page with a plot, which needs nothing but itself.
[[nodiscard]] std::string memory_html(const nlohmann::ordered_json& report);

}  // namespace qf::cli
