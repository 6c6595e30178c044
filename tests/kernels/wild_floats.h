#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

namespace qf {

// Values for quantisers: each block of 16 has a size of its own over 2^-30 .. 2^30; zeros of both
// signs, equal values and multiples of 1/4, where codes tie.
inline std::vector<float> wild_floats(std::mt19937& random, std::int64_t count) {
  std::normal_distribution<float> normal;
  std::vector<float> out(static_cast<std::size_t>(count));
  float size = 1;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (i % 16 == 0) size = std::ldexp(1.0F, static_cast<int>(random() % 61) - 30);
    const float value = normal(random);
    switch (random() % 8) {
      case 0:
        out[i] = value < 0 ? -0.0F : 0.0F;
        break;
      case 1:
        out[i] = static_cast<float>(static_cast<int>(value * 8)) / 4 * size;
        break;
      default:
        out[i] = value * size;
    }
  }
  return out;
}

// The nearest bf16 numbers towards 0, as their bits; `values` becomes what they stand for.
inline std::vector<std::uint16_t> to_bf16(std::vector<float>& values) {
  std::vector<std::uint16_t> out;
  for (float& value : values) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof(bits));
    out.push_back(static_cast<std::uint16_t>(bits >> 16U));
    bits &= 0xFFFF0000U;
    std::memcpy(&value, &bits, sizeof(bits));
  }
  return out;
}

}  // namespace qf
