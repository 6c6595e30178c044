// Attention of prompts against softmax in double, on fresh random data. Needs a Hopper GPU (label
// gpu).
#include <array>
#include <cmath>

#include "cuda_support.h"
#include "qwen3fp4/kernels/cuda/attention.h"

namespace qf {
namespace {

bool hopper() {
  cudaDeviceProp properties{};
  return cudaGetDeviceProperties(&properties, 0) == cudaSuccess && properties.major == 9;
}
#define QF_NEEDS_HOPPER() \
  if (!hopper()) GTEST_SKIP() << "needs compute capability 9.0"

// Keys and values of a position beside each other, or those of a head, with room behind them as in
// a cache.
cuda::AttentionShape shape_of(std::int64_t tokens, std::int64_t positions, std::int64_t heads,
                              std::int64_t kv_heads, std::int64_t width, bool by_head) {
  return {tokens,
          positions,
          heads,
          kv_heads,
          width,
          by_head ? width : kv_heads * width,
          by_head ? (positions + 5) * width : width};
}
std::vector<cuda::AttentionShape> attention_shapes() {
  std::vector<cuda::AttentionShape> shapes;
  for (const bool by_head : {false, true}) {
    for (const auto& [tokens, positions, heads, kv_heads, width] :
         std::vector<std::array<std::int64_t, 5>>{{1, 1, 2, 1, 128},
                                                  {9, 9, 4, 4, 64},
                                                  {64, 64, 8, 2, 128},
                                                  {130, 130, 3, 3, 64},
                                                  {200, 500, 4, 1, 128},
                                                  {128, 1000, 2, 2, 128},
                                                  {257, 257, 6, 2, 128},
                                                  {1, 300, 4, 2, 64},
                                                  {300, 333, 9, 3, 64}}) {
      shapes.push_back(shape_of(tokens, positions, heads, kv_heads, width, by_head));
    }
  }
  return shapes;
}
std::int64_t cached_values(const cuda::AttentionShape& s) {
  return std::max(s.positions * s.position_stride, s.kv_heads * s.head_stride);
}

// Row t, head h of the definition.
std::vector<double> attended(const std::vector<float>& q, const std::vector<float>& k,
                             const std::vector<float>& v, const cuda::AttentionShape& s,
                             std::int64_t t, std::int64_t h, double& largest_value,
                             double& logsumexp) {
  const auto width = static_cast<std::size_t>(s.head_dim);
  const std::size_t kv_head = static_cast<std::size_t>(h / (s.heads / s.kv_heads));
  const std::size_t seen = static_cast<std::size_t>(s.positions - s.tokens + t + 1);
  const auto kv_row = [&](std::size_t p) {
    return p * static_cast<std::size_t>(s.position_stride) +
           kv_head * static_cast<std::size_t>(s.head_stride);
  };
  const std::size_t q_row = static_cast<std::size_t>(t * s.heads + h) * width;
  std::vector<double> weights(seen);
  double largest = -INFINITY;
  for (std::size_t p = 0; p < seen; ++p) {
    double score = 0;
    for (std::size_t e = 0; e < width; ++e) score += double{q[q_row + e]} * k[kv_row(p) + e];
    weights[p] = score / std::sqrt(static_cast<double>(width));
    largest = std::max(largest, weights[p]);
  }
  double total = 0;
  std::vector<double> out(width);
  largest_value = 0;
  for (std::size_t p = 0; p < seen; ++p) {
    const double weight = std::exp(weights[p] - largest);
    total += weight;
    for (std::size_t e = 0; e < width; ++e) {
      out[e] += weight * v[kv_row(p) + e];
      largest_value = std::max(largest_value, std::abs(double{v[kv_row(p) + e]}));
    }
  }
  for (double& value : out) value /= total;
  logsumexp = largest + std::log(total);
  return out;
}

// `roundoff`: the type's.
template <class Type>
void expect_attention(double roundoff, float size_of_queries) {
  for (const cuda::AttentionShape& s : attention_shapes()) {
    auto q = random_floats(s.tokens * s.heads * s.head_dim);
    for (float& value : q) value *= size_of_queries;
    const auto q_bits = narrowed<Type>(q);
    // NaN where nothing is stored yet: it must not be read.
    const auto with_gaps = [&](std::vector<Bits16> bits) {
      for (std::int64_t h = 0; s.head_stride > s.position_stride && h < s.kv_heads; ++h) {
        const auto first = bits.begin() + h * s.head_stride + s.positions * s.position_stride;
        std::fill_n(first, 5 * s.position_stride, Bits16{0x7E55});
      }
      return bits;
    };
    const auto k_bits = with_gaps(narrowed<Type>(random_floats(cached_values(s))));
    const auto v_bits = with_gaps(narrowed<Type>(random_floats(cached_values(s))));
    const DeviceArray<Bits16> device_q(q_bits), device_k(k_bits), device_v(v_bits),
        out(poison_bits(s.tokens * s.heads * s.head_dim)),
        again(poison_bits(s.tokens * s.heads * s.head_dim));
    // Rows of another sequence behind those of a head.
    const std::int64_t stride = s.tokens + 3;
    const DeviceArray<float> logsumexp(poison(s.heads * stride));
    for (const DeviceArray<Bits16>* to : {&out, &again}) {
      ASSERT_EQ(cuda::prompt_attention<typename Type::Value>(
                    {device_values<Type>(device_q), device_values<Type>(device_k),
                     device_values<Type>(device_v), device_values<Type>(*to),
                     to == &out ? logsumexp.get() : nullptr, stride},
                    s, nullptr),
                cudaSuccess);
    }
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    EXPECT_EQ(out.host(), again.host());
    q = widened<Type>(q_bits);
    const auto k = widened<Type>(k_bits);
    const auto v = widened<Type>(v_bits);
    const auto got = widened<Type>(out.host());
    const auto sums = logsumexp.host();
    for (std::int64_t h = 0; h < s.heads; ++h) {
      EXPECT_EQ(sums[static_cast<std::size_t>(h * stride + s.tokens)], -12345.0F);
    }
    for (std::int64_t t = 0; t < s.tokens; ++t) {
      for (std::int64_t h = 0; h < s.heads; ++h) {
        double largest_value = 0;
        double sum = 0;
        const auto expected = attended(q, k, v, s, t, h, largest_value, sum);
        // Of fp32 sums of head_dim products, and the hardware's powers of two.
        const double of_scores = 1e-5 * (1 + std::abs(sum));
        ASSERT_NEAR(sums[static_cast<std::size_t>(h * stride + t)], sum, of_scores) << t;
        for (std::int64_t e = 0; e < s.head_dim; ++e) {
          const double value = expected[static_cast<std::size_t>(e)];
          const double bound = roundoff * (2 * largest_value + std::abs(value));
          ASSERT_NEAR(got[static_cast<std::size_t>((t * s.heads + h) * s.head_dim + e)], value,
                      bound)
              << Type::kName << ", " << s.tokens << " of " << s.positions << ", token " << t
              << ", head " << h << " of " << s.heads << ", " << e;
        }
      }
    }
  }
}

TEST(CudaAttention, OfFp16IsTheDefinition) {
  QF_NEEDS_HOPPER();
  expect_attention<HalfType>(0x1p-11, 1);
}
TEST(CudaAttention, OfBf16IsTheDefinition) {
  QF_NEEDS_HOPPER();
  expect_attention<Bf16Type>(0x1p-8, 1);
}
// Almost all weight on one position each.
TEST(CudaAttention, OfSharpScoresIsTheDefinition) {
  QF_NEEDS_HOPPER();
  expect_attention<HalfType>(0x1p-11, 30);
}

TEST(CudaAttention, RefusesWhatItCannotDo) {
  QF_NEEDS_HOPPER();
  const DeviceArray<Bits16> values(poison_bits(4096));
  auto* const p = device_values<HalfType>(values);
  const auto status = [&](const __half* q, const cuda::AttentionShape& shape) {
    return cuda::prompt_attention<__half>({q, p, p, p}, shape, nullptr);
  };
  EXPECT_EQ(status(p, shape_of(4, 4, 2, 2, 96, false)), cudaErrorInvalidValue);
  EXPECT_EQ(status(p, shape_of(5, 4, 2, 2, 64, false)), cudaErrorInvalidValue);
  EXPECT_EQ(status(p, shape_of(0, 4, 2, 2, 64, false)), cudaErrorInvalidValue);
  EXPECT_EQ(status(p, shape_of(4, 4, 3, 2, 64, false)), cudaErrorInvalidValue);
  EXPECT_EQ(status(p + 1, shape_of(4, 4, 2, 2, 64, false)), cudaErrorInvalidValue);
  EXPECT_EQ(status(nullptr, shape_of(4, 4, 2, 2, 64, false)), cudaErrorInvalidValue);
}

TEST(CudaAttention, Speed) {
  QF_NEEDS_HOPPER();
  std::printf("| prompt_attention, fp16, heads of Qwen3-4B | median | TFLOP/s |\n|---|---|---|\n");
  for (const auto& [tokens, positions] :
       {std::pair<int, int>{512, 512}, {2048, 2048}, {2048, 6144}, {2048, 18432}}) {
    const cuda::AttentionShape s = shape_of(tokens, positions, 32, 8, 128, true);
    const DeviceArray<Bits16> q(narrowed<HalfType>(random_floats(tokens * 4096))),
        k(narrowed<HalfType>(random_floats(cached_values(s)))),
        v(narrowed<HalfType>(random_floats(cached_values(s)))), out(poison_bits(tokens * 4096));
    const double seconds = median_seconds([&] {
      ASSERT_EQ(
          cuda::prompt_attention<__half>({device_values<HalfType>(q), device_values<HalfType>(k),
                                          device_values<HalfType>(v), device_values<HalfType>(out)},
                                         s, nullptr),
          cudaSuccess);
    });
    const double pairs = tokens * (positions - tokens + (tokens + 1) / 2.0);
    std::printf("| %d tokens of %d | %.1f us | %.0f |\n", tokens, positions, seconds * 1e6,
                4e-12 * 4096 * pairs / seconds);
  }
}

}  // namespace
}  // namespace qf
