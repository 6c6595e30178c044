// The kernels of one decoded token against double, on fresh random data. Needs a GPU (label gpu).
#include <array>
#include <cmath>
#include <memory>
#include <type_traits>

#include "cuda_support.h"
#include "qwen3fp4/kernels/cpu/kv_cache.h"
#include "qwen3fp4/kernels/cuda/token_step.h"

namespace qf {
namespace {

constexpr double kUnit = 0x1p-24;

DeviceArray<cuda::TokenState> state_at(std::int64_t position, std::uint32_t token) {
  return DeviceArray<cuda::TokenState>(std::vector<cuda::TokenState>{{position, token}});
}

TEST(CudaToken, EmbedsItsRow) {
  constexpr std::int64_t kHidden = 300;
  const auto table = random_floats(7 * kHidden);
  const DeviceArray<float> device(table), x(poison(kHidden)), y(poison(kHidden));
  const DeviceArray<Bits16> narrow(narrowed<Bf16Type>(table));
  const auto state = state_at(3, 5);
  ASSERT_EQ(cuda::embed_token(device.get(), kHidden, state.get(), x.get(), nullptr), cudaSuccess);
  const std::vector<float> row(table.begin() + 5 * kHidden, table.begin() + 6 * kHidden);
  EXPECT_TRUE(same_bits(x.host(), row));
  ASSERT_EQ(
      cuda::embed_token(device_values<Bf16Type>(narrow), kHidden, state.get(), y.get(), nullptr),
      cudaSuccess);
  EXPECT_TRUE(same_bits(y.host(), widened<Bf16Type>(narrowed<Bf16Type>(row))));
}

TEST(CudaToken, AddsAndNorms) {
  for (const std::int64_t cols : {4, 100, 2560, 5120}) {
    for (const bool with_addend : {false, true}) {
      const auto x = random_floats(cols);
      const auto addend = random_floats(cols);
      const auto weight = random_floats(cols);
      const DeviceArray<float> device_x(x), device_addend(addend), device_weight(weight),
          y(poison(cols));
      ASSERT_EQ(cuda::add_rms_norm({device_x.get(), with_addend ? device_addend.get() : nullptr,
                                    device_weight.get(), 1e-6F, cols, y.get()},
                                   nullptr),
                cudaSuccess);
      const auto sum = device_x.host();
      const auto out = y.host();
      double squares = 0;
      for (std::size_t c = 0; c < sum.size(); ++c) {
        ASSERT_EQ(sum[c], with_addend ? x[c] + addend[c] : x[c]);
        squares += std::pow(sum[c], 2);
      }
      const double factor = 1 / std::sqrt(squares / static_cast<double>(cols) + 1e-6F);
      for (std::size_t c = 0; c < sum.size(); ++c) {
        const double expected = sum[c] * factor * weight[c];
        // Half the error of a sum of `cols` positive terms, and six roundings more.
        ASSERT_LE(std::abs(out[c] - expected),
                  (static_cast<double>(cols) / 2 + 6) * kUnit * std::abs(expected));
      }
    }
  }
}

// Keys or values of a layer [heads, context, width] on the device.
template <class Type>
class DeviceCache {
 public:
  using Value = typename Type::Value;
  DeviceCache(const std::vector<float>& x, std::int64_t /*context*/, std::int64_t /*width*/)
      : bits_(narrowed<Type>(x)) {}
  Value* get() const { return device_values<Type>(bits_); }
  float* scales() const { return nullptr; }
  std::vector<float> host() const { return widened<Type>(bits_.host()); }
  // A row as it should be kept.
  static std::vector<float> kept(const std::vector<float>& row) {
    return widened<Type>(narrowed<Type>(row));
  }
  // How far a value may be from what it is rounded from, in a row up to `largest`.
  static double rounding(double value, double /*largest*/) {
    return (std::is_same_v<Type, HalfType> ? 0x1p-11 : 0x1p-8) * std::abs(value) + 0x1p-25;
  }

 private:
  DeviceArray<Bits16> bits_;
};

struct Fp8Type {};
template <>
class DeviceCache<Fp8Type> {
 public:
  using Value = E4M3;
  DeviceCache(const std::vector<float>& x, std::int64_t context, std::int64_t width)
      : context_(context), width_(width) {
    const std::int64_t rows = static_cast<std::int64_t>(x.size()) / width;
    std::vector<std::uint8_t> codes(x.size());
    // What lies behind the context is nobody's.
    std::vector<float> scales(static_cast<std::size_t>(rows / context * kv_scale_stride(context)),
                              NAN);
    for (std::int64_t row = 0; row < rows; ++row) {
      quantize_kv_row(x.data() + row * width, width, codes.data() + row * width,
                      &scales[scale_at(row)]);
    }
    codes_ = std::make_unique<DeviceArray<std::uint8_t>>(codes);
    scales_ = std::make_unique<DeviceArray<float>>(scales);
  }
  Value* get() const { return reinterpret_cast<E4M3*>(codes_->get()); }
  float* scales() const { return scales_->get(); }
  std::vector<float> host() const {
    const auto codes = codes_->host();
    const auto scales = scales_->host();
    std::vector<float> out(codes.size());
    for (std::int64_t row = 0; row * width_ < static_cast<std::int64_t>(out.size()); ++row) {
      dequantize_kv_rows(codes.data() + row * width_, &scales[scale_at(row)], 1, width_,
                         out.data() + row * width_);
    }
    return out;
  }
  static std::vector<float> kept(const std::vector<float>& row) {
    std::vector<std::uint8_t> codes(row.size());
    std::vector<float> out(row.size());
    float scale = 0;
    const auto width = static_cast<std::int64_t>(row.size());
    quantize_kv_row(row.data(), width, codes.data(), &scale);
    dequantize_kv_rows(codes.data(), &scale, 1, width, out.data());
    return out;
  }
  // Half a step of three bits behind the point, or of the subnormals.
  static double rounding(double value, double largest) {
    return 1.01 * std::max(std::abs(value) * 0x1p-4, largest / 448 * 0x1p-10);
  }

 private:
  std::size_t scale_at(std::int64_t row) const {
    return static_cast<std::size_t>(row / context_ * kv_scale_stride(context_) + row % context_);
  }
  std::int64_t context_, width_;
  std::unique_ptr<DeviceArray<std::uint8_t>> codes_;
  std::unique_ptr<DeviceArray<float>> scales_;
};

// A layer's attention in double, from what the device cached.
template <class Type>
class AttentionCase {
 public:
  AttentionCase(std::int64_t heads, std::int64_t kv_heads, std::int64_t width)
      : heads_(heads),
        kv_heads_(kv_heads),
        width_(width),
        keys_(random_floats(kv_heads * kContext * width)),
        values_(random_floats(kv_heads * kContext * width)),
        cos_(random_floats(kContext * width)),
        sin_(random_floats(kContext * width)),
        q_norm_(random_floats(width)),
        k_norm_(random_floats(width)) {}

  void check(std::int64_t position, bool norms) {
    const auto q = random_floats(heads_ * width_);
    const auto k = random_floats(kv_heads_ * width_);
    const auto v = random_floats(kv_heads_ * width_);
    const DeviceCache<Type> keys(keys_, kContext, width_), values(values_, kContext, width_);
    const DeviceArray<float> cos(cos_), sin(sin_), q_norm(q_norm_), k_norm(k_norm_), device_q(q),
        device_k(k), device_v(v), out(poison(heads_ * width_)),
        partial(poison(cuda::token_attention_floats(heads_, width_)));
    const auto state = state_at(position, 0);
    cuda::TokenAttention<typename DeviceCache<Type>::Value> a{};
    a.heads = heads_;
    a.kv_heads = kv_heads_;
    a.head_dim = width_;
    a.context = kContext;
    a.keys = keys.get();
    a.values = values.get();
    a.key_scales = keys.scales();
    a.value_scales = values.scales();
    a.cos = cos.get();
    a.sin = sin.get();
    a.q_norm = norms ? q_norm.get() : nullptr;
    a.k_norm = norms ? k_norm.get() : nullptr;
    a.eps = 1e-6F;
    a.q = device_q.get();
    a.k = device_k.get();
    a.v = device_v.get();
    a.partial = partial.get();
    a.out = out.get();
    a.state = state.get();
    ASSERT_EQ(cuda::place_heads(a, nullptr), cudaSuccess);
    const auto placed_q = device_q.host();
    const auto cached_keys = keys.host();
    const auto cached_values = values.host();
    for (std::int64_t h = 0; h < heads_; ++h) {
      const auto expected = placed(q, h, position, norms ? &q_norm_ : nullptr);
      for (std::int64_t i = 0; i < width_; ++i) {
        ASSERT_LE(std::abs(placed_q[index(h, i)] - expected.value[static_cast<std::size_t>(i)]),
                  expected.bound[static_cast<std::size_t>(i)]);
      }
    }
    for (std::int64_t h = 0; h < kv_heads_; ++h) {
      const auto expected = placed(k, h, position, norms ? &k_norm_ : nullptr);
      const auto value_row = v.begin() + static_cast<std::ptrdiff_t>(h * width_);
      const auto kept = DeviceCache<Type>::kept({value_row, value_row + width_});
      double largest = 0;
      for (const double wanted : expected.value) largest = std::max(largest, std::abs(wanted));
      for (std::int64_t i = 0; i < width_; ++i) {
        const float key = cached_keys[cache_index(h, position, i)];
        const double wanted = expected.value[static_cast<std::size_t>(i)];
        ASSERT_LE(std::abs(key - wanted), expected.bound[static_cast<std::size_t>(i)] +
                                              DeviceCache<Type>::rounding(wanted, largest));
        ASSERT_EQ(cached_values[cache_index(h, position, i)], kept[static_cast<std::size_t>(i)]);
      }
    }
    ASSERT_EQ(cuda::attend_token(a, nullptr), cudaSuccess);
    check_attention(placed_q, cached_keys, cached_values, position, out.host());
  }

 private:
  static constexpr std::int64_t kContext = 300;
  std::size_t index(std::int64_t head, std::int64_t i) const {
    return static_cast<std::size_t>(head * width_ + i);
  }
  std::size_t cache_index(std::int64_t kv, std::int64_t position, std::int64_t i) const {
    return static_cast<std::size_t>((kv * kContext + position) * width_ + i);
  }

  struct Placed {
    std::vector<double> value, bound;
  };
  Placed placed(const std::vector<float>& x, std::int64_t head, std::int64_t position,
                const std::vector<float>* weight) const {
    std::vector<double> normed;
    double squares = 0;
    for (std::int64_t i = 0; i < width_; ++i) squares += std::pow(x[index(head, i)], 2);
    const double factor = 1 / std::sqrt(squares / static_cast<double>(width_) + 1e-6F);
    for (std::int64_t i = 0; i < width_; ++i) {
      const double value = x[index(head, i)];
      normed.push_back(weight != nullptr ? value * factor * (*weight)[static_cast<std::size_t>(i)]
                                         : value);
    }
    Placed out;
    for (std::int64_t i = 0; i < width_; ++i) {
      const std::int64_t half = width_ / 2;
      const std::int64_t partner = i < half ? i + half : i - half;
      const double straight = normed[static_cast<std::size_t>(i)] * cos_[index(position, i)];
      const double turned = (i < half ? -1 : 1) * normed[static_cast<std::size_t>(partner)] *
                            sin_[index(position, i)];
      out.value.push_back(straight + turned);
      // Of the norm, as above, and two roundings of the turn.
      out.bound.push_back((static_cast<double>(width_) / 2 + 8) * kUnit *
                          (std::abs(straight) + std::abs(turned)));
    }
    return out;
  }

  void check_attention(const std::vector<float>& q, const std::vector<float>& keys,
                       const std::vector<float>& values, std::int64_t position,
                       const std::vector<float>& out) const {
    for (std::int64_t h = 0; h < heads_; ++h) {
      const std::int64_t kv = h / (heads_ / kv_heads_);
      std::vector<double> weight;
      double most = -1e300;
      double magnitude = 0;
      for (std::int64_t p = 0; p <= position; ++p) {
        double score = 0;
        double size = 0;
        for (std::int64_t i = 0; i < width_; ++i) {
          const double term = double{q[index(h, i)]} * keys[cache_index(kv, p, i)];
          score += term;
          size += std::abs(term);
        }
        weight.push_back(score / std::sqrt(static_cast<double>(width_)));
        most = std::max(most, weight.back());
        magnitude = std::max(magnitude, size / std::sqrt(static_cast<double>(width_)));
      }
      double total = 0;
      for (double& w : weight) total += w = std::exp(w - most);
      for (std::int64_t i = 0; i < width_; ++i) {
        double expected = 0;
        double sum = 0;
        for (std::int64_t p = 0; p <= position; ++p) {
          const double term =
              weight[static_cast<std::size_t>(p)] / total * values[cache_index(kv, p, i)];
          expected += term;
          sum += std::abs(term);
        }
        // A score errs by (E + 2) u of its terms, relative in the softmax, twice; the weighted sum
        // and the running rescaling by a few roundings a position.
        const double bound = sum * kUnit *
                             (2 * (static_cast<double>(width_) + 2) * magnitude +
                              6 * static_cast<double>(position + 1) + 16);
        ASSERT_LE(std::abs(out[index(h, i)] - expected), bound)
            << "head " << h << " position " << position;
      }
    }
  }

  std::int64_t heads_, kv_heads_, width_;
  std::vector<float> keys_, values_, cos_, sin_, q_norm_, k_norm_;
};

template <class Type>
class TokenAttention : public ::testing::Test {};
using NarrowTypes = ::testing::Types<HalfType, Bf16Type, Fp8Type>;
TYPED_TEST_SUITE(TokenAttention, NarrowTypes);

TYPED_TEST(TokenAttention, EqualsTheDefinition) {
  for (const auto& [heads, kv_heads, width] : {std::array<std::int64_t, 3>{4, 1, 128},
                                               {9, 3, 64},
                                               {2, 2, 32},
                                               {16, 2, 128},
                                               {5, 1, 96},
                                               {2, 1, 256}}) {
    AttentionCase<TypeParam> attention(heads, kv_heads, width);
    for (const std::int64_t position : {0, 1, 31, 130, 299}) {
      attention.check(position, position % 2 == 1);
    }
  }
}

TEST(CudaToken, Advances) {
  const auto state = state_at(41, 7);
  const DeviceArray<std::uint32_t> token(std::vector<std::uint32_t>{19});
  ASSERT_EQ(cuda::advance_token(token.get(), state.get(), nullptr), cudaSuccess);
  const auto after = state.host().front();
  EXPECT_EQ(after.position, 42);
  EXPECT_EQ(after.token, 19U);
}

TEST(CudaToken, RefusesWhatItCannotDo) {
  cuda::TokenAttention<float> a{};
  a.heads = 4;
  a.kv_heads = 3;
  a.head_dim = 64;
  a.context = 8;
  EXPECT_EQ(cuda::place_heads(a, nullptr), cudaErrorInvalidValue);
  a.kv_heads = 2;
  a.head_dim = 80;
  EXPECT_EQ(cuda::attend_token(a, nullptr), cudaErrorInvalidValue);
  cuda::TokenAttention<E4M3> without_scales{};
  without_scales.heads = without_scales.kv_heads = 1;
  without_scales.head_dim = 64;
  without_scales.context = 8;
  EXPECT_EQ(cuda::place_heads(without_scales, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(cuda::add_rms_norm({nullptr, nullptr, nullptr, 0, 6, nullptr}, nullptr),
            cudaErrorInvalidValue);
}

}  // namespace
}  // namespace qf
