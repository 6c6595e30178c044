#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "qwen3fp4/train/memory_plan.h"

namespace qf::cli {

// What a run's page says beside what its log holds.
struct TrainFacts {
  std::string title;                                          // the folder that was written
  std::vector<std::pair<std::string, std::string>> settings;  // in the order shown
  MemoryPlan memory;
  std::int64_t memory_peak_bytes = 0;  // measured; 0 where the device does not tell
};

// A page of its own, nothing loaded from elsewhere: curves of the log's steps and evaluations, the
// memory plan by phase, the samples. Of a step that the log has twice (a run that went on), the
// later line counts. Throws for a log that is not ours.
[[nodiscard]] std::string train_html(const std::filesystem::path& log, const TrainFacts& facts);

}  // namespace qf::cli
