#include "qwen3fp4/train/packed_rows.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <tuple>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/model/rope.h"

namespace qf {

RopeCache::RopeCache(const ModelConfig& config, at::Device device)
    : config_(config), device_(device), inverse_frequencies_(rope_inverse_frequencies(config)) {}

void RopeCache::reach(std::int64_t positions) {
  if (cos_.defined() && cos_.size(0) >= positions) return;
  std::tie(cos_, sin_) = rope_tables(config_, inverse_frequencies_, 0, positions);
  cos_ = cos_.to(device_);
  sin_ = sin_.to(device_);
}

PackedRows RopeCache::pack(std::span<const std::span<const std::int64_t>> sequences) {
  QF_CHECK(!sequences.empty(), "expected at least one sequence");
  PackedRows rows;
  rows.starts.push_back(0);
  std::vector<std::int64_t> ids;
  std::vector<std::int64_t> positions;
  for (const auto& sequence : sequences) {
    QF_CHECK(!sequence.empty(), "expected sequences of at least one token");
    for (const std::int64_t id : sequence) {
      QF_CHECK(id >= 0 && id < config_.vocab_size, "expected token ids from 0 to {}, found {}",
               config_.vocab_size - 1, id);
      positions.push_back(std::ssize(ids) - rows.starts.back());
      ids.push_back(id);
    }
    rows.longest = std::max(rows.longest, std::ssize(sequence));
    rows.starts.push_back(std::ssize(ids));
  }
  reach(rows.longest);
  rows.ids = at::tensor(ids, at::kLong);
  const auto at_positions = at::tensor(positions, at::kLong).to(device_);
  rows.cos = cos_.index_select(0, at_positions);
  rows.sin = sin_.index_select(0, at_positions);
  rows.device_starts = at::tensor(rows.starts, at::kLong).to(at::kInt).to(device_);
  return rows;
}

}  // namespace qf
