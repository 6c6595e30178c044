#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "qwen3fp4/check/path.h"
#include "qwen3fp4/model/kv_cache.h"
#include "qwen3fp4/model/qwen3_model.h"

namespace qf {

// A tap of rows (tokens) first, first + 1, ... of the sequence; returns what the pass goes on with.
using RowTap =
    std::function<at::Tensor(std::string_view module, std::int64_t first, const at::Tensor& rows)>;

// Takes a sequence through a model a stage at a time: stage 0 is the embedding, 1 .. L the layers,
// L + 1 the final norm and the head.
class StageRunner {
 public:
  StageRunner() = default;
  StageRunner(const StageRunner&) = delete;
  StageRunner& operator=(const StageRunner&) = delete;
  virtual ~StageRunner() = default;
  [[nodiscard]] static std::int64_t stages(const Qwen3Model& model) {
    return model.config().num_hidden_layers + 2;
  }
  // Stages in order, each once. `before_piece` is told the position of each piece's first token.
  virtual void run(std::int64_t stage, const std::function<void(std::int64_t)>& before_piece) = 0;
};

// Inference in the pieces of a schedule, all pieces through one stage before the next. Memory: a
// cache of all tokens, and each piece's hidden states.
class PathRunner final : public StageRunner {
 public:
  // Borrows `model` (with its backend) and `ids`.
  PathRunner(const Qwen3Model& model, Schedule schedule, std::span<const std::int64_t> ids,
             RowTap tap);
  void run(std::int64_t stage, const std::function<void(std::int64_t)>& before_piece) override;

 private:
  struct Piece {
    std::int64_t first, count;
    at::Tensor x_TD;
  };

  const Qwen3Model& model_;
  std::span<const std::int64_t> ids_;
  RowTap tap_;
  // Of all pieces. Replays, too, share it: each writes every position that it reads.
  KvCache cache_;
  std::vector<Piece> pieces_;
};

}  // namespace qf
