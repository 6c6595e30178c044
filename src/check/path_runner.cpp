#include "path_runner.h"

#include <utility>

namespace qf {

PathRunner::PathRunner(const Qwen3Model& model, Schedule schedule,
                       std::span<const std::int64_t> ids, RowTap tap)
    : model_(model),
      ids_(ids),
      tap_(std::move(tap)),
      cache_(model.config(), static_cast<std::int64_t>(ids.size())) {
  const auto tokens = static_cast<std::int64_t>(ids.size());
  switch (schedule) {
    case Schedule::kWhole:
      pieces_.push_back({0, tokens, {}});
      break;
    case Schedule::kToken:
    case Schedule::kHalf: {
      const std::int64_t whole = schedule == Schedule::kHalf ? tokens / 2 : 0;
      if (whole > 0) pieces_.push_back({0, whole, {}});
      for (std::int64_t t = whole; t < tokens; ++t) pieces_.push_back({t, 1, {}});
      break;
    }
    case Schedule::kReplay:
      for (std::int64_t t = 1; t <= tokens; ++t) pieces_.push_back({0, t, {}});
      break;
  }
}

void PathRunner::run(std::int64_t stage, const std::function<void(std::int64_t)>& before_piece) {
  const std::int64_t layers = model_.config().num_hidden_layers;
  for (Piece& piece : pieces_) {
    if (before_piece) before_piece(piece.first);
    const Tap tap = [this, first = piece.first](std::string_view module, const at::Tensor& rows) {
      return tap_(module, first, rows);
    };
    const auto ids =
        ids_.subspan(static_cast<std::size_t>(piece.first), static_cast<std::size_t>(piece.count));
    const ForwardPass pass(model_, ids, cache_, piece.first, tap);
    if (stage == 0) {
      piece.x_TD = pass.embed();
    } else if (stage <= layers) {
      piece.x_TD = pass.layer(stage - 1, piece.x_TD);
    } else {
      (void)model_.logits(pass.final_norm(std::exchange(piece.x_TD, {})), tap);
    }
  }
}

}  // namespace qf
