#include "qwen3fp4/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace qf {

double LearningSchedule::learning_rate(std::int64_t step) const {
  if (step <= warmup_steps) {
    return peak * static_cast<double>(step) / static_cast<double>(warmup_steps);
  }
  const auto length = static_cast<double>(std::max<std::int64_t>(1, steps - warmup_steps));
  const double done = std::clamp(static_cast<double>(step - 1 - warmup_steps) / length, 0.0, 1.0);
  switch (shape) {
    case ScheduleShape::kConstant:
      return peak;
    case ScheduleShape::kLinear:
      return peak + (final - peak) * done;
    case ScheduleShape::kCosine:
      return final + (peak - final) * 0.5 * (1 + std::cos(std::numbers::pi * done));
  }
  return peak;
}

}  // namespace qf
