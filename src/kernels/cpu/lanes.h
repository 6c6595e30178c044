#pragma once

#include <cstdint>
#include <cstring>

// Sixteen lanes in the compiler's vector extension: one source that becomes SSE2, NEON, AVX2 or
// AVX-512, with the same rounding on each. Functions that handle lanes are inlined into a function
// with the wanted target attribute, so no lane ever crosses a call.
#define QF_INLINE static inline __attribute__((always_inline))
#pragma GCC diagnostic ignored "-Wpsabi"  // warns of exactly such calls

#if defined(__x86_64__)
#define QF_X86 1
#define QF_TARGET_AVX2 __attribute__((target("avx2,fma,f16c")))
#define QF_TARGET_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")))
#else
#define QF_X86 0
#endif

namespace qf::lanes {

using Floats = float __attribute__((vector_size(64)));
using Ints = std::int32_t __attribute__((vector_size(64)));
using Bytes = std::uint8_t __attribute__((vector_size(16)));

QF_INLINE Floats load(const float* from) {
  Floats v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}
QF_INLINE void store(float* to, const Floats& v) { std::memcpy(to, &v, sizeof(v)); }
QF_INLINE Floats broadcast(float value) { return value - Floats{}; }
QF_INLINE Ints bits(const Floats& v) { return reinterpret_cast<Ints>(v); }
QF_INLINE Floats magnitude(const Floats& v) {
  return reinterpret_cast<Floats>(bits(v) & 0x7FFFFFFF);
}

// Folds the upper half onto the lower one four times: (l0 + l8) + (l4 + l12) + ..., on every
// target.
QF_INLINE float sum(const Floats& v) {
  const Floats a =
      v + __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  const Floats b =
      a + __builtin_shufflevector(a, a, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3);
  return (b[0] + b[2]) + (b[1] + b[3]);
}
QF_INLINE std::int32_t max(const Ints& v) {
  std::int32_t largest = v[0];
  for (int i = 1; i < 16; ++i) largest = v[i] > largest ? v[i] : largest;
  return largest;
}

}  // namespace qf::lanes
