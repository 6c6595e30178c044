#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "qwen3fp4/formats/dat.h"
#include "qwen3fp4/model/packed_entries.h"
#include "qwen3fp4/model/weight_source.h"

namespace qf {

// Takes the weights of the inventory out of a `.dat` file, packed or raw, each entry once.
class WeightLoader final : public WeightSource {
 public:
  using Progress = std::function<void(std::int64_t, std::int64_t)>;
  WeightLoader(const DatReader& file, Progress progress);

  [[nodiscard]] bool has(const std::string& weight) const override;
  // The packed group of that name, else a float entry.
  [[nodiscard]] WeightMatrix matrix(const WeightSpec& spec) override;
  // Converted to f32.
  [[nodiscard]] at::Tensor norm(const WeightSpec& spec) override;
  void check_nothing_left() const override;

 private:
  const TensorInfo& raw_entry(const WeightSpec& spec) const;
  void take(const std::string& entry);

  const DatReader& file_;
  Progress progress_;
  std::unordered_map<std::string, PackedGroup> groups_;  // by weight
  std::unordered_set<std::string> taken_;
  std::int64_t bytes_read_ = 0;
};

}  // namespace qf
