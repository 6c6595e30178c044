#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "qwen3fp4/train/model_weights.h"
#include "qwen3fp4/train/trainer.h"

// The loss of M rows and its gradient without their logits [M, V]: two passes over chunks of the
// head's rows, each in chunks of tokens. Pass 1 collects log-sum-exps and losses. Pass 2 computes
// the logits again, now knowing their gradient, and hands out that of the chunk's rows of the head,
// which no later chunk reads.
//
// Shapes: M rows whose prediction counts, D hidden_size, V vocab_size; c rows of a chunk of the
// head, m tokens of a chunk.
namespace qf {

struct LossPart {
  at::Tensor hidden_MD;        // compute type, behind the final norm
  at::Tensor next_M = {};      // kTokens: i64, the tokens to predict
  at::Tensor teacher_MD = {};  // kTeacher: the teacher's hidden states, compute type
  double row_weight = 0;       // what a row's loss counts in the gradient
  [[nodiscard]] bool from_teacher() const { return teacher_MD.defined(); }
};

class HeadLoss {
 public:
  // Borrows the heads. `teacher_head` may be nullptr when no part has a teacher.
  HeadLoss(const ModelWeight& head, const ModelWeight* teacher_head, LossChunks chunks)
      : head_(head), teacher_head_(teacher_head), chunks_(chunks) {}

  // f32 [M] of each part: the rows' losses. Pass 1.
  std::vector<at::Tensor> forward(std::vector<LossPart> parts);
  // (first row, f32 [c, D]): the gradient of rows of the head.
  using TakeGradient = std::function<void(std::int64_t, const at::Tensor&)>;
  // f32 [M, D] of each part: the gradient of its hidden states. After forward(); `take` may change
  // the rows that it is given the gradient of, and be empty. May be called again.
  [[nodiscard]] std::vector<at::Tensor> backward(const TakeGradient& take) const;

  // Frees what forward() kept for backward().
  void forget() {
    parts_.clear();
    states_.clear();
  }

 private:
  struct State {
    at::Tensor logsumexp_M = {}, teacher_logsumexp_M = {};
  };
  const ModelWeight& head_;
  const ModelWeight* teacher_head_;
  LossChunks chunks_;
  std::vector<LossPart> parts_;
  std::vector<State> states_;
};

}  // namespace qf
