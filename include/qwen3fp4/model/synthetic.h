#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/model/config.h"
#include "qwen3fp4/model/weight_source.h"

// Models without a checkpoint: the shapes of the real ones, weights drawn at random. They compute
// at the speed of the real models and say nothing.
namespace qf {

// "qwen3-0.6b", ..., "qwen3-32b"
[[nodiscard]] const std::vector<std::string_view>& qwen3_names();
// The config.json of Qwen/Qwen3-0.6B, ..., Qwen/Qwen3-32B. Throws (exit code 2), listing
// qwen3_names(), for another name.
[[nodiscard]] ModelConfig qwen3_config(std::string_view name);

// A weight [out, in] of standard deviation 1/sqrt(in), so that inputs of order one have outputs of
// order one; its mean is 0, for kNf4 4 % of the deviation (the code book is lopsided). `format`:
// kNvfp4 (in a multiple of 16), kNf4 or kBF16. Codes are uniformly random, so that no kernel finds
// a pattern. The same `seed` gives the same bits for every number of threads.
[[nodiscard]] WeightMatrix synthetic_matrix(WeightFormat format, std::int64_t out_features,
                                            std::int64_t in_features, std::uint64_t seed);

// Weights as convert writes them: packed formats pack linears and the head, also a tied model's,
// beside a bf16 embedding; bf16 leaves a tied model tied. Norms' weights lie in [0.5, 1.5). Memory:
// the weights, nothing else.
class SyntheticWeights final : public WeightSource {
 public:
  // (values drawn, values in all)
  using Progress = std::function<void(std::int64_t, std::int64_t)>;
  // `format`: kNvfp4, kNf4 or kBF16 (an error otherwise).
  SyntheticWeights(const ModelConfig& config, WeightFormat format, std::uint64_t seed,
                   Progress progress = {});

  [[nodiscard]] bool has(const std::string& weight) const override;
  [[nodiscard]] WeightMatrix matrix(const WeightSpec& spec) override;
  [[nodiscard]] at::Tensor norm(const WeightSpec& spec) override;
  void check_nothing_left() const override {}

 private:
  void count(const WeightSpec& spec);

  WeightFormat format_;
  bool own_head_;
  std::uint64_t seed_;
  Progress progress_;
  std::int64_t drawn_ = 0;
  std::int64_t all_ = 0;
};

}  // namespace qf
