#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "e4m3_pair.cuh"
#include "stream_word.cuh"

// The PTX of Hopper (sm_90a) that the decode step uses: mbarriers, bulk copies, 8-bit wgmma. Names
// follow the instructions; the PTX ISA defines them.
namespace qf::cuda {

__device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

__device__ __forceinline__ void mbarrier_init(std::uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0],%1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void mbarrier_arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _,[%0];" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void mbarrier_expect(std::uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _,[%0],%1;" ::"r"(barrier),
               "r"(bytes)
               : "memory");
}
// The loop is the PTX's: one of ours would be a divergent path to the compiler, which then runs the
// wgmma behind it one by one.
__device__ __forceinline__ void mbarrier_wait(std::uint32_t barrier, std::uint32_t parity) {
  asm volatile(
      "{.reg .pred p;\n"
      "wait:\n"
      "mbarrier.try_wait.parity.acquire.cta.shared::cta.b64 p,[%0],%1;\n"
      "@p bra done;\n"
      "bra wait;\n"
      "done:}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// Global to shared memory; arrives at `barrier` with its bytes.
__device__ __forceinline__ void bulk_copy(std::uint32_t destination, const void* source, int bytes,
                                          std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0],[%1],%2,[%3];" ::"r"(
          destination),
      "l"(source), "r"(bytes), "r"(barrier)
      : "memory");
}

// Makes shared memory that was written by st visible to wgmma's descriptors.
__device__ __forceinline__ void fence_proxy_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Releases what this warp has written before __syncwarp(), acquires what the others had.
__device__ __forceinline__ std::uint32_t shared_atomic_or(std::uint32_t* word, std::uint32_t bits) {
  std::uint32_t before;
  asm volatile("atom.acq_rel.cta.shared::cta.or.b32 %0,[%1],%2;"
               : "=r"(before)
               : "r"(shared_address(word)), "r"(bits)
               : "memory");
  return before;
}

// Of the first `kThreads` threads of the block, which is how the consumers leave the producer out.
template <int kThreads>
__device__ __forceinline__ void named_barrier() {
  asm volatile("bar.sync 1,%0;" ::"n"(kThreads) : "memory");
}

// Keeps what computes `value` before the wgmma_fence() that follows: registers written between it
// and the wgmma would make the compiler put a fence of its own there, or run the wgmma one by one.
__device__ __forceinline__ void wgmma_operand(std::uint32_t& value) {
  asm volatile("" : "+r"(value)::"memory");
}
// The compiler no longer knows where `value` came from.
__device__ __forceinline__ void opaque(int& value) { asm volatile("" : "+r"(value)); }
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
// By all warps of a warpgroup.
template <int kRegisters>
__device__ __forceinline__ void more_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void fewer_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// c [64 x 16] = a [64 x 32] b [32 x 16]: a from registers, b by descriptor, E4M3 both. Nothing
// reads c, and the constraints say so: as inputs its registers would be live through the whole
// kernel.
__device__ __forceinline__ void wgmma_m64n16k32(float (&c)[8], std::uint32_t a0, std::uint32_t a1,
                                                std::uint32_t a2, std::uint32_t a3,
                                                std::uint64_t b) {
  asm volatile(
      "{.reg .pred p;\n"
      "setp.ne.b32 p,0,0;\n"
      "wgmma.mma_async.sync.aligned.m64n16k32.f32.e4m3.e4m3 "
      "{%0,%1,%2,%3,%4,%5,%6,%7},{%8,%9,%10,%11},%12,p,1,1;}"
      : "=f"(c[0]), "=f"(c[1]), "=f"(c[2]), "=f"(c[3]), "=f"(c[4]), "=f"(c[5]), "=f"(c[6]),
        "=f"(c[7])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b));
}
// c += a b
__device__ __forceinline__ void wgmma_m64n16k32_add(float (&c)[8], std::uint32_t a0,
                                                    std::uint32_t a1, std::uint32_t a2,
                                                    std::uint32_t a3, std::uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n16k32.f32.e4m3.e4m3 "
      "{%0,%1,%2,%3,%4,%5,%6,%7},{%8,%9,%10,%11},%12,1,1,1;"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]), "+f"(c[4]), "+f"(c[5]), "+f"(c[6]),
        "+f"(c[7])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b));
}

// c [64 x 8] += a [64 x 32] b [32 x 8]: a from registers, b by descriptor, int8 both, sums exact.
__device__ __forceinline__ void wgmma_m64n8k32_add(std::int32_t (&c)[4], std::uint32_t a0,
                                                   std::uint32_t a1, std::uint32_t a2,
                                                   std::uint32_t a3, std::uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n8k32.s32.s8.s8 "
      "{%0,%1,%2,%3},{%4,%5,%6,%7},%8,1;"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "l"(b));
}

// prmt: bytes of the pair {low, high} that the four nibbles of `selector` name; one with its
// highest bit set gives eight copies of the byte's sign.
__device__ __forceinline__ std::uint32_t permuted(std::uint32_t low, std::uint32_t high,
                                                  std::uint32_t selector) {
  std::uint32_t out;
  asm("prmt.b32 %0,%1,%2,%3;" : "=r"(out) : "r"(low), "r"(high), "r"(selector));
  return out;
}

// split_stream_word() in four instructions: the compiler makes two of the lop3.
__device__ __forceinline__ void unpack_stream_word(std::uint32_t word, std::uint32_t& low,
                                                   std::uint32_t& high) {
  low = word & kCodeBits;
  asm("lop3.b32 %0,%1,%2,%3,0x28;" : "=r"(high) : "r"(word << 2), "r"(word >> 2), "n"(kCodeBits));
}

// To nearest, saturating; `first` in the low byte. NaN stays NaN.
__device__ __forceinline__ std::uint32_t floats_to_e4m3x2(float first, float second) {
  std::uint16_t pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0,%1,%2;" : "=h"(pair) : "f"(second), "f"(first));
  return pair;
}

}  // namespace qf::cuda
