#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "hopper.cuh"

// What products of 16-bit types on Hopper need beside hopper.cuh: wgmma with its left operand in
// registers, tensor copies, stmatrix.
namespace qf::cuda {

// A box of the tensor whose first element is at (column, row); arrives at `barrier` with its bytes,
// those outside of the tensor as zeros.
__device__ __forceinline__ void tensor_copy(std::uint32_t destination, const CUtensorMap& map,
                                            int column, int row, std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0],[%1,{%2,%3}],[%4];" ::"r"(destination),
      "l"(reinterpret_cast<std::uint64_t>(&map)), "r"(column), "r"(row), "r"(barrier)
      : "memory");
}

// The same of one of several matrices.
__device__ __forceinline__ void tensor_copy(std::uint32_t destination, const CUtensorMap& map,
                                            int column, int row, int matrix,
                                            std::uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
      "[%0],[%1,{%2,%3,%4}],[%5];" ::"r"(destination),
      "l"(reinterpret_cast<std::uint64_t>(&map)), "r"(column), "r"(row), "r"(matrix), "r"(barrier)
      : "memory");
}

// Of the `kThreads` threads that name the same `id`.
template <int kThreads>
__device__ __forceinline__ void named_barrier(int id) {
  asm volatile("bar.sync %0,%1;" ::"r"(id), "n"(kThreads) : "memory");
}

// The right operand in shared memory: rows of 64 16-bit columns in 128 bytes, swizzled as tensor
// copies do, eight of them 1024 bytes. Columns 16 k of it begin 2 k further, row 128 1024 further.
__device__ __forceinline__ std::uint64_t swizzled_operand(std::uint32_t address) {
  constexpr std::uint64_t kSwizzle128 = std::uint64_t{1} << 62;
  constexpr std::uint64_t kEightRows = std::uint64_t{1024 >> 4} << 32;
  constexpr std::uint64_t kUnused = std::uint64_t{1} << 16;
  return kSwizzle128 | kEightRows | kUnused | (address & 0x3FFFFU) >> 4;
}

// The same rows as the right operand along n: 64 columns are n, rows are k, and the next 64 columns
// lie `next` bytes further. 16 rows further: 128.
__device__ __forceinline__ std::uint64_t swizzled_operand_along_n(std::uint32_t address, int next) {
  const std::uint64_t columns = static_cast<std::uint64_t>(next >> 4) << 16;
  return (swizzled_operand(address) & ~(std::uint64_t{0x3FFF} << 16)) | columns;
}

// Four 8 x 8 matrices of 16-bit numbers, transposed; lane 8 i + r names where row r of the i-th
// goes.
__device__ __forceinline__ void store_transposed(std::uint32_t address, std::uint32_t a,
                                                 std::uint32_t b, std::uint32_t c,
                                                 std::uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0],{%1,%2,%3,%4};" ::"r"(address),
               "r"(a), "r"(b), "r"(c), "r"(d)
               : "memory");
}

#define QF_C4(c, i) "+f"(c[i]), "+f"(c[(i) + 1]), "+f"(c[(i) + 2]), "+f"(c[(i) + 3])
#define QF_C16(c, i) QF_C4(c, i), QF_C4(c, (i) + 4), QF_C4(c, (i) + 8), QF_C4(c, (i) + 12)
#define QF_C32(c) QF_C16(c, 0), QF_C16(c, 16)
#define QF_C64(c) QF_C16(c, 0), QF_C16(c, 16), QF_C16(c, 32), QF_C16(c, 48)
#define QF_N4(c, i) "=f"(c[i]), "=f"(c[(i) + 1]), "=f"(c[(i) + 2]), "=f"(c[(i) + 3])
#define QF_N16(c, i) QF_N4(c, i), QF_N4(c, (i) + 4), QF_N4(c, (i) + 8), QF_N4(c, (i) + 12)
#define QF_N64(c) QF_N16(c, 0), QF_N16(c, 16), QF_N16(c, 32), QF_N16(c, 48)
#define QF_D32                                                                                 \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24," \
  "%25,%26,%27,%28,%29,%30,%31"
#define QF_D64                                                                                \
  QF_D32                                                                                      \
  ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53," \
  "%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
// c [64 x n] += a [64 x 16] b [16 x n], of n = 64 or 128 columns. a in registers, b by descriptor:
// its rows along k or, for kAlongN, along n.
#define QF_WGMMA_REGISTERS(type, name, n, values, c_list, a_and_b, along)                     \
  template <bool kAlongN = false>                                                             \
  __device__ __forceinline__ void wgmma(type, float(&c)[values], const std::uint32_t(&a)[4],  \
                                        std::uint64_t b) {                                    \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" n "k16.f32." name "." name " {" c_list   \
                 "}," a_and_b ",1,1,1," along ";"                                             \
                 : QF_C##values(c)                                                            \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(kAlongN ? 1 : 0)); \
  }
// Both by descriptor, rows along k. The first one of a sum does not read c, and the constraints say
// so: values that c had before would have to be somewhere.
#define QF_WGMMA_SHARED(type, name, n, values, c_list, a_and_b)                                 \
  __device__ __forceinline__ void wgmma_first(type, float(&c)[values], std::uint64_t a,         \
                                              std::uint64_t b) {                                \
    asm volatile(                                                                               \
        "{.reg .pred p;\n"                                                                      \
        "setp.ne.b32 p,0,0;\n"                                                                  \
        "wgmma.mma_async.sync.aligned.m64n" n "k16.f32." name "." name " {" c_list "}," a_and_b \
        ",p,1,1,0,0;}"                                                                          \
        : QF_N##values(c)                                                                       \
        : "l"(a), "l"(b));                                                                      \
  }                                                                                             \
  __device__ __forceinline__ void wgmma(type, float(&c)[values], std::uint64_t a,               \
                                        std::uint64_t b) {                                      \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" n "k16.f32." name "." name " {" c_list     \
                 "}," a_and_b ",1,1,1,0,0;"                                                     \
                 : QF_C##values(c)                                                              \
                 : "l"(a), "l"(b));                                                             \
  }
#define QF_WGMMA(type, name)                                                        \
  QF_WGMMA_REGISTERS(type, name, "64", 32, QF_D32, "{%32,%33,%34,%35},%36", "%37")  \
  QF_WGMMA_REGISTERS(type, name, "128", 64, QF_D64, "{%64,%65,%66,%67},%68", "%69") \
  QF_WGMMA_SHARED(type, name, "128", 64, QF_D64, "%64,%65")
QF_WGMMA(__half, "f16")
QF_WGMMA(__nv_bfloat16, "bf16")
#undef QF_WGMMA
#undef QF_WGMMA_SHARED
#undef QF_WGMMA_REGISTERS
#undef QF_D64
#undef QF_D32
#undef QF_N64
#undef QF_N16
#undef QF_N4
#undef QF_C64
#undef QF_C32
#undef QF_C16
#undef QF_C4

// Two numbers rounded to the 16-bit type, `low` in the lower half.
__device__ __forceinline__ std::uint32_t pack16(__half, float low, float high) {
  std::uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0,%1,%2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
__device__ __forceinline__ std::uint32_t pack16(__nv_bfloat16, float low, float high) {
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0,%1,%2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

// Places of a ring that both sides walk through: the next one to wait for.
struct Turn {
  int place = 0;
  std::uint32_t phase = 0;
  template <int kPlaces>
  __device__ __forceinline__ void next() {
    if (++place == kPlaces) {
      place = 0;
      phase ^= 1;
    }
  }
};

}  // namespace qf::cuda
