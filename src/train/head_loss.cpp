#include "head_loss.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "block_kernels.h"
#include "operations.h"
#include "task_rows.h"

// Shapes in this file: as in the header; r some of a chunk's m tokens, computed as one task.
namespace qf {
namespace {

// Tokens [first, first + count) of a part, before one chunk of the head.
struct Tokens {
  const LossPart& part;
  std::int64_t first, count;
  [[nodiscard]] at::Tensor of(const at::Tensor& t) const { return t.narrow(0, first, count); }
  [[nodiscard]] Tokens some(std::int64_t from, std::int64_t size) const {
    return {part, first + from, size};
  }
};

struct HeadChunk {
  std::int64_t first, count;
  at::Tensor w_cD = {};
  RightOperand w_Dc = {}, teacher_w_Dc = {};

  [[nodiscard]] at::Tensor logits(const Tokens& tokens) const {
    return product_f32(tokens.of(tokens.part.hidden_MD), w_Dc);
  }
  [[nodiscard]] at::Tensor teacher_logits(const Tokens& tokens) const {
    return product_f32(tokens.of(tokens.part.teacher_MD), teacher_w_Dc);
  }
};

// The column of each token's target in a chunk, and 1 or 0: whether it lies in it.
struct TargetColumns {
  at::Tensor column_r1, inside_r1;
  TargetColumns(const Tokens& tokens, const HeadChunk& chunk) {
    const auto column = tokens.of(tokens.part.next_M) - chunk.first;
    column_r1 = column.clamp(0, chunk.count - 1).unsqueeze(1);
    inside_r1 = column.unsqueeze(1).eq(column_r1).to(at::kFloat);
  }
};

// Per chunk of the head and row.
struct ChunkSums {
  at::Tensor logsumexp, teacher_logsumexp;  // [chunks, M]
  // kTokens: the target's logit or 0. kTeacher: the mean, by the teacher's distribution inside the
  // chunk, of the teacher's logits minus the model's.
  at::Tensor value;
};

void measure_on_cuda(const Tokens& tokens, const HeadChunk& chunk, std::int64_t index,
                     const ChunkSums& sums) {
  const on_cuda::Logits logits{chunk.logits(tokens), chunk.first};
  const auto part = [&](const at::Tensor& t) { return tokens.of(t.select(0, index)); };
  if (tokens.part.from_teacher()) {
    on_cuda::divergence(logits, chunk.teacher_logits(tokens),
                        {part(sums.logsumexp), part(sums.teacher_logsumexp), part(sums.value)});
  } else {
    on_cuda::cross_entropy(logits, tokens.of(tokens.part.next_M), part(sums.logsumexp),
                           part(sums.value));
  }
}

void measure(const Tokens& tokens, const HeadChunk& chunk, std::int64_t index,
             const ChunkSums& sums) {
  if (chunk.w_cD.is_cuda()) return measure_on_cuda(tokens, chunk, index, sums);
  const auto put = [&](const at::Tensor& to, const at::Tensor& values) {
    tokens.of(to.select(0, index)).copy_(values);
  };
  const auto logits = chunk.logits(tokens);
  put(sums.logsumexp, at::logsumexp(logits, {1}));
  if (!tokens.part.from_teacher()) {
    const TargetColumns target(tokens, chunk);
    put(sums.value, (logits.gather(1, target.column_r1) * target.inside_r1).squeeze(1));
    return;
  }
  const auto teacher = chunk.teacher_logits(tokens);
  const auto logsumexp = at::logsumexp(teacher, {1}, /*keepdim=*/true);
  put(sums.teacher_logsumexp, logsumexp.squeeze(1));
  put(sums.value, ((teacher - logsumexp).exp_() * (teacher - logits)).sum(1));
}

template <class Run>
void for_each_chunk(const ModelWeight& head, const ModelWeight* teacher_head,
                    const LossChunks& chunks, at::ScalarType type, const Run& run) {
  const std::int64_t rows = head.weight().out_features();
  for (std::int64_t first = 0; first < rows; first += chunks.head_rows) {
    HeadChunk chunk{.first = first, .count = std::min(chunks.head_rows, rows - first)};
    chunk.w_cD = head.rows(first, chunk.count, type);
    chunk.w_Dc = RightOperand(chunk.w_cD.t());
    if (teacher_head != nullptr) {
      chunk.teacher_w_Dc = RightOperand(teacher_head->rows(first, chunk.count, type).t());
    }
    run(chunk);
  }
}

template <class Run>
void for_each_tokens(const LossPart& part, std::int64_t tokens, const Run& run) {
  const std::int64_t rows = part.hidden_MD.size(0);
  for (std::int64_t first = 0; first < rows; first += tokens) {
    run(Tokens{part, first, std::min(tokens, rows - first)});
  }
}

// The gradient of a row's loss with respect to its logits in a chunk, written into d_rc.
void logit_gradient(const Tokens& tokens, const HeadChunk& chunk, const at::Tensor& logsumexp_M,
                    const at::Tensor& teacher_logsumexp_M, const at::Tensor& d_rc) {
  if (d_rc.is_cuda()) {
    const on_cuda::Logits logits{chunk.logits(tokens), chunk.first};
    const double weight = tokens.part.row_weight;
    if (tokens.part.from_teacher()) {
      on_cuda::divergence_gradient(logits, chunk.teacher_logits(tokens), tokens.of(logsumexp_M),
                                   tokens.of(teacher_logsumexp_M), weight, d_rc);
    } else {
      on_cuda::cross_entropy_gradient(logits, tokens.of(tokens.part.next_M), tokens.of(logsumexp_M),
                                      weight, d_rc);
    }
    return;
  }
  const auto minus = [&](at::Tensor logits, const at::Tensor& logsumexp) {
    return logits.sub_(tokens.of(logsumexp).unsqueeze(1)).exp_();
  };
  auto d = minus(chunk.logits(tokens), logsumexp_M);
  if (tokens.part.from_teacher()) {
    d.sub_(minus(chunk.teacher_logits(tokens), teacher_logsumexp_M));
  } else {
    // One element a row, so that the order of additions cannot matter.
    const TargetColumns target(tokens, chunk);
    d.scatter_add_(1, target.column_r1, -target.inside_r1);
  }
  d.mul_(tokens.part.row_weight);
  d_rc.copy_(d);
}

}  // namespace

std::vector<at::Tensor> HeadLoss::forward(std::vector<LossPart> parts) {
  parts_ = std::move(parts);
  states_.clear();
  std::vector<at::Tensor> losses;
  if (parts_.empty()) return losses;
  const std::int64_t rows = head_.weight().out_features();
  const std::int64_t chunks = (rows + chunks_.head_rows - 1) / chunks_.head_rows;
  std::vector<ChunkSums> sums;
  for (const LossPart& part : parts_) {
    const auto zeros = [&] {
      return at::zeros({chunks, part.hidden_MD.size(0)},
                       part.hidden_MD.options().dtype(at::kFloat));
    };
    sums.push_back({zeros(), part.from_teacher() ? zeros() : at::Tensor(), zeros()});
  }
  const auto type = parts_.front().hidden_MD.scalar_type();
  for_each_chunk(head_, teacher_head_, chunks_, type, [&](const HeadChunk& chunk) {
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      for_each_tokens(parts_[i], chunks_.tokens, [&](const Tokens& tokens) {
        by_rows(tokens.count, chunk.w_cD.is_cuda(), [&](std::int64_t first, std::int64_t count) {
          measure(tokens.some(first, count), chunk, chunk.first / chunks_.head_rows, sums[i]);
        });
      });
    }
  });
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    State state{.logsumexp_M = at::logsumexp(sums[i].logsumexp, {0})};
    if (parts_[i].from_teacher()) {
      // KL = sum_v p (t - s) - lse(t) + lse(s), p the teacher's distribution over all chunks.
      state.teacher_logsumexp_M = at::logsumexp(sums[i].teacher_logsumexp, {0});
      const auto share = (sums[i].teacher_logsumexp - state.teacher_logsumexp_M).exp_();
      losses.push_back((share * sums[i].value).sum(0) - state.teacher_logsumexp_M +
                       state.logsumexp_M);
    } else {
      losses.push_back(state.logsumexp_M - sums[i].value.sum(0));
    }
    states_.push_back(std::move(state));
  }
  return losses;
}

std::vector<at::Tensor> HeadLoss::backward(const TakeGradient& take) const {
  std::vector<at::Tensor> dhidden;
  for (const LossPart& part : parts_) {
    dhidden.push_back(
        at::zeros(part.hidden_MD.sizes(), part.hidden_MD.options().dtype(at::kFloat)));
  }
  if (parts_.empty()) return dhidden;
  const auto type = parts_.front().hidden_MD.scalar_type();
  for_each_chunk(head_, teacher_head_, chunks_, type, [&](const HeadChunk& chunk) {
    auto dw_cD =
        take ? at::zeros(chunk.w_cD.sizes(), chunk.w_cD.options().dtype(at::kFloat)) : at::Tensor();
    const RightOperand w_cD(chunk.w_cD);
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      for_each_tokens(parts_[i], chunks_.tokens, [&](const Tokens& tokens) {
        const auto d_mc = at::empty({tokens.count, chunk.count}, chunk.w_cD.options());
        by_rows(tokens.count, d_mc.is_cuda(), [&](std::int64_t first, std::int64_t count) {
          logit_gradient(tokens.some(first, count), chunk, states_[i].logsumexp_M,
                         states_[i].teacher_logsumexp_M, d_mc.narrow(0, first, count));
        });
        auto dh = tokens.of(dhidden[i]);
        add_product(d_mc, w_cD, dh);
        if (take) add_product(d_mc.t(), tokens.of(parts_[i].hidden_MD), dw_cD);
      });
    }
    if (take) take(chunk.first, dw_cD);
  });
  return dhidden;
}

}  // namespace qf
