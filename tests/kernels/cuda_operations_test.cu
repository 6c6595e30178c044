// The small CUDA operations against double, on fresh random data. Needs a GPU (label gpu).
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>

#include "cuda_support.h"
#include "qwen3fp4/kernels/cuda/operations.h"

namespace qf {
namespace {

constexpr double kUnit = 0x1p-24;

TEST(CudaOperations, RmsNorm) {
  for (const auto& [rows, cols] :
       {Shape{1, 1}, Shape{3, 100}, Shape{40, 128}, Shape{5, 2560}, Shape{2, 1001}}) {
    const auto x = random_floats(rows * cols);
    const auto weight = random_floats(cols);
    const DeviceArray<float> device_x(x), device_weight(weight), y(poison(rows * cols));
    ASSERT_EQ(
        cuda::rms_norm(device_x.get(), device_weight.get(), 1e-6F, {rows, cols}, y.get(), nullptr),
        cudaSuccess);
    const auto out = y.host();
    for (std::int64_t r = 0; r < rows; ++r) {
      double squares = 0;
      for (std::int64_t c = 0; c < cols; ++c) squares += std::pow(x[r * cols + c], 2);
      const double factor = 1 / std::sqrt(squares / static_cast<double>(cols) + 1e-6F);
      for (std::int64_t c = 0; c < cols; ++c) {
        const double expected = x[r * cols + c] * factor * weight[c];
        // Half the error of a sum of `cols` positive terms, and six roundings more.
        const double bound = (static_cast<double>(cols) / 2 + 6) * kUnit * std::abs(expected);
        ASSERT_LE(std::abs(out[r * cols + c] - expected), bound);
      }
    }
  }
}

TEST(CudaOperations, RopeTurnsHalves) {
  for (const cuda::RopeShape& shape :
       {cuda::RopeShape{1, 1, 2}, cuda::RopeShape{3, 5, 64}, cuda::RopeShape{7, 32, 128}}) {
    const std::int64_t count = shape.tokens * shape.heads * shape.head_dim;
    const std::int64_t half = shape.head_dim / 2;
    const auto x = random_floats(count);
    const auto cos = random_floats(shape.tokens * shape.head_dim);
    const auto sin = random_floats(shape.tokens * shape.head_dim);
    const DeviceArray<float> device_x(x), device_cos(cos), device_sin(sin), y(poison(count));
    ASSERT_EQ(cuda::apply_rope(device_x.get(), device_cos.get(), device_sin.get(), shape, y.get(),
                               nullptr),
              cudaSuccess);
    const auto out = y.host();
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t e = i % shape.head_dim;
      const std::int64_t angle = i / (shape.heads * shape.head_dim) * shape.head_dim + e;
      const double straight = static_cast<double>(x[i]) * cos[angle];
      const double turned = (e < half ? -1.0 * x[i + half] : 1.0 * x[i - half]) * sin[angle];
      ASSERT_LE(std::abs(out[i] - (straight + turned)),
                2 * kUnit * (std::abs(straight) + std::abs(turned)));
    }
  }
}

TEST(CudaOperations, SwigluAndAdd) {
  for (const std::int64_t count : {1, 255, 257, 100000}) {
    auto a = random_floats(count);
    const auto b = random_floats(count);
    a[0] = -200;  // exp overflows, silu is -0
    const DeviceArray<float> device_a(a), device_b(b), product(poison(count)), sum(poison(count));
    ASSERT_EQ(cuda::swiglu(device_a.get(), device_b.get(), count, product.get(), nullptr),
              cudaSuccess);
    ASSERT_EQ(cuda::add(device_a.get(), device_b.get(), count, sum.get(), nullptr), cudaSuccess);
    const auto products = product.host();
    const auto sums = sum.host();
    for (std::size_t i = 0; i < a.size(); ++i) {
      const double silu = a[i] / (1 + std::exp(-static_cast<double>(a[i])));
      ASSERT_LE(std::abs(products[i] - silu * b[i]),
                8 * kUnit * std::abs(silu * b[i]) + std::numeric_limits<float>::min());
      ASSERT_EQ(sums[i], a[i] + b[i]);
    }
  }
}

TEST(CudaOperations, SwigluBackwardIsTheDerivative) {
  for (const std::int64_t count : {1, 255, 257, 100000}) {
    auto gate = random_floats(count);
    const auto up = random_floats(count);
    const auto dy = random_floats(count);
    gate[0] = -200;
    const DeviceArray<float> device_gate(gate), device_up(up), device_dy(dy);
    const DeviceArray<float> dgate(poison(count)), dup(poison(count));
    ASSERT_EQ(cuda::swiglu_backward<float>({device_gate.get(), device_up.get(), device_dy.get()},
                                           count, dgate.get(), dup.get(), nullptr),
              cudaSuccess);
    const auto of_gate = dgate.host();
    const auto of_up = dup.host();
    for (std::size_t i = 0; i < gate.size(); ++i) {
      const double g = gate[i];
      const double sigmoid = 1 / (1 + std::exp(-g));
      const double outer = double{dy[i]} * up[i];
      // The two terms of silu's derivative cancel near its minimum.
      const double terms = std::abs(outer) * sigmoid * (1 + std::abs(g) * (1 - sigmoid));
      const double derivative = outer * sigmoid * (1 + g * (1 - sigmoid));
      ASSERT_LE(std::abs(of_gate[i] - derivative),
                16 * kUnit * terms + std::numeric_limits<float>::min());
      const double silu = g * sigmoid;
      ASSERT_LE(std::abs(of_up[i] - dy[i] * silu),
                8 * kUnit * std::abs(dy[i] * silu) + std::numeric_limits<float>::min());
    }
  }
  EXPECT_EQ(cuda::swiglu_backward<float>({nullptr, nullptr, nullptr}, 0, nullptr, nullptr, nullptr),
            cudaErrorInvalidValue);
}

// Heads with their norm and RoPE, in double: y, and the derivatives of sum(y dy).
struct RotatedHeads {
  std::vector<double> y, dx, dweight;
};
RotatedHeads rotated_heads(const cuda::RopeShape& s, const std::vector<float>& x,
                           const std::vector<float>* weight, const std::vector<float>& cos,
                           const std::vector<float>& sin, const std::vector<float>& dy,
                           double eps) {
  const auto width = static_cast<std::size_t>(s.head_dim);
  const std::size_t half = width / 2;
  RotatedHeads out{{}, {}, std::vector<double>(width)};
  for (std::int64_t row = 0; row < s.tokens * s.heads; ++row) {
    const std::size_t at = static_cast<std::size_t>(row) * width;
    const std::size_t angle = static_cast<std::size_t>(row / s.heads) * width;
    double squares = 0;
    for (std::size_t e = 0; e < width; ++e) squares += double{x[at + e]} * x[at + e];
    const double rstd =
        weight != nullptr ? 1 / std::sqrt(squares / static_cast<double>(width) + eps) : 1;
    std::vector<double> normed(width), dnormed(width);
    const auto weight_at = [&](std::size_t e) { return weight != nullptr ? (*weight)[e] : 1.0; };
    for (std::size_t e = 0; e < width; ++e) normed[e] = x[at + e] * rstd * weight_at(e);
    for (std::size_t e = 0; e < width; ++e) {
      const bool low = e < half;
      const std::size_t other = low ? e + half : e - half;
      out.y.push_back(normed[e] * cos[angle + e] +
                      (low ? -normed[other] : normed[other]) * sin[angle + e]);
      dnormed[e] = dy[at + e] * double{cos[angle + e]} +
                   (low ? dy[at + other] : -dy[at + other]) * double{sin[angle + other]};
    }
    double mean = 0;
    for (std::size_t e = 0; e < width; ++e) {
      const double n = x[at + e] * rstd;
      out.dweight[e] += dnormed[e] * n;
      mean += dnormed[e] * weight_at(e) * n / static_cast<double>(width);
    }
    for (std::size_t e = 0; e < width; ++e) {
      const double n = x[at + e] * rstd;
      out.dx.push_back(weight != nullptr ? rstd * (dnormed[e] * weight_at(e) - n * mean)
                                         : dnormed[e]);
    }
  }
  return out;
}

TEST(CudaOperations, RotatedHeadsAndTheirDerivatives) {
  constexpr double kEps = 1e-6;
  constexpr double kRoundoff = 0x1p-8;
  for (const std::int64_t width : {64, 128, 256}) {
    for (const bool normed : {true, false}) {
      const cuda::RopeShape s{37, 5, width};
      const std::int64_t count = s.tokens * s.heads * width;
      const auto x = narrowed<Bf16Type>(random_floats(count));
      const auto dy = narrowed<Bf16Type>(random_floats(count));
      const auto weight = random_floats(width);
      const auto cos = random_floats(s.tokens * width);
      const auto sin = random_floats(s.tokens * width);
      const RotatedHeads expected =
          rotated_heads(s, widened<Bf16Type>(x), normed ? &weight : nullptr, cos, sin,
                        widened<Bf16Type>(dy), kEps);
      const DeviceArray<Bits16> device_x(x), device_dy(dy), y(poison_bits(count)),
          dx(poison_bits(count));
      const DeviceArray<float> device_weight(weight), device_cos(cos), device_sin(sin),
          rstd(poison(s.tokens * s.heads)), parts(poison(cuda::kRotationParts * width));
      const cuda::RotationTables tables{normed ? device_weight.get() : nullptr, device_cos.get(),
                                        device_sin.get()};
      ASSERT_EQ(
          cuda::rotate_heads(device_values<Bf16Type>(device_x), tables, static_cast<float>(kEps), s,
                             device_values<Bf16Type>(y), rstd.get(), nullptr),
          cudaSuccess);
      ASSERT_EQ(cuda::rotate_heads_backward<__nv_bfloat16>(
                    {device_values<Bf16Type>(device_dy), device_values<Bf16Type>(device_x),
                     rstd.get(), device_values<Bf16Type>(dx), parts.get()},
                    tables, s, nullptr),
                cudaSuccess);
      const auto got_y = widened<Bf16Type>(y.host());
      const auto got_dx = widened<Bf16Type>(dx.host());
      for (std::size_t i = 0; i < expected.y.size(); ++i) {
        // Rounded once to bf16; the fp32 arithmetic before is a thousand times closer.
        ASSERT_NEAR(got_y[i], expected.y[i], kRoundoff * std::abs(expected.y[i]) + 1e-5) << width;
        ASSERT_NEAR(got_dx[i], expected.dx[i], kRoundoff * std::abs(expected.dx[i]) + 1e-5)
            << width;
      }
      if (!normed) continue;
      std::vector<double> dweight(static_cast<std::size_t>(width));
      const auto of_parts = parts.host();
      for (std::size_t i = 0; i < of_parts.size(); ++i) dweight[i % dweight.size()] += of_parts[i];
      for (std::size_t e = 0; e < dweight.size(); ++e) {
        ASSERT_NEAR(dweight[e], expected.dweight[e], 1e-3) << width;
      }
    }
  }
  const cuda::RopeShape odd{1, 1, 96};
  EXPECT_EQ(cuda::rotate_heads<__nv_bfloat16>(nullptr, {}, 0, odd, nullptr, nullptr, nullptr),
            cudaErrorInvalidValue);
}

// A norm of the stream, in double: h = x + added, y, and the derivatives of sum(y dy) + sum(h r).
struct StreamNorms {
  std::vector<double> h, y, dx, dweight;
};
struct StreamInputs {
  std::vector<float> x, added, weight, dy, residual;
};
StreamNorms stream_norms(const Shape& s, const StreamInputs& in, double eps) {
  const auto width = static_cast<std::size_t>(s.cols);
  StreamNorms out{{}, {}, {}, std::vector<double>(width)};
  for (std::size_t at = 0; at < in.x.size(); at += width) {
    double squares = 0;
    for (std::size_t i = at; i < at + width; ++i) {
      out.h.push_back(in.added.empty() ? in.x[i] : in.x[i] + in.added[i]);
      squares += out.h[i] * out.h[i];
    }
    const double rstd = 1 / std::sqrt(squares / static_cast<double>(width) + eps);
    double mean = 0;
    for (std::size_t e = 0; e < width; ++e) {
      const double n = out.h[at + e] * rstd;
      out.y.push_back(n * in.weight[e]);
      out.dweight[e] += in.dy[at + e] * n;
      mean += in.dy[at + e] * in.weight[e] * n / static_cast<double>(width);
    }
    for (std::size_t e = 0; e < width; ++e) {
      const double n = out.h[at + e] * rstd;
      out.dx.push_back(in.residual[at + e] + rstd * (in.dy[at + e] * in.weight[e] - n * mean));
    }
  }
  return out;
}

// Sums of `cols` terms in fp32, then, of what is narrow, a rounding to bf16.
void check_stream_norm(const Shape& shape, bool adds) {
  constexpr double kEps = 1e-6;
  constexpr double kRoundoff = 0x1p-8;
  const std::int64_t count = shape.rows * shape.cols;
  const auto x = narrowed<Bf16Type>(random_floats(count));
  const auto added = narrowed<Bf16Type>(random_floats(count));
  StreamInputs in{widened<Bf16Type>(x),
                  {},
                  random_floats(shape.cols),
                  random_floats(count),
                  random_floats(count)};
  if (adds) in.added = widened<Bf16Type>(added);
  const StreamNorms expected = stream_norms(shape, in, kEps);
  const DeviceArray<Bits16> device_x(x), device_added(added), y(poison_bits(count)),
      narrow(poison_bits(count));
  const DeviceArray<float> weight(in.weight), dy(in.dy), residual(in.residual), h(poison(count)),
      rstd(poison(shape.rows)), dx(poison(count)), parts(poison(cuda::kNormParts * shape.cols));
  const auto* const bf16_x = device_values<Bf16Type>(device_x);
  const cuda::AddedNorm<__nv_bfloat16, __nv_bfloat16> norm{
      bf16_x,       adds ? device_values<Bf16Type>(device_added) : nullptr,
      weight.get(), static_cast<float>(kEps),
      h.get(),      device_values<Bf16Type>(y),
      rstd.get()};
  ASSERT_EQ(cuda::add_norm(norm, {shape.rows, shape.cols}, nullptr), cudaSuccess);
  const auto back = [&](const auto* stream) {
    using In = std::remove_const_t<std::remove_pointer_t<decltype(stream)>>;
    const cuda::NormGradient<In, __nv_bfloat16> gradient{dy.get(),
                                                         stream,
                                                         rstd.get(),
                                                         weight.get(),
                                                         residual.get(),
                                                         dx.get(),
                                                         device_values<Bf16Type>(narrow),
                                                         parts.get()};
    return cuda::norm_backward(gradient, {shape.rows, shape.cols}, nullptr);
  };
  ASSERT_EQ(adds ? back(static_cast<const float*>(h.get())) : back(bf16_x), cudaSuccess);
  const auto got_h = h.host();
  const auto got_y = widened<Bf16Type>(y.host());
  const auto got_dx = dx.host();
  const auto got_narrow = widened<Bf16Type>(narrow.host());
  for (std::size_t i = 0; i < expected.y.size(); ++i) {
    ASSERT_EQ(got_h[i], adds ? static_cast<float>(expected.h[i]) : -12345.0F);
    ASSERT_NEAR(got_y[i], expected.y[i], kRoundoff * std::abs(expected.y[i]) + 1e-5);
    ASSERT_NEAR(got_dx[i], expected.dx[i], 1e-5 * (1 + std::abs(expected.dx[i])));
    ASSERT_EQ(got_narrow[i], float_of_bf16(bf16_of_float(got_dx[i])));
  }
  std::vector<double> dweight(static_cast<std::size_t>(shape.cols));
  const auto of_parts = parts.host();
  for (std::size_t i = 0; i < of_parts.size(); ++i) dweight[i % dweight.size()] += of_parts[i];
  for (std::size_t e = 0; e < dweight.size(); ++e) {
    ASSERT_NEAR(dweight[e], expected.dweight[e], 1e-5 * static_cast<double>(shape.rows) + 1e-4);
  }
}

TEST(CudaOperations, StreamNormAndItsDerivatives) {
  for (const Shape& shape :
       {Shape{1, 4}, Shape{3, 100}, Shape{37, 576}, Shape{600, 2560}, Shape{5, 8192}}) {
    for (const bool adds : {false, true}) {
      SCOPED_TRACE(std::to_string(shape.rows) + " x " + std::to_string(shape.cols));
      check_stream_norm(shape, adds);
    }
  }
  const cuda::AddedNorm<float, __nv_bfloat16> none{};
  EXPECT_EQ(cuda::add_norm(none, {1, 6}, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(cuda::add_norm(none, {1, cuda::kMostNormCols + 4}, nullptr), cudaErrorInvalidValue);
  const cuda::NormGradient<float, __nv_bfloat16> no_gradient{};
  EXPECT_EQ(cuda::norm_backward(no_gradient, {0, 4}, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(cuda::norm_backward(no_gradient, {1, cuda::kMostNormCols + 4}, nullptr),
            cudaErrorInvalidValue);
}

// With 16-bit operands and results: the f32 kernel's values on the same operands, rounded.
template <class Type>
class NarrowOperations : public ::testing::Test {
 public:
  void check(const Shape& shape) {
    const std::int64_t count = shape.rows * shape.cols;
    const auto a = narrowed<Type>(random_floats(count));
    const auto b = narrowed<Type>(random_floats(count));
    const DeviceArray<Bits16> narrow_a(a), narrow_b(b), got(poison_bits(count));
    const DeviceArray<float> wide_a(widened<Type>(a)), wide_b(widened<Type>(b));
    const DeviceArray<float> weight(random_floats(shape.cols)), angles(random_floats(count));
    const DeviceArray<float> exact(poison(count)), again(poison(count));
    const auto equal = [&](cudaError_t status, cudaError_t narrow_status, const char* what) {
      ASSERT_EQ(status, cudaSuccess) << what;
      ASSERT_EQ(narrow_status, cudaSuccess) << what;
      EXPECT_EQ(got.host(), narrowed<Type>(exact.host())) << what << ", " << shape.cols;
    };
    auto* const in_a = device_values<Type>(narrow_a);
    auto* const in_b = device_values<Type>(narrow_b);
    auto* const out = device_values<Type>(got);
    const cuda::NormShape norm{shape.rows, shape.cols};
    const auto normed =
        cuda::rms_norm(wide_a.get(), weight.get(), 1e-6F, norm, exact.get(), nullptr);
    equal(normed, cuda::rms_norm(in_a, weight.get(), 1e-6F, norm, out, nullptr), "norm");
    equal(normed, cuda::rms_norm(wide_a.get(), weight.get(), 1e-6F, norm, out, nullptr),
          "norm of f32");
    const cuda::RopeShape rope{shape.rows, 1, shape.cols};
    equal(cuda::apply_rope(wide_a.get(), angles.get(), angles.get(), rope, exact.get(), nullptr),
          cuda::apply_rope(in_a, angles.get(), angles.get(), rope, out, nullptr), "RoPE");
    equal(cuda::swiglu(wide_a.get(), wide_b.get(), count, exact.get(), nullptr),
          cuda::swiglu(in_a, in_b, count, out, nullptr), "SwiGLU");
    ASSERT_EQ(cuda::add(wide_a.get(), wide_b.get(), count, exact.get(), nullptr), cudaSuccess);
    ASSERT_EQ(cuda::add(wide_a.get(), in_b, count, again.get(), nullptr), cudaSuccess);
    EXPECT_TRUE(same_bits(exact.host(), again.host()));
  }
};
using NarrowTypes = ::testing::Types<HalfType, Bf16Type>;
TYPED_TEST_SUITE(NarrowOperations, NarrowTypes);

TYPED_TEST(NarrowOperations, AreTheF32ResultsRounded) {
  for (const Shape& shape : {Shape{1, 2}, Shape{3, 100}, Shape{40, 128}, Shape{5, 2560}}) {
    this->check(shape);
  }
}

TEST(CudaOperations, RefuseEmptyShapes) {
  const float* const in = nullptr;
  float* const out = nullptr;
  EXPECT_EQ(cuda::rms_norm(in, in, 0, {0, 4}, out, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(cuda::rms_norm(in, in, 0, {4, 0}, out, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(cuda::apply_rope(in, in, in, {1, 1, 3}, out, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(cuda::swiglu(in, in, 0, out, nullptr), cudaErrorInvalidValue);
  EXPECT_EQ(cuda::add(in, in, -1, out, nullptr), cudaErrorInvalidValue);
}

TEST(CudaOperations, Speed) {
  // A prompt of 2,048 tokens of Qwen3-4B.
  constexpr std::int64_t kTokens = 2048;
  const DeviceArray<float> x(random_floats(kTokens * 2560)), y(poison(kTokens * 2560)),
      weight(random_floats(2560)), angles(random_floats(kTokens * 128));
  const DeviceArray<Bits16> gate(poison_bits(kTokens * 9728)), up(poison_bits(kTokens * 9728)),
      result(poison_bits(kTokens * 9728));
  auto* const wide = device_values<HalfType>(gate);
  auto* const other = device_values<HalfType>(up);
  auto* const out = device_values<HalfType>(result);
  std::printf("| 2048 tokens | bytes | median | rate |\n|---|---|---|---|\n");
  report("rms_norm, f32 to fp16", 6.0 * kTokens * 2560, [&] {
    (void)cuda::rms_norm(x.get(), weight.get(), 1e-6F, {kTokens, 2560}, out, nullptr);
  });
  const auto* const bf16 = reinterpret_cast<const __nv_bfloat16*>(out);
  const DeviceArray<float> rstd(poison(kTokens)), h(poison(kTokens * 2560)),
      parts(poison(cuda::kNormParts * 2560));
  auto* const narrow = reinterpret_cast<__nv_bfloat16*>(out);
  report("add_norm, bf16 and bf16 to f32 and bf16", 10.0 * kTokens * 2560, [&] {
    (void)cuda::add_norm<__nv_bfloat16, __nv_bfloat16>(
        {bf16, bf16, weight.get(), 1e-6F, h.get(), narrow, rstd.get()}, {kTokens, 2560}, nullptr);
  });
  report("norm_backward, f32", 18.0 * kTokens * 2560, [&] {
    (void)cuda::norm_backward<float, __nv_bfloat16>(
        {h.get(), h.get(), rstd.get(), weight.get(), h.get(), h.get(), narrow, parts.get()},
        {kTokens, 2560}, nullptr);
  });
  report("rms_norm of heads", 4.0 * kTokens * 4096, [&] {
    (void)cuda::rms_norm(wide, weight.get(), 1e-6F, {kTokens * 32, 128}, out, nullptr);
  });
  report("RoPE", 4.0 * kTokens * 4096, [&] {
    (void)cuda::apply_rope(wide, angles.get(), angles.get(), {kTokens, 32, 128}, out, nullptr);
  });
  report("SwiGLU", 6.0 * kTokens * 9728,
         [&] { (void)cuda::swiglu(wide, other, kTokens * 9728, out, nullptr); });
  report("add", 10.0 * kTokens * 2560,
         [&] { (void)cuda::add(x.get(), wide, kTokens * 2560, y.get(), nullptr); });
}

}  // namespace
}  // namespace qf
