#pragma once

#include "decode_args.cuh"

// Words that say themselves whether they are complete, so that blocks hand each other values
// without a barrier, a fence or a flag: the writer stores (or adds) once, the reader reads again
// until the word is the one it waits for. Loads and stores are relaxed at gpu scope: no word says
// anything of another.
//
// Tagged: an fp32 whose two lowest bits count the writes, modulo 4. Every such word is written
// exactly once a layer, and no block can be a layer ahead of one that still reads: what it would
// need for that depends on what the reader has yet to write. Costs 2^-21 of the value.
//
// Counted: 58 bits of fixed point in steps of 2^-30 and 6 bits that count the additions, modulo 64.
// One 64-bit addition brings both, and integers give the same sum in any order.
namespace qf::cuda::decode {

inline constexpr int kCountBits = 6;
inline constexpr std::uint32_t kCountMask = (1U << kCountBits) - 1U;

// NaN and infinity (and what no longer fits the arithmetic) stop the run by name, not by "!!!!".
__device__ __forceinline__ void report_non_finite(const Args& a, int phase) {
  atomicCAS(&a.step.status->non_finite, 0U, static_cast<unsigned>(phase) + 1U);
}

__device__ __forceinline__ uint2 load_relaxed(const uint2* pointer) {
  uint2 v;
  asm volatile("ld.relaxed.gpu.global.v2.u32 {%0,%1},[%2];"
               : "=r"(v.x), "=r"(v.y)
               : "l"(pointer)
               : "memory");
  return v;
}
__device__ __forceinline__ uint4 load_relaxed(const uint4* pointer) {
  uint4 v;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0,%1,%2,%3},[%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(pointer)
               : "memory");
  return v;
}
__device__ __forceinline__ void store_relaxed(std::uint32_t* pointer, std::uint32_t v) {
  asm volatile("st.relaxed.gpu.global.u32 [%0],%1;" ::"l"(pointer), "r"(v) : "memory");
}
__device__ __forceinline__ void store_relaxed(uint2* pointer, uint2 v) {
  asm volatile("st.relaxed.gpu.global.v2.u32 [%0],{%1,%2};" ::"l"(pointer), "r"(v.x), "r"(v.y)
               : "memory");
}

// Zero words have the tag 0, which the first layer of the first step must not have.
__device__ __forceinline__ std::uint32_t tag_of(const Args& a, int layer) {
  return (a.step.number * static_cast<std::uint32_t>(a.model.layers) +
          static_cast<std::uint32_t>(layer) + 1U) &
         3U;
}
__device__ __forceinline__ std::uint32_t tagged(float value, std::uint32_t tag) {
  return (__float_as_uint(value) & ~3U) | tag;
}
__device__ __forceinline__ float untagged(std::uint32_t word) {
  return __uint_as_float(word & ~3U);
}
__device__ __forceinline__ bool has_tag(const uint4& w, std::uint32_t tag) {
  return (((w.x ^ tag) | (w.y ^ tag) | (w.z ^ tag) | (w.w ^ tag)) & 3U) == 0;
}
__device__ __forceinline__ bool has_tag(const uint2& w, std::uint32_t tag) {
  return (((w.x ^ tag) | (w.y ^ tag)) & 3U) == 0;
}

__device__ __forceinline__ float stream_value(unsigned long long word) {
  return __ll2float_rn(static_cast<long long>(word) >> kCountBits) * 0x1p-30F;
}
// Values that do not fit are reported; the count goes on, so that nobody waits for it.
__device__ __forceinline__ void add_to_stream(const Args& a, int phase, int row, float value) {
  if (row >= a.model.hidden) return;
  long long steps = 0;
  if (fabsf(value) < 0x1p26F) {
    steps = __float2ll_rn(value * 0x1p30F);
  } else {
    report_non_finite(a, phase);
  }
  atomicAdd(a.space.stream + row, (static_cast<unsigned long long>(steps) << kCountBits) + 1ULL);
}

// Ends a wait that takes too long: a hang becomes a report. After one, all waits of all blocks end
// soon, and the kernel with them.
struct Patience {
  const Args& a;
  int phase;
  int reads = 0;
  long long start = 0;

  // To be called between two reads; false: give up.
  __device__ __forceinline__ bool more() {
    constexpr int kReadsBetweenLooks = 256;
    if (++reads % kReadsBetweenLooks != 0) return true;
    const long long now = clock64();
    if (start == 0) start = now;
    if (*static_cast<volatile std::uint32_t*>(&a.step.status->hung) != 0) return false;
    if (now - start <= a.step.spin_limit_cycles) return true;
    atomicCAS(&a.step.status->hung, 0U, static_cast<unsigned>(phase) + 1U);
    return false;
  }
};

}  // namespace qf::cuda::decode
