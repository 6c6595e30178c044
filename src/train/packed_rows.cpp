#include "qwen3fp4/train/packed_rows.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "qwen3fp4/base/error.h"

namespace qf {

std::int64_t PackedRows::shortest() const {
  std::int64_t least = count();
  for (std::size_t i = 0; i + 1 < starts.size(); ++i) {
    least = std::min(least, starts[i + 1] - starts[i]);
  }
  return least;
}

PackedRows RowPacker::pack(std::span<const std::span<const std::int64_t>> sequences) {
  QF_CHECK(!sequences.empty(), "expected at least one sequence");
  PackedRows rows;
  rows.starts.push_back(0);
  std::vector<std::int64_t> ids;
  std::vector<std::int64_t> positions;
  for (const auto& sequence : sequences) {
    QF_CHECK(!sequence.empty(), "expected sequences of at least one token");
    for (const std::int64_t id : sequence) {
      QF_CHECK(id >= 0 && id < vocab_size_, "expected token ids from 0 to {}, found {}",
               vocab_size_ - 1, id);
      positions.push_back(std::ssize(ids) - rows.starts.back());
      ids.push_back(id);
    }
    rows.longest = std::max(rows.longest, std::ssize(sequence));
    rows.starts.push_back(std::ssize(ids));
  }
  const auto [cos, sin] = rope_.rows(0, rows.longest);
  rows.ids = at::tensor(ids, at::kLong);
  const auto at_positions = at::tensor(positions, at::kLong).to(device_);
  rows.cos = cos.index_select(0, at_positions);
  rows.sin = sin.index_select(0, at_positions);
  rows.device_starts = at::tensor(rows.starts, at::kLong).to(at::kInt).to(device_);
  return rows;
}

}  // namespace qf
