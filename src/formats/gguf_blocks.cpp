#include "gguf_blocks.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "qwen3fp4/base/half.h"

namespace qf {
namespace {

std::uint16_t u16(const std::byte* at) {
  return static_cast<std::uint16_t>(std::to_integer<unsigned>(at[0]) |
                                    std::to_integer<unsigned>(at[1]) << 8);
}
float f16(const std::byte* at) { return f16_to_float(u16(at)); }
int u8(std::byte b) { return std::to_integer<int>(b); }
int i8(std::byte b) { return std::bit_cast<std::int8_t>(b); }

void f32_block(const std::byte* in, float* out) { std::memcpy(out, in, sizeof(float)); }
void f16_block(const std::byte* in, float* out) { *out = f16(in); }
void bf16_block(const std::byte* in, float* out) { *out = bf16_to_float(u16(in)); }

// f16 d, qs[16]: element j low nibble, j + 16 high; w = (q - 8) d
void q4_0_block(const std::byte* in, float* out) {
  const float d = f16(in);
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<float>((u8(in[2 + j]) & 0xF) - 8) * d;
    out[j + 16] = static_cast<float>((u8(in[2 + j]) >> 4) - 8) * d;
  }
}

// f16 d, f16 m, qs[16] as above; w = q d + m
void q4_1_block(const std::byte* in, float* out) {
  const float d = f16(in);
  const float m = f16(in + 2);
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<float>(u8(in[4 + j]) & 0xF) * d + m;
    out[j + 16] = static_cast<float>(u8(in[4 + j]) >> 4) * d + m;
  }
}

// f16 d, i8 qs[32]; w = q d
void q8_0_block(const std::byte* in, float* out) {
  const float d = f16(in);
  for (int j = 0; j < 32; ++j) out[j] = static_cast<float>(i8(in[2 + j])) * d;
}

// ql[128] low four bits, qh[64] high two bits, i8 scales[16], f16 d; w = d scale (q - 32).
// Each half of 128 elements: l = 0..31 takes ql[l] and ql[l + 32], and two bits of qh[l] for each
// of the four groups of 32.
void q6_k_block(const std::byte* in, float* out) {
  const float d = f16(in + 208);
  for (int half = 0; half < 2; ++half) {
    const std::byte* ql = in + 64 * half;
    const std::byte* qh = in + 128 + 32 * half;
    const std::byte* scales = in + 192 + 8 * half;
    for (int l = 0; l < 32; ++l) {
      for (int group = 0; group < 4; ++group) {
        const int low = u8(ql[l + 32 * (group & 1)]) >> (group < 2 ? 0 : 4) & 0xF;
        const int q = (low | (u8(qh[l]) >> (2 * group) & 3) << 4) - 32;
        const float scale = d * static_cast<float>(i8(scales[2 * group + l / 16]));
        out[128 * half + 32 * group + l] = scale * static_cast<float>(q);
      }
    }
  }
}

// As kernels/fp4.h, which this layer does not include.
constexpr float kE2M1[8] = {0.0F, 0.5F, 1.0F, 1.5F, 2.0F, 3.0F, 4.0F, 6.0F};
float e2m1(int code) { return (code & 8) != 0 ? -kE2M1[code & 7] : kE2M1[code & 7]; }
float e4m3(int bits) {
  const int exponent = bits >> 3 & 0xF;
  const auto mantissa = static_cast<float>(bits & 7);
  if ((bits & 0x7F) == 0x7F) return std::numeric_limits<float>::quiet_NaN();
  const float value =
      exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8.0F + mantissa, exponent - 10);
  return (bits & 0x80) != 0 ? -value : value;
}

// E4M3 scales[4], codes[32]: gguf.h; w = code scale
void nvfp4_block(const std::byte* in, float* out) {
  for (int s = 0; s < 4; ++s) {
    const float scale = e4m3(u8(in[s]));
    for (int j = 0; j < 8; ++j) {
      const int both = u8(in[4 + 8 * s + j]);
      out[16 * s + j] = e2m1(both & 0xF) * scale;
      out[16 * s + 8 + j] = e2m1(both >> 4) * scale;
    }
  }
}

struct Entry {
  GgmlType type;
  std::string_view name;
  GgmlBlock block;
  void (*dequantize)(const std::byte*, float*);
};

constexpr Entry kEntries[] = {
    {GgmlType::kF32, "F32", {1, 4}, f32_block},
    {GgmlType::kF16, "F16", {1, 2}, f16_block},
    {GgmlType::kBF16, "BF16", {1, 2}, bf16_block},
    {GgmlType::kQ4_0, "Q4_0", {32, 18}, q4_0_block},
    {GgmlType::kQ4_1, "Q4_1", {32, 20}, q4_1_block},
    {GgmlType::kQ8_0, "Q8_0", {32, 34}, q8_0_block},
    {GgmlType::kQ6_K, "Q6_K", {256, 210}, q6_k_block},
    {GgmlType::kNvfp4, "NVFP4", {kGgmlNvfp4Elements, kGgmlNvfp4Bytes}, nvfp4_block},
};

const Entry* find_entry(std::uint32_t type) {
  for (const Entry& entry : kEntries) {
    if (static_cast<std::uint32_t>(entry.type) == type) return &entry;
  }
  return nullptr;
}

}  // namespace

const GgmlBlock* ggml_block(std::uint32_t type) {
  const Entry* entry = find_entry(type);
  return entry == nullptr ? nullptr : &entry->block;
}

std::string_view ggml_type_name(GgmlType type) {
  return find_entry(static_cast<std::uint32_t>(type))->name;
}

void dequantize_ggml(GgmlType type, std::span<const std::byte> bytes, std::span<float> out) {
  const Entry& entry = *find_entry(static_cast<std::uint32_t>(type));
  const std::int64_t blocks = static_cast<std::int64_t>(out.size()) / entry.block.elements;
  for (std::int64_t b = 0; b < blocks; ++b) {
    entry.dequantize(bytes.data() + b * entry.block.bytes, out.data() + b * entry.block.elements);
  }
}

}  // namespace qf
