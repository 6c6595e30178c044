#include "plan.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <nlohmann/json.hpp>

#include "app.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/memory/guard.h"

namespace qf::cli {
namespace {

std::string to_json(const MemoryPlan& plan) {
  nlohmann::ordered_json json{{"in_use", plan.in_use},
                              {"libraries", plan.libraries},
                              {"held", nlohmann::ordered_json::object()},
                              {"phases", nlohmann::ordered_json::object()},
                              {"peak_bytes", plan.peak()},
                              {"process_peak_bytes", plan.process_peak()}};
  for (const auto& [name, bytes] : plan.held) json["held"][name] = bytes;
  for (const auto& [name, bytes] : plan.phases) json["phases"][name] = bytes;
  return json.dump() + "\n";
}

std::string largest_parts(const MemoryPlan& plan) {
  std::string text;
  for (const auto& [name, bytes] : plan.held) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", name, gigabytes(bytes));
  }
  return text;
}

}  // namespace

void bind_dry_run(CLI::App& command, bool& dry_run) {
  command.add_flag("--dry-run", dry_run,
                   "Print what memory the run would take, and end before it loads anything");
}

bool settle_plan(MemoryPlan& plan, bool on_device, const PlanOptions& options,
                 const Suggest& suggest) {
  const auto* const guard = memory_guard();
  if (guard != nullptr) plan.in_use = bytes_in_use(guard->read(), on_device);
  if (options.dry_run) print(options.json ? to_json(plan) : plan_table(plan));
  if (guard == nullptr || !guard->settings().on) return options.dry_run;
  const auto pools = guard->pools();
  if (const auto* const pool = pool_too_small(plan, pools, on_device)) {
    const std::string fits = suggest(pools);
    fail(ExitCode::kOutOfMemory,
         "memory: the run would take {} more at its peak (of that for its whole length: {}), and "
         "{} of {} are left, of at most {} (--guard-limit-gb){}{}",
         gigabytes(plan.added_peak()), largest_parts(plan),
         gigabytes(std::max<std::int64_t>(0, pool->left())), pool->name(), gigabytes(pool->limit),
         fits.empty() ? "" : "; ", fits);
  }
  if (!options.dry_run) {
    spdlog::debug("memory: {} at the peak, {} of it in use before the run",
                  gigabytes(plan.process_peak()), gigabytes(plan.in_use));
  }
  return options.dry_run;
}

}  // namespace qf::cli
