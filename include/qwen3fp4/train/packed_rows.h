#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "qwen3fp4/model/config.h"
#include "qwen3fp4/model/rope.h"

namespace qf {

// Sequences laid end to end without padding: N rows, one a token.
struct PackedRows {
  at::Tensor ids;                    // i64 [N], main memory
  std::vector<std::int64_t> starts;  // first row of each sequence, then N
  std::int64_t longest = 0;          // tokens
  at::Tensor device_starts;          // i32 [sequences + 1]
  at::Tensor cos, sin;               // f32 [N, E]: positions count from 0 in each sequence

  [[nodiscard]] std::int64_t count() const { return starts.back(); }
  // Tokens of the shortest sequence.
  [[nodiscard]] std::int64_t shortest() const;
};

// Packs sequences of a model's tokens for a device.
class RowPacker {
 public:
  RowPacker(const ModelConfig& config, at::Device device)
      : vocab_size_(config.vocab_size), device_(device), rope_(config, device) {}
  // Throws for an empty list, an empty sequence or an id that the model does not have.
  [[nodiscard]] PackedRows pack(std::span<const std::span<const std::int64_t>> sequences);

 private:
  std::int64_t vocab_size_;
  at::Device device_;
  RopeTable rope_;
};

}  // namespace qf
