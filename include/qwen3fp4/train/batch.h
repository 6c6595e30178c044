#pragma once

#include <cstdint>
#include <vector>

namespace qf {

// What the loss compares the model's prediction with.
enum class TargetKind {
  kTokens,   // cross-entropy: the next token
  kTeacher,  // KL(teacher || model): the teacher's distribution (the start model for replay)
};

// One conversation or text. Attention does not cross sequences.
struct TrainSequence {
  std::vector<std::int64_t> ids;
  // As long as ids: predicting ids[i] from those before it counts. targets[0] is false.
  std::vector<bool> targets;
  TargetKind kind = TargetKind::kTokens;
};

// What one optimiser step sees.
using TrainBatch = std::vector<TrainSequence>;

}  // namespace qf
