#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "qwen3fp4/memory/plan.h"

namespace qf::cli {

// What --dry-run and --json ask for.
struct PlanOptions {
  bool dry_run = false;
  bool json = false;
};
void bind_dry_run(CLI::App& command, bool& dry_run);

// Before anything large is read: completes `plan` with what the program itself takes, and refuses
// it (exit code 5) where the guard is on and the plan exceeds what the memory has left. `suggest`
// gets the pools and returns what would fit, in a clause ("--context 1234 would"), or nothing.
// Prints the plan and returns true with --dry-run: the run ends there.
using Suggest = std::function<std::string(const std::vector<MemoryPool>&)>;
[[nodiscard]] bool settle_plan(MemoryPlan& plan, bool on_device, const PlanOptions& options,
                               const Suggest& suggest);

}  // namespace qf::cli
