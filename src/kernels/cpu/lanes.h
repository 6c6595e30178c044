#pragma once

#include <cstdint>
#include <cstring>

#include "qwen3fp4/kernels/fp4.h"

// Sixteen values at a time in the compiler's vector extension: one source for SSE2, NEON, AVX2 and
// AVX-512, with the same rounding on each. A template parameter says how many lanes a register of
// the target holds: g++ takes wider vectors apart lane by lane. What handles lanes is inlined into
// a function with the wanted target attribute, so that no vector ever crosses a call.
#define QF_INLINE static inline __attribute__((always_inline))

#if defined(__x86_64__)
#define QF_X86 1
#define QF_TARGET_AVX2 __attribute__((target("avx2,fma,f16c")))
#define QF_TARGET_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")))
#else
#define QF_X86 0
#endif

namespace qf::lanes {

inline constexpr int kPortableWidth = 4;
inline constexpr int kAvx2Width = 8;
inline constexpr int kAvx512Width = 16;

template <int kWidth>
struct Register;
template <>
struct Register<4> {
  using Floats = float __attribute__((vector_size(16)));
  using Ints = std::int32_t __attribute__((vector_size(16)));
};
template <>
struct Register<8> {
  using Floats = float __attribute__((vector_size(32)));
  using Ints = std::int32_t __attribute__((vector_size(32)));
};
template <>
struct Register<16> {
  using Floats = float __attribute__((vector_size(64)));
  using Ints = std::int32_t __attribute__((vector_size(64)));
};

// 16 values in as many registers as that takes; value i is lane i % kWidth of part i / kWidth.
template <int kWidth>
struct Sixteen {
  using Floats = typename Register<kWidth>::Floats;
  using Ints = typename Register<kWidth>::Ints;
  static constexpr int kParts = 16 / kWidth;
  Floats part[kParts];
};

template <int kWidth>
QF_INLINE void load(const float* from, Sixteen<kWidth>& to) {
  std::memcpy(to.part, from, sizeof(to.part));
}
template <int kWidth>
QF_INLINE void store(const Sixteen<kWidth>& from, float* to) {
  std::memcpy(to, from.part, sizeof(from.part));
}
template <class Floats>
QF_INLINE Floats broadcast(float value) {
  return value - Floats{};
}

// l0 + l8, then + l4, + l2, + l1, as every width can do it.
template <int kWidth>
QF_INLINE float sum(const Sixteen<kWidth>& v) {
  if constexpr (kWidth == 16) {
    const auto a = v.part[0];
    Sixteen<8> halves;
    halves.part[0] = __builtin_shufflevector(a, a, 0, 1, 2, 3, 4, 5, 6, 7);
    halves.part[1] = __builtin_shufflevector(a, a, 8, 9, 10, 11, 12, 13, 14, 15);
    return sum(halves);
  } else if constexpr (kWidth == 8) {
    const auto a = v.part[0] + v.part[1];
    const auto b =
        __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
    return (b[0] + b[2]) + (b[1] + b[3]);
  } else {
    const auto b = (v.part[0] + v.part[2]) + (v.part[1] + v.part[3]);
    return (b[0] + b[2]) + (b[1] + b[3]);
  }
}

// Largest magnitude, compared as bits: what is not finite is larger than every number.
template <int kWidth>
QF_INLINE std::uint32_t largest_magnitude_bits(const Sixteen<kWidth>& v) {
  using Ints = typename Sixteen<kWidth>::Ints;
  Ints most{};
  for (const auto& part : v.part) {
    const Ints m = reinterpret_cast<Ints>(part) & 0x7FFFFFFF;
    most = m > most ? m : most;
  }
  std::int32_t largest = most[0];
  for (int i = 1; i < kWidth; ++i) largest = most[i] > largest ? most[i] : largest;
  return static_cast<std::uint32_t>(largest);
}

// Eight 4-bit codes are one 32-bit word. NVFP4 has code i of a word at bit 4 i, NF4 has the two
// codes of a byte the other way round.
template <int kWidth, bool kHighFirst>
QF_INLINE typename Sixteen<kWidth>::Ints nibble_shifts() {
  typename Sixteen<kWidth>::Ints shifts{};
  for (int i = 0; i < kWidth; ++i) shifts[i] = 4 * ((i % 8) ^ (kHighFirst ? 1 : 0));
  return shifts;
}

// 16 codes, one a lane, to 8 bytes.
template <int kWidth, bool kHighFirst>
QF_INLINE void pack_nibbles(const typename Sixteen<kWidth>::Ints* codes, std::uint8_t* out) {
  using Half = Register<4>::Ints;
  Half quarters[4]{};  // shifted into place; two make a word
  if constexpr (kWidth == 4) {
    for (int p = 0; p < 4; ++p) {
      for (int i = 0; i < 4; ++i) {
        quarters[p][i] = codes[p][i] << (4 * ((4 * (p % 2) + i) ^ (kHighFirst ? 1 : 0)));
      }
    }
  } else {
    for (int p = 0; p < 16 / kWidth; ++p) {
      const auto placed = codes[p] << nibble_shifts<kWidth, kHighFirst>();
      quarters[p * kWidth / 4] = __builtin_shufflevector(placed, placed, 0, 1, 2, 3);
      quarters[p * kWidth / 4 + 1] = __builtin_shufflevector(placed, placed, 4, 5, 6, 7);
      if constexpr (kWidth == 16) {
        quarters[2] = __builtin_shufflevector(placed, placed, 8, 9, 10, 11);
        quarters[3] = __builtin_shufflevector(placed, placed, 12, 13, 14, 15);
      }
    }
  }
  for (int w = 0; w < 2; ++w) {
    const Half h = quarters[2 * w] | quarters[2 * w + 1];
    const std::int32_t word = (h[0] | h[1]) | (h[2] | h[3]);
    std::memcpy(out + 4 * w, &word, sizeof(word));
  }
}

// 8 bytes to 16 words of which the low 4 bits are NVFP4 codes, one a lane.
template <int kWidth>
QF_INLINE void spread_nibbles(const std::uint8_t* bytes, typename Sixteen<kWidth>::Ints* codes) {
  using Ints = typename Sixteen<kWidth>::Ints;
  std::int32_t words[2];
  std::memcpy(words, bytes, sizeof(words));
  if constexpr (kWidth == 4) {
    for (int i = 0; i < 16; ++i) codes[i / 4][i % 4] = words[i / 8] >> (i % 8 * 4);
  } else {
    for (int p = 0; p < 16 / kWidth; ++p) {
      Ints v{};
      for (int i = 0; i < kWidth; ++i) v[i] = words[(p * kWidth + i) / 8];
      codes[p] = v >> nibble_shifts<kWidth, false>();
    }
  }
}

// The values of E2M1 codes (the low 4 bits of each lane). By shifts and selects: SSE2 and NEON have
// no table of 16 floats, and the shorter trick of scaling a subnormal is slow on some processors.
template <class Floats, class Ints>
QF_INLINE Floats decode_e2m1(const Ints& codes) {
  const Ints m = codes & 7;
  const Ints half = (m == 1) & 0x3F000000;
  const Ints normal = (m << 22) + (126 << 23);
  const Ints value = m >= 2 ? normal : half;
  return reinterpret_cast<Floats>(value | ((codes & 8) << 28));
}

// The 16 values of an NVFP4 block, scales aside.
template <int kWidth>
QF_INLINE void unpack_e2m1(const std::uint8_t* bytes, Sixteen<kWidth>& out) {
  typename Sixteen<kWidth>::Ints codes[16 / kWidth]{};
  spread_nibbles<kWidth>(bytes, codes);
  for (int p = 0; p < 16 / kWidth; ++p) {
    out.part[p] = decode_e2m1<typename Sixteen<kWidth>::Floats>(codes[p]);
  }
}

}  // namespace qf::lanes
