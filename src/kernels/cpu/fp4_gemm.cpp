#include "qwen3fp4/kernels/cpu/fp4_gemm.h"

#include "e4m3_table.h"

namespace qf {
namespace {

// Twice the value of an E2M1 code.
constexpr int kTwice[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
static_assert(kTwice[7] == 2 * e2m1_to_float(7) && kTwice[9] == 2 * e2m1_to_float(9), "table");

float block_scale(const ScaledFp4View& m, std::int64_t row, std::int64_t block) {
  return kE4M3Values[m.scale_tiles[scale_tile_offset(row, block, m.cols / kNvfp4Block)]];
}

float element(const Fp4Product& p, std::int64_t t, std::int64_t n) {
  const std::uint8_t* const x = p.x.codes + t * p.x.cols / 2;
  const std::uint8_t* const w = p.w.codes + n * p.w.cols / 2;
  float sum = 0;
  for (std::int64_t block = 0; block < p.x.cols / kNvfp4Block; ++block) {
    int quarters = 0;
    for (std::int64_t i = block * 8; i < block * 8 + 8; ++i) {
      quarters += kTwice[nibble(x[i], 0)] * kTwice[nibble(w[i], 0)] +
                  kTwice[nibble(x[i], 1)] * kTwice[nibble(w[i], 1)];
    }
    // 12 bits of codes and 4 of each scale: exact.
    sum += static_cast<float>(quarters) / 4.0F * block_scale(p.x, t, block) *
           block_scale(p.w, n, block);
  }
  return p.alpha * sum;
}

std::uint16_t to_bf16(float value) {
  const std::uint32_t bits = float_bits(value);
  if (!is_finite(value) && (bits & 0x7FFFFFU) != 0) return 0x7FFF;
  return static_cast<std::uint16_t>((bits + 0x7FFFU + (bits >> 16U & 1U)) >> 16U);
}

template <class Store>
void for_each_element(const Fp4Product& p, const Store& store) {
  for (std::int64_t t = 0; t < p.x.rows; ++t) {
    for (std::int64_t n = 0; n < p.w.rows; ++n) store(t * p.w.rows + n, element(p, t, n));
  }
}

}  // namespace

void fp4_gemm_f32(const Fp4Product& product, float* y) {
  for_each_element(product, [y](std::int64_t i, float value) { y[i] = value; });
}

void fp4_gemm_bf16(const Fp4Product& product, std::uint16_t* y) {
  for_each_element(product, [y](std::int64_t i, float value) { y[i] = to_bf16(value); });
}

}  // namespace qf
