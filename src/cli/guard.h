#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/memory/guard.h"

namespace qf::cli {

// How a run of the program ended.
struct Outcome {
  ExitCode code = ExitCode::kDone;
  std::string sentence;  // of the error; empty without
};

// Runs `work`; where memory ends it (the guard's request, main memory, a GPU's), `rescue` runs
// before the error goes on.
void with_rescue(const std::function<void()>& work, const std::function<void()>& rescue);

// The memory guard of a whole run of the program: every sub-command has its options, and it starts
// when they are parsed.
class RunGuard {
 public:
  // Adds the options to every sub-command of `app`, which must not outlive this.
  void bind(CLI::App& app);
  // Ends the watch and writes the report, also of a run that failed. Returns an error's sentence
  // where that cannot be, else an empty one.
  [[nodiscard]] std::string finish(const Outcome& outcome);
  // What libtorch's allocator of a GPU could not give: exit code 75 where a cap of ours stands.
  [[nodiscard]] Outcome device_out_of_memory(const std::string& sentence) const;

 private:
  void start(const CLI::App& command);
  void write_report(ExitCode code, std::string_view sentence) const;
  [[noreturn]] void end_process(const std::string& sentence) const;

  bool on_ = true;
  double limit_gb_ = 0;  // 0: none given
  GuardSettings settings_;
  std::string report_;  // a path; empty: none
  std::string command_;
  std::unique_ptr<MemoryGuard> guard_;
};

}  // namespace qf::cli
