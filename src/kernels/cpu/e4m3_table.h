#pragma once

#include <array>

#include "qwen3fp4/kernels/fp4.h"

namespace qf {

inline constexpr std::array<float, 256> kE4M3Values = [] {
  std::array<float, 256> values{};
  for (unsigned i = 0; i < 256; ++i) values[i] = e4m3_to_float(static_cast<std::uint8_t>(i));
  return values;
}();

}  // namespace qf
