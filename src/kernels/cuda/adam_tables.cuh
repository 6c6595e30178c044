#pragma once

#include <cstddef>

#include "qwen3fp4/kernels/cpu/adam_step.h"

// Functions of kernels/adam_step.h by tables in shared memory and by placing bits: the same values
// in fewer instructions, of which the optimiser's step has more than it has bytes to move.
namespace qf::cuda {

// draw_e2m1() of eight numbers within +-6, beyond which the highest draws would carry out of the
// code. Scaled by 2^-126 they have the codes' bits in place,
// subnormal ones too: 24 .. 22 are the code, bit 31 its sign.
class E2M1Pack {
 public:
  __device__ void draw(int i, float value, std::uint32_t draw) {
    bits_[i] = float_bits(__fmul_rn(value, 0x1p-126F)) + draw;
  }
  __device__ unsigned word() const {
    unsigned word = 0;
    for (int i = 0; i < 4; ++i) {
      // Codes i and i + 4 in the two halves: the sign in bit 15, the code in 8 .. 6.
      const unsigned pair = __byte_perm(bits_[i], bits_[i + 4], 0x7632);
      const int at = 4 * i;
      word |= (at >= 6 ? pair << (at - 6) : pair >> (6 - at)) & 0x00070007U << at;
      word |= pair >> (12 - at) & 0x00080008U << at;
    }
    return word;
  }

 private:
  unsigned bits_[8];
};

// Entries lie eight bytes apart, so that a code's offset is the same in every table: no two of
// sixteen entries share a bank. Tables are as long as 32 entries and begin at multiples of that, so
// that an address is put together without an addition.
inline constexpr unsigned kEntryShift = 3;
inline constexpr unsigned kEntry = 1U << kEntryShift;
inline constexpr unsigned kTableBytes = 32 * kEntry;

struct alignas(8) CellSteps {
  float low;   // with the code's sign
  float step;  // with the code's sign
};
struct alignas(8) CellLookup {
  float low;
  float per_step;  // 1 / (width / levels)
};
struct alignas(8) PowerAndSquare {
  float power, square;
};
struct alignas(8) PowerLookup {
  float next;      // ratio^(code + 1)
  unsigned entry;  // of the last code whose power is at most the bucket's start
};
struct alignas(8) OneValue {
  float value;
};

// Buckets from 2^e to 1.5 2^e and from there to 2^(e + 1), each with one power of 1.5 at most
// beyond its start; by exponent and highest bit of the mantissa, of which the lowest five bits do.
inline constexpr int kRatioBuckets = 32;

// Constants that come from memory, so that the compiler does not know them: an instruction takes
// one constant of its own, the second has to be in a register.
struct AdamBits {
  unsigned two_to_23;  // of the float
  unsigned position;   // PositionShare's others
  unsigned second;     // SecondShare's others
};

struct alignas(kTableBytes) AdamTables {
  // By code, at the same offsets in tables of a common start.
  CellSteps cell[16];
  OneValue of_first[16];         // E2M1
  PowerAndSquare of_second[16];  // 1.5^code
  OneValue of_inverse[16];       // 1.5^-code
  alignas(kTableBytes) PowerLookup ratio[kRatioBuckets];
  CellLookup quarter[32];      // of the cell that |y| in [i / 4, i / 4 + 1 / 4) is in
  OneValue quarter_start[32];  // 2^23 - 1 + its code * levels
  float rate[256];             // by a block's scale
  AdamBits bits;
};

// The tables by their addresses in shared memory. An entry's is the tables' with the lowest byte
// from `offset`; which table is part of the instruction.
class AdamLookup {
 public:
  __device__ explicit AdamLookup(const AdamTables& tables)
      : bits_(tables.bits),
        start_(static_cast<unsigned>(__cvta_generic_to_shared(&tables))),
        rate_(tables.rate) {}

  __device__ float first_value(unsigned entry) const {
    return one<offsetof(AdamTables, of_first)>(entry);
  }
  __device__ PowerAndSquare power_and_square(unsigned entry) const {
    const float2 two = pair<offsetof(AdamTables, of_second)>(entry);
    return {two.x, two.y};
  }
  __device__ float inverse(unsigned entry) const {
    return one<offsetof(AdamTables, of_inverse)>(entry);
  }
  __device__ float rate(std::uint8_t scale) const { return rate_[scale]; }
  __device__ unsigned start() const { return start_; }

  // Byte `i` of a register in the mantissa of 2^23.
  __device__ float residual(unsigned bytes, unsigned i) const {
    return float_from_bits(__byte_perm(bytes, bits_.two_to_23, 0x7650 + i));
  }
  // `residual` has 2^23 added; every operation is exact.
  __device__ float position(unsigned entry, float residual) const {
    const float2 of_code = pair<offsetof(AdamTables, cell)>(entry);
    return __fmaf_rn(residual - 0x1p23F, of_code.y, of_code.x);
  }

  // round_position(): magnitude code * levels + residual in the lowest bits of a float's.
  template <std::int32_t kLevels>
  __device__ unsigned rounded_position(float y, std::uint32_t word) const {
    const float share = float_from_bits((word & PositionShare<kLevels>::kDrawn) | bits_.position);
    const float m = fminf(fabsf(y), kLastPosition<kLevels>);
    const unsigned entry = (float_bits(__fmaf_rd(m, 32.0F, 0x1p23F)) & 0xF8U) | start_;
    const float2 of_cell = pair<offsetof(AdamTables, quarter)>(entry);
    const float start = one<offsetof(AdamTables, quarter_start)>(entry);
    const float steps = rounded_product(rounded_sum(m, -of_cell.x), of_cell.y);
    return float_bits(__fadd_rd(rounded_sum(steps, share), start));
  }

  // draw_geometric<4>(), as the entry of the code.
  __device__ unsigned geometric_entry(float ratios, std::uint32_t word) const {
    const float threshold =
        curved_threshold(float_from_bits((word & SecondShare::kDrawn) | bits_.second));
    const float x = fmaxf(ratios, 1.0F);
    const float2 bucket =
        pair<offsetof(AdamTables, ratio)>((float_bits(x) >> (22 - kEntryShift) & 0xF8U) | start_);
    unsigned entry = float_bits(bucket.y);
    if (x >= bucket.x) entry += kEntry;
    if (rounded_product(x, inverse(entry)) > threshold) entry += kEntry;
    return entry;
  }

 private:
  // Nothing writes to the tables once they are filled.
  template <std::size_t kTable>
  __device__ static float one(unsigned entry) {
    float value;
    asm("ld.shared.f32 %0, [%1 + %2];" : "=f"(value) : "r"(entry), "n"(kTable));
    return value;
  }
  template <std::size_t kTable>
  __device__ static float2 pair(unsigned entry) {
    float2 two;
    asm("ld.shared.v2.f32 {%0, %1}, [%2 + %3];"
        : "=f"(two.x), "=f"(two.y)
        : "r"(entry), "n"(kTable));
    return two;
  }

  AdamBits bits_;
  unsigned start_;
  const float* rate_;
};

// The entries of a word's eight codes of four bits.
class CodeEntries {
 public:
  __device__ CodeEntries(const AdamLookup& lookup, unsigned word)
      : even_(word << kEntryShift & 0x78787878U),
        odd_(word >> (4 - kEntryShift) & 0x78787878U),
        start_(lookup.start()) {}
  __device__ unsigned operator[](unsigned i) const {
    return __byte_perm(i % 2 == 0 ? even_ : odd_, start_, 0x7650 + i / 2);
  }

 private:
  unsigned even_, odd_, start_;
};

// Eight entries as a word of codes.
__device__ inline unsigned packed_entries(const AdamLookup& lookup, const unsigned (&entries)[8]) {
  unsigned word = entries[7];
  for (int i = 6; i > 0; --i) word = (word << 4) + entries[i];
  // Seven times the start.
  word -= lookup.start() * 0x1111111U;
  return (word << (4 - kEntryShift)) + ((entries[0] - lookup.start()) >> kEntryShift);
}

// By the whole block, of at least 32 threads, for cells of so many levels.
template <std::int32_t kLevels>
__device__ void fill(AdamTables& t, const AdamRule& rule, float global_scale) {
  constexpr float levels = kLevels;
  const auto start = static_cast<unsigned>(__cvta_generic_to_shared(&t));
  const int i = static_cast<int>(threadIdx.x);
  if (i == 0) {
    t.bits = {float_bits(0x1p23F), PositionShare<kLevels>::kOthers, SecondShare::kOthers};
  }
  if (i < 16) {
    t.cell[i] = {with_sign_of_code(cell_low(i & 7), i),
                 with_sign_of_code(cell_width(i & 7) / levels, i)};
    const float power = geometric_power<4>(i);
    t.of_second[i] = {power, rounded_product(power, power)};
    t.of_inverse[i].value = geometric_inverse<4>(i);
    t.of_first[i].value = e2m1_value(i);
  }
  if (i < 32) {
    const std::int32_t code = cell_code(static_cast<float>(i) * 0.25F);
    t.quarter[i] = {cell_low(code), cell_per_width(code) * levels};
    t.quarter_start[i].value = 0x1p23F - 1.0F + static_cast<float>(code) * levels;
  }
  if (i < kRatioBuckets) {
    // The buckets of 1 and 1.5 are the last two of 32.
    const int bucket = (i + 2) % kRatioBuckets;
    const float least = float_from_bits((static_cast<unsigned>(bucket) << 22U) + float_bits(1.0F));
    std::int32_t code = 0;
    while (code < 15 && geometric_power<4>(code + 1) <= least) ++code;
    // There is no code 16.
    t.ratio[i] = {code < 15 ? geometric_power<4>(code + 1) : 0x1p126F,
                  start + (static_cast<unsigned>(code) << kEntryShift)};
  }
  const float rate = step_rate(rule);
  for (int scale = i; scale < 256; scale += static_cast<int>(blockDim.x)) {
    t.rate[scale] =
        rounded_product(rate, inverse_scale(static_cast<std::uint8_t>(scale), global_scale));
  }
  __syncthreads();
}

// In bytes 0 and 1, and again in 2 and 3, each in all eight bits, as __byte_perm() cannot.
__device__ inline unsigned two_signs(float a, float b) {
  unsigned signs;
  asm("prmt.b32 %0, %1, %2, 0xFBFB;" : "=r"(signs) : "r"(float_bits(a)), "r"(float_bits(b)));
  return signs;
}

// The codes of positions as rounded_position() gives them, and their residuals.
template <std::int32_t kLevels>
__device__ void store_positions(const unsigned (&moved)[8], const float (&y)[8],
                                const AdamWeight& w, std::uint32_t eight) {
  constexpr bool kTwelveBits = kLevels == 4096;
  unsigned low[2], codes[2];
  for (int i = 0; i < 2; ++i) {
    const unsigned* const four = moved + 4 * i;
    const float* const signs = y + 4 * i;
    const unsigned a = __byte_perm(four[0], four[1], 0x5410);
    const unsigned b = __byte_perm(four[2], four[3], 0x5410);
    low[i] = __byte_perm(a, b, 0x6420);
    codes[i] = __byte_perm(a, b, 0x7531);
    const unsigned sign_a = two_signs(signs[0], signs[1]);
    const unsigned sign_b = two_signs(signs[2], signs[3]);
    if constexpr (kTwelveBits) {
      codes[i] |= (sign_a & 0x00008080U) | (sign_b & 0x80800000U);
    } else {
      codes[i] |= (sign_a & 0x00000808U) | (sign_b & 0x08080000U);
    }
  }
  reinterpret_cast<uint2*>(w.residual)[eight] = make_uint2(low[0], low[1]);
  // Of each byte's nibble at `shift` a nibble of the word.
  const auto nibbles = [&](unsigned shift) {
    const auto halves = [&](unsigned bytes) {
      const unsigned at = bytes >> shift & 0x0F0F0F0FU;
      return at + (at >> 4);
    };
    return __byte_perm(halves(codes[0]), halves(codes[1]), 0x6420);
  };
  reinterpret_cast<unsigned*>(w.codes)[eight] = nibbles(kTwelveBits ? 4 : 0);
  if constexpr (kTwelveBits) reinterpret_cast<unsigned*>(w.residual_high)[eight] = nibbles(0);
}

}  // namespace qf::cuda
