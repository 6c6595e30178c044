#pragma once

#include <cstdint>

namespace qf {

enum class ScheduleShape { kCosine, kLinear, kConstant };

// The learning rate of each step: a linear warm-up to `peak`, then down to `final`, which the step
// after the last one would have (kConstant stays).
struct LearningSchedule {
  ScheduleShape shape = ScheduleShape::kCosine;
  double peak = 1e-5;
  double final = 0;
  std::int64_t steps = 1;
  std::int64_t warmup_steps = 0;
  // Steps count from 1.
  [[nodiscard]] double learning_rate(std::int64_t step) const;
};

}  // namespace qf
