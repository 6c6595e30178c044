#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace qf {

// Largest magnitude and defects of a tensor that comes in pieces.
class ValueScan {
 public:
  void add(const at::Tensor& piece);  // floating point, any shape

  // Of the finite values; none when there were none.
  [[nodiscard]] std::optional<double> amax() const { return amax_; }
  // "3 NaN", "1 infinite"
  [[nodiscard]] std::vector<std::string> flags() const;

 private:
  std::optional<double> amax_;
  std::int64_t nan_ = 0;
  std::int64_t infinite_ = 0;
};

}  // namespace qf
