#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace qf {

inline constexpr std::uint64_t kFnvBasis = 0xcbf29ce484222325U;

// FNV-1a, 64 bits; `hash`: what came before.
[[nodiscard]] constexpr std::uint64_t fnv1a(std::span<const std::byte> bytes,
                                            std::uint64_t hash = kFnvBasis) {
  for (const std::byte byte : bytes) {
    hash = (hash ^ static_cast<std::uint64_t>(byte)) * 0x100000001b3U;
  }
  return hash;
}

}  // namespace qf
