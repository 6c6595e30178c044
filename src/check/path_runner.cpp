#include "path_runner.h"

#include <utility>

namespace qf {

PathRunner::PathRunner(const Qwen3Model& model, Schedule schedule,
                       std::span<const std::int64_t> ids, RowTap tap)
    : model_(model), ids_(ids), tap_(std::move(tap)) {
  const auto tokens = static_cast<std::int64_t>(ids.size());
  const auto new_cache = [&](std::int64_t context) -> KvCache& {
    return *caches_.emplace_back(std::make_unique<KvCache>(model.config(), context));
  };
  switch (schedule) {
    case Schedule::kWhole:
      add_piece(new_cache(tokens), 0, tokens);
      break;
    case Schedule::kToken:
    case Schedule::kHalf: {
      KvCache& cache = new_cache(tokens);
      const std::int64_t whole = schedule == Schedule::kHalf ? tokens / 2 : 0;
      if (whole > 0) add_piece(cache, 0, whole);
      for (std::int64_t t = whole; t < tokens; ++t) add_piece(cache, t, 1);
      break;
    }
    case Schedule::kReplay:
      for (std::int64_t t = 1; t <= tokens; ++t) add_piece(new_cache(t), 0, t);
      break;
  }
}

void PathRunner::add_piece(KvCache& cache, std::int64_t first, std::int64_t count) {
  Tap tap = [this, first](std::string_view module, const at::Tensor& rows) {
    return tap_(module, first, rows);
  };
  const auto ids = ids_.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
  auto pass = std::make_unique<ForwardPass>(model_, ids, cache, first, tap);
  pieces_.push_back({first, std::move(pass), std::move(tap), {}});
}

void PathRunner::run(std::int64_t stage, const std::function<void(std::int64_t)>& before_piece) {
  const std::int64_t layers = model_.config().num_hidden_layers;
  for (Piece& piece : pieces_) {
    if (before_piece) before_piece(piece.first);
    if (stage == 0) {
      piece.x_TD = piece.pass->embed();
    } else if (stage <= layers) {
      piece.x_TD = piece.pass->layer(stage - 1, piece.x_TD);
    } else {
      (void)model_.logits(piece.pass->final_norm(piece.x_TD), piece.tap);
    }
  }
}

}  // namespace qf
