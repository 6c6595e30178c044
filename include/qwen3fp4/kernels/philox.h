#pragma once

#include <cstdint>

#include "qwen3fp4/kernels/fp4.h"

// Philox 4x32-7 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011; the fewest
// rounds that pass BigCrush there): four random words of a counter and a key, without a state that
// would have to be saved or shared.
// C++17, for nvcc reads this header.
namespace qf {

inline constexpr int kPhiloxRounds = 7;

struct PhiloxWords {
  std::uint32_t a, b, c, d;
};
struct PhiloxKey {
  std::uint32_t low, high;
};

QF_HD constexpr PhiloxWords philox_round(const PhiloxWords& x, const PhiloxKey& key) {
  const std::uint64_t left = std::uint64_t{0xD2511F53U} * x.a;
  const std::uint64_t right = std::uint64_t{0xCD9E8D57U} * x.c;
  return {
      static_cast<std::uint32_t>(right >> 32U) ^ x.b ^ key.low, static_cast<std::uint32_t>(right),
      static_cast<std::uint32_t>(left >> 32U) ^ x.d ^ key.high, static_cast<std::uint32_t>(left)};
}
QF_HD constexpr PhiloxKey next_philox_key(const PhiloxKey& key) {
  return {key.low + 0x9E3779B9U, key.high + 0xBB67AE85U};
}
QF_HD constexpr PhiloxWords philox(PhiloxWords counter, PhiloxKey key) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    counter = philox_round(counter, key);
    key = next_philox_key(key);
  }
  return counter;
}

}  // namespace qf
