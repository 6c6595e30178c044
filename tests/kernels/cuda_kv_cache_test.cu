// Rows of the cache in FP8 against the CPU's, bit for bit. Needs a GPU (label gpu).
#include <cmath>
#include <limits>

#include "cuda_support.h"
#include "qwen3fp4/kernels/cpu/kv_cache.h"
#include "qwen3fp4/kernels/cuda/kv_cache.h"

namespace qf {
namespace {

// Tokens first .. first + tokens - 1 of a cache of `context`.
struct Case {
  std::int64_t heads, tokens, width, first, context;
};
constexpr Case kCases[] = {{1, 1, 8, 0, 1},       {3, 7, 64, 2, 33},    {8, 129, 128, 0, 129},
                           {2, 300, 128, 5, 320}, {1, 2, 2048, 0, 16},  {5, 19, 96, 12, 40},
                           {2, 33, 256, 1, 50},   {4, 1, 128, 99, 100}, {3, 11, 40, 0, 17}};

std::vector<float> all_sorts_of_rows(const Case& c) {
  auto x = random_floats(c.tokens * c.heads * c.width);
  for (std::int64_t row = 0; row < c.tokens * c.heads; ++row) {
    float* const r = x.data() + row * c.width;
    const std::int64_t at = random_source()() % static_cast<unsigned>(c.width);
    switch (random_source()() % 12) {
      case 0:
        std::fill(r, r + c.width, 0.0F);
        break;
      case 1:
        r[at] = NAN;
        break;
      case 2:
        r[at] = -INFINITY;
        break;
      case 3:  // scale, and what it divides, below the normal numbers
        for (std::int64_t i = 0; i < c.width; ++i) r[i] *= 1e-41F;
        break;
      case 4:
        for (std::int64_t i = 0; i < c.width; ++i) r[i] *= 1e36F;
        break;
      case 5:  // half-way between codes
        for (std::int64_t i = 0; i < c.width; ++i) {
          const auto code = static_cast<std::uint8_t>(random_source()() % 0x7EU);
          r[i] = (e4m3_to_float(code) + e4m3_to_float(static_cast<std::uint8_t>(code + 1))) / 2 *
                 (i % 2 == 0 ? 1.0F : -1.0F);
        }
        r[0] = -448.0F;
        break;
      case 6:
        r[at] = 1e6F;
        break;
      case 7:
        r[at] = -0.0F;
        break;
      default:
        break;
    }
  }
  return x;
}

// As it is on the device, and as the CPU has it.
struct Rows {
  explicit Rows(const Case& shape)
      : c(shape),
        codes(static_cast<std::size_t>(c.heads * c.context * c.width), 0xA5),
        scales(poison(c.heads * kv_scale_stride(c.context))) {}
  std::size_t code_at(std::int64_t head, std::int64_t token) const {
    return static_cast<std::size_t>((head * c.context + c.first + token) * c.width);
  }
  std::size_t scale_at(std::int64_t head, std::int64_t token) const {
    return static_cast<std::size_t>(head * kv_scale_stride(c.context) + c.first + token);
  }
  Case c;
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
};

cuda::KvRows view(const Case& c, const DeviceArray<std::uint8_t>& codes,
                  const DeviceArray<float>& scales) {
  return {reinterpret_cast<E4M3*>(codes.get()) + c.first * c.width,
          scales.get() + c.first,
          c.heads,
          c.tokens,
          c.width,
          c.context * c.width,
          kv_scale_stride(c.context)};
}

// x as the device has it; `values`: the same as floats.
template <class T>
Rows expect_quantised(const Case& c, const T* x, const std::vector<float>& values) {
  Rows want(c);
  const DeviceArray<std::uint8_t> codes(want.codes);
  const DeviceArray<float> scales(want.scales);
  EXPECT_EQ(cuda::quantize_kv(x, view(c, codes, scales), nullptr), cudaSuccess);
  for (std::int64_t t = 0; t < c.tokens; ++t) {
    for (std::int64_t h = 0; h < c.heads; ++h) {
      quantize_kv_row(values.data() + (t * c.heads + h) * c.width, c.width,
                      &want.codes[want.code_at(h, t)], &want.scales[want.scale_at(h, t)]);
    }
  }
  // Everywhere: nothing beside the rows is written.
  EXPECT_EQ(codes.host(), want.codes) << c.heads << " x " << c.tokens << " x " << c.width;
  EXPECT_TRUE(same_bits(scales.host(), want.scales));
  return want;
}

// The rows as numbers [heads, context, width], of the CPU; NaN's bits may differ.
std::vector<float> numbers(const Rows& rows, float elsewhere) {
  const Case& c = rows.c;
  std::vector<float> out(rows.codes.size(), elsewhere);
  for (std::int64_t h = 0; h < c.heads; ++h) {
    dequantize_kv_rows(&rows.codes[rows.code_at(h, 0)], &rows.scales[rows.scale_at(h, 0)], c.tokens,
                       c.width, &out[rows.code_at(h, 0)]);
  }
  return out;
}

void expect_same_numbers(const std::vector<float>& got, const std::vector<float>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(want[i])) {
      ASSERT_TRUE(std::isnan(got[i])) << i;
    } else {
      ASSERT_EQ(float_bits(got[i]), float_bits(want[i])) << i;
    }
  }
}

template <class T>
void dequantise(const Rows& rows, T* out) {
  const DeviceArray<std::uint8_t> codes(rows.codes);
  const DeviceArray<float> scales(rows.scales);
  const Case& c = rows.c;
  ASSERT_EQ(cuda::dequantize_kv(view(c, codes, scales), out + c.first * c.width,
                                c.context * c.width, nullptr),
            cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

template <class Type>
void expect_narrow(const Case& c) {
  const auto bits = narrowed<Type>(all_sorts_of_rows(c));
  const DeviceArray<Bits16> x(bits);
  const Rows rows = expect_quantised(c, device_values<Type>(x), widened<Type>(bits));
  const float elsewhere = Type::value(poison_bits(1).front());
  const DeviceArray<Bits16> out(poison_bits(static_cast<std::int64_t>(rows.codes.size())));
  dequantise(rows, device_values<Type>(out));
  expect_same_numbers(widened<Type>(out.host()),
                      widened<Type>(narrowed<Type>(numbers(rows, elsewhere))));
}

TEST(CudaKvCache, HasTheBitsOfTheCpu) {
  for (int repeat = 0; repeat < 5; ++repeat) {
    for (const Case& c : kCases) {
      const auto values = all_sorts_of_rows(c);
      const DeviceArray<float> x(values);
      const Rows rows = expect_quantised(c, x.get(), values);
      const DeviceArray<float> out(poison(static_cast<std::int64_t>(rows.codes.size())));
      dequantise(rows, out.get());
      expect_same_numbers(out.host(), numbers(rows, poison(1).front()));
      expect_narrow<HalfType>(c);
      expect_narrow<Bf16Type>(c);
    }
  }
}

// Every code with a scale that rounds.
TEST(CudaKvCache, ReadsEveryCode) {
  const Case c{1, 1, 256, 0, 1};
  Rows rows(c);
  for (std::size_t i = 0; i < 256; ++i) rows.codes[i] = static_cast<std::uint8_t>(i);
  rows.scales[0] = 0.0123F;
  const DeviceArray<float> out(poison(256));
  dequantise(rows, out.get());
  expect_same_numbers(out.host(), numbers(rows, 0));
}

TEST(CudaKvCache, RefusesWhatItCannotDo) {
  const Case c{2, 3, 64, 0, 16};
  const DeviceArray<std::uint8_t> codes(std::vector<std::uint8_t>(2 * 16 * 64 + 8));
  const DeviceArray<float> scales(poison(32)), x(poison(2 * 16 * 64 + 4));
  const auto refused = [&](const auto& change) {
    cuda::KvRows rows = view(c, codes, scales);
    change(rows);
    return cuda::quantize_kv(x.get(), rows, nullptr) == cudaErrorInvalidValue &&
           cuda::dequantize_kv(rows, x.get(), 16 * 64, nullptr) == cudaErrorInvalidValue;
  };
  EXPECT_FALSE(refused([](cuda::KvRows&) {}));
  EXPECT_TRUE(refused([](cuda::KvRows& r) { r.width = 60; }));
  EXPECT_TRUE(refused([](cuda::KvRows& r) { r.width = 2056; }));
  EXPECT_TRUE(refused([](cuda::KvRows& r) { r.tokens = 0; }));
  EXPECT_TRUE(refused([](cuda::KvRows& r) { r.heads = 0; }));
  EXPECT_TRUE(refused([](cuda::KvRows& r) { r.code_stride = 1020; }));
  EXPECT_TRUE(refused([](cuda::KvRows& r) { ++r.codes; }));
  EXPECT_EQ(cuda::dequantize_kv(view(c, codes, scales), x.get() + 1, 16 * 64, nullptr),
            cudaErrorInvalidValue);
}

TEST(CudaKvCache, Speed) {
  // A layer of Qwen3-4B behind 32k tokens.
  const Case c{8, 32768, 128, 0, 32768};
  const std::int64_t count = c.heads * c.tokens * c.width;
  const DeviceArray<float> x(random_floats(count));
  const Rows rows(c);
  const DeviceArray<std::uint8_t> codes(rows.codes);
  const DeviceArray<float> scales(rows.scales);
  const DeviceArray<Bits16> out(poison_bits(count));
  const auto kv = view(c, codes, scales);
  const auto scale_bytes = static_cast<double>(4 * c.heads * c.tokens);
  report("keys of 32,768 tokens to fp8, from f32", 5.0 * static_cast<double>(count) + scale_bytes,
         [&] { (void)cuda::quantize_kv(x.get(), kv, nullptr); });
  report("keys of 32,768 tokens from fp8, to fp16", 3.0 * static_cast<double>(count) + scale_bytes,
         [&] {
           (void)cuda::dequantize_kv(kv, device_values<HalfType>(out), c.context * c.width,
                                     nullptr);
         });
}

}  // namespace
}  // namespace qf
