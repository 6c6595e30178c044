#pragma once

#include <cstdint>

#include "qwen3fp4/kernels/cpu/scale_tiles.h"
#include "qwen3fp4/kernels/views.h"

// A block-scaled FP4 product emulated on the CPU, from the very bytes that kernels/cuda/fp4_gemm.h
// hands to the tensor cores: packed codes of both operands, block scales in 128x4 tiles. C++17.
namespace qf {

// m[r, c] = e2m1(code) * e4m3(scale of (r, c / 16)), the tensor scale aside
struct ScaledFp4View {
  const std::uint8_t* codes;        // [rows, cols/2]   element 2j low nibble, 2j+1 high nibble
  const std::uint8_t* scale_tiles;  // scale_tiles_bytes(rows, cols/16), as to_scale_tiles() writes
  std::int64_t rows, cols;          // cols: multiple of 16
};

// y[t, n] = alpha * sum_k x[t, k] w[n, k]
struct Fp4Product {
  ScaledFp4View x;  // [tokens, in_features]
  ScaledFp4View w;  // [out_features, in_features]
  float alpha;      // product of the tensor scales of x and w
};

// The order of the sum: blocks of 16 ascending. A block's sum of products of codes is exact in
// fp32, and so is that times both scales; each is added to the sum with one rounding, and alpha
// multiplies the last. So |y - exact| <= in_features / 16 * 2^-24 * sum |block| * |alpha|, and one
// rounding more. y [tokens, out_features]; bf16 as bits, rounded from f32 to nearest even.
void fp4_gemm_f32(const Fp4Product& product, float* y);
void fp4_gemm_bf16(const Fp4Product& product, std::uint16_t* y);

}  // namespace qf
