// The CUDA products against sums in double, on fresh random data. Needs a GPU (label gpu).
#include <algorithm>
#include <array>
#include <cmath>

#include "cuda_support.h"
#include "qwen3fp4/kernels/cpu/dequantize.h"
#include "qwen3fp4/kernels/cuda/linear.h"
#include "qwen3fp4/kernels/cuda/token_step.h"
#include "qwen3fp4/kernels/nf4_table.h"

namespace qf {
namespace {

constexpr std::int64_t kTokens[] = {1, 2, 3, 4, 7, 8};

// Every element within the bound that kernels/cuda/linear.h states.
void expect_products(const std::vector<float>& w, const std::vector<float>& x, const Shape& shape,
                     std::int64_t tokens, const std::vector<float>& y) {
  const auto cols = static_cast<std::size_t>(shape.cols);
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t r = 0; r < shape.rows; ++r) {
      double sum = 0;
      double magnitude = 0;
      for (std::size_t c = 0; c < cols; ++c) {
        const double term = static_cast<double>(w[static_cast<std::size_t>(r) * cols + c]) *
                            x[static_cast<std::size_t>(t) * cols + c];
        sum += term;
        magnitude += std::abs(term);
      }
      const double bound = static_cast<double>(shape.cols) * 0x1p-23 * magnitude;
      const float got = y[static_cast<std::size_t>(t * shape.rows + r)];
      ASSERT_LE(std::abs(got - sum), bound) << "token " << t << " row " << r << " of " << shape.rows
                                            << " x " << shape.cols << ", " << tokens << " tokens";
    }
  }
}

struct Nvfp4Data {
  explicit Nvfp4Data(const Shape& shape, bool real_scales)
      : codes(random_bytes(shape.rows * shape.cols / 2)),
        scales(random_bytes(shape.rows * shape.cols / 16, true)),
        scales_f32(scales.begin(), scales.end()),
        device_codes(codes),
        device_scales(scales),
        device_scales_f32(scales_f32),
        host{codes.data(),
             real_scales ? nullptr : scales.data(),
             real_scales ? scales_f32.data() : nullptr,
             0.0123F,
             shape.rows,
             shape.cols},
        device{device_codes.get(),
               real_scales ? nullptr : device_scales.get(),
               real_scales ? device_scales_f32.get() : nullptr,
               0.0123F,
               shape.rows,
               shape.cols} {}
  std::vector<std::uint8_t> codes, scales;
  std::vector<float> scales_f32;
  DeviceArray<std::uint8_t> device_codes, device_scales;
  DeviceArray<float> device_scales_f32;
  Nvfp4View host, device;
};

const Shape kLinearShapes[] = {{1, 16}, {9, 96}, {33, 2560}, {257, 1008}, {100, 4096}};

TEST(CudaLinear, Nvfp4EqualsTheFormula) {
  for (const Shape& shape : kLinearShapes) {
    for (const bool real_scales : {false, true}) {
      const Nvfp4Data data(shape, real_scales);
      auto w = poison(shape.rows * shape.cols);
      dequantize_nvfp4(data.host, {0, shape.rows}, w.data());
      for (const std::int64_t tokens : kTokens) {
        const auto x = random_floats(tokens * shape.cols);
        const DeviceArray<float> device_x(x), y(poison(tokens * shape.rows));
        ASSERT_EQ(cuda::linear_nvfp4(data.device, {device_x.get(), y.get(), tokens}, nullptr),
                  cudaSuccess);
        expect_products(w, x, shape, tokens, y.host());
      }
    }
  }
}

TEST(CudaLinear, Nf4EqualsTheFormula) {
  std::vector<float> book;
  for (int i = 0; i < 16; ++i) book.push_back(static_cast<float>(i) * 0.13F - 1.0F);
  const DeviceArray<float> device_book(book);
  for (const Shape& shape : {Shape{1, 8}, Shape{9, 200}, Shape{33, 2560}, Shape{100, 4096}}) {
    for (const std::int64_t block : {std::int64_t{64}, shape.cols * 4}) {
      const auto codes = random_bytes(shape.rows * shape.cols / 2);
      const auto absmax = random_floats((shape.rows * shape.cols + block - 1) / block);
      const DeviceArray<std::uint8_t> device_codes(codes);
      const DeviceArray<float> device_absmax(absmax);
      auto w = poison(shape.rows * shape.cols);
      dequantize_nf4({codes.data(), absmax.data(), book.data(), block, shape.rows, shape.cols},
                     {0, shape.rows}, w.data());
      for (const std::int64_t tokens : kTokens) {
        const auto x = random_floats(tokens * shape.cols);
        const DeviceArray<float> device_x(x), y(poison(tokens * shape.rows));
        ASSERT_EQ(cuda::linear_nf4({device_codes.get(), device_absmax.get(), device_book.get(),
                                    block, shape.rows, shape.cols},
                                   {device_x.get(), y.get(), tokens}, nullptr),
                  cudaSuccess);
        expect_products(w, x, shape, tokens, y.host());
      }
    }
  }
}

// The stream layout of a weight.
class Streamed {
 public:
  explicit Streamed(const Nvfp4View& device)
      : chunks_(std::vector<std::uint8_t>(
            static_cast<std::size_t>(cuda::stream_bytes(device.rows, device.cols)))),
        view_{chunks_.get(), device.global_scale, device.rows, device.cols} {
    EXPECT_EQ(cuda::pack_stream(device, chunks_.get(), nullptr), cudaSuccess);
  }
  const cuda::StreamView& view() const { return view_; }

 private:
  DeviceArray<std::uint8_t> chunks_;
  cuda::StreamView view_;
};

struct Nf4Data {
  Nf4Data(const Shape& shape, std::int64_t block)
      : codes(random_bytes(shape.rows * shape.cols / 2)),
        absmax(random_floats((shape.rows * shape.cols + block - 1) / block)),
        book(random_floats(16)),
        device_codes(codes),
        device_absmax(absmax),
        device_book(book),
        host{codes.data(), absmax.data(), book.data(), block, shape.rows, shape.cols},
        device{device_codes.get(), device_absmax.get(), device_book.get(), block,
               shape.rows,         shape.cols} {}
  std::vector<std::uint8_t> codes;
  std::vector<float> absmax, book;
  DeviceArray<std::uint8_t> device_codes;
  DeviceArray<float> device_absmax, device_book;
  Nf4View host, device;
};

// `w`: the dense weights.
template <class View>
void expect_stream_products(const View& stream, const std::vector<float>& w, const Shape& shape) {
  for (const std::int64_t tokens : kTokens) {
    const auto x = random_floats(tokens * shape.cols);
    const DeviceArray<float> device_x(x), y(poison(tokens * shape.rows)),
        one_by_one(poison(tokens * shape.rows));
    ASSERT_EQ(cuda::linear_stream(stream, {device_x.get(), y.get(), tokens}, nullptr), cudaSuccess);
    expect_products(w, x, shape, tokens, y.host());
    for (std::int64_t t = 0; t < tokens; ++t) {
      ASSERT_EQ(cuda::linear_stream(
                    stream, {device_x.get() + t * shape.cols, one_by_one.get() + t * shape.rows, 1},
                    nullptr),
                cudaSuccess);
    }
    EXPECT_TRUE(same_bits(y.host(), one_by_one.host()));
  }
}

TEST(CudaLinear, StreamEqualsTheFormula) {
  for (const Shape& shape : kLinearShapes) {
    const Nvfp4Data data(shape, false);
    const Streamed streamed(data.device);
    auto w = poison(shape.rows * shape.cols);
    dequantize_nvfp4(data.host, {0, shape.rows}, w.data());
    expect_stream_products(streamed.view(), w, shape);
  }
}

TEST(CudaLinear, Nf4StreamEqualsTheFormula) {
  for (const Shape& shape : {Shape{1, 64}, Shape{9, 192}, Shape{33, 2560}, Shape{257, 1088}}) {
    const Nf4Data data(shape, kNf4Block);
    const DeviceArray<std::uint8_t> chunks(std::vector<std::uint8_t>(
        static_cast<std::size_t>(cuda::stream_bytes(shape.rows, shape.cols)), 0xA5));
    std::array<float, 16> book{};
    std::copy(data.book.begin(), data.book.end(), book.begin());
    const auto levels = levels_by_code(book, papers_nf4_table());
    const DeviceArray<float> stream_book({levels.begin(), levels.end()});
    ASSERT_EQ(cuda::pack_stream(data.device, papers_nf4_table(), chunks.get(), nullptr),
              cudaSuccess);
    auto w = poison(shape.rows * shape.cols);
    dequantize_nf4(data.host, {0, shape.rows}, w.data());
    expect_stream_products(
        cuda::StreamNf4View{chunks.get(), stream_book.get(), shape.rows, shape.cols}, w, shape);
  }
}

// Three matrices in one launch, and SwiGLU of the first and itself; `w`: the dense weights.
void expect_token_linear(const cuda::TokenMatrix& matrix, const std::vector<float>& w,
                         const Shape& shape) {
  const auto x = random_floats(shape.cols);
  const DeviceArray<float> device_x(x), y0(poison(shape.rows)), y1(poison(shape.rows)),
      y2(poison(shape.rows));
  cuda::TokenLinear linear{};
  for (auto& m : linear.matrix) m = matrix;
  linear.y[0] = y0.get();
  linear.y[1] = y1.get();
  linear.y[2] = y2.get();
  linear.count = 3;
  linear.x = device_x.get();
  ASSERT_EQ(cuda::linear_token(linear, nullptr), cudaSuccess);
  const auto product = y0.host();
  expect_products(w, x, shape, 1, product);
  EXPECT_TRUE(same_bits(product, y1.host()));
  EXPECT_TRUE(same_bits(product, y2.host()));
  linear.count = 2;
  ASSERT_EQ(cuda::linear_swiglu_token(linear, nullptr), cudaSuccess);
  const auto gated = y0.host();
  for (std::size_t r = 0; r < gated.size(); ++r) {
    // The same sums in another number of rows a warp: the same bits go into SwiGLU.
    const double gate = product[r];
    const double expected = gate / (1 + std::exp(-gate)) * gate;
    // Below -88 exp overflows, and silu is -0.
    const double lost = gate < -88 ? std::abs(expected) : 0;
    ASSERT_LE(std::abs(gated[r] - expected), 8 * 0x1p-24 * std::abs(expected) + lost) << r;
  }
}

const Shape kTokenShapes[] = {{1, 16},     {9, 96},     {33, 2560},  {257, 1008},
                              {100, 9728}, {7000, 528}, {20000, 272}};

TEST(CudaTokenLinear, Nvfp4EqualsTheFormula) {
  for (const Shape& shape : kTokenShapes) {
    for (const bool real_scales : {false, true}) {
      const Nvfp4Data data(shape, real_scales);
      auto w = poison(shape.rows * shape.cols);
      dequantize_nvfp4(data.host, {0, shape.rows}, w.data());
      expect_token_linear({data.device, {}}, w, shape);
    }
  }
}

TEST(CudaTokenLinear, Nf4EqualsTheFormula) {
  for (const Shape& shape : kTokenShapes) {
    for (const std::int64_t block : {std::int64_t{64}, shape.cols}) {
      const Nf4Data data(shape, block);
      auto w = poison(shape.rows * shape.cols);
      dequantize_nf4(data.host, {0, shape.rows}, w.data());
      expect_token_linear({{}, data.device}, w, shape);
    }
  }
}

TEST(CudaTokenLinear, RefusesWhatItCannotDo) {
  const Nvfp4Data data({8, 64}, false);
  const Nf4Data other({8, 64}, 64);
  const DeviceArray<float> x(random_floats(64)), y(poison(8));
  cuda::TokenLinear linear{};
  linear.matrix[0] = {data.device, {}};
  linear.matrix[1] = {{}, other.device};
  for (auto& out : linear.y) out = y.get();
  linear.x = x.get();
  linear.count = 1;
  EXPECT_EQ(cuda::linear_token(linear, nullptr), cudaSuccess);
  EXPECT_EQ(cuda::linear_swiglu_token(linear, nullptr), cudaErrorInvalidValue);
  linear.count = 2;  // of two formats
  EXPECT_EQ(cuda::linear_token(linear, nullptr), cudaErrorInvalidValue);
  linear.count = 0;
  EXPECT_EQ(cuda::linear_token(linear, nullptr), cudaErrorInvalidValue);
  linear.count = 1;
  linear.matrix[0].nvfp4.cols = 40;
  EXPECT_EQ(cuda::linear_token(linear, nullptr), cudaErrorInvalidValue);
}

TEST(CudaLinear, GivesTheSameBitsInEveryRunAndForEveryNumberOfTokens) {
  constexpr Shape kShape{257, 1056};
  const Nvfp4Data data(kShape, false);
  const DeviceArray<float> x(random_floats(8 * kShape.cols));
  const DeviceArray<float> all(poison(8 * kShape.rows)), again(poison(8 * kShape.rows));
  ASSERT_EQ(cuda::linear_nvfp4(data.device, {x.get(), all.get(), 8}, nullptr), cudaSuccess);
  for (std::int64_t t = 0; t < 8; ++t) {
    const cuda::LinearOperands one{x.get() + t * kShape.cols, again.get() + t * kShape.rows, 1};
    ASSERT_EQ(cuda::linear_nvfp4(data.device, one, nullptr), cudaSuccess);
  }
  EXPECT_TRUE(same_bits(all.host(), again.host()));
}

TEST(CudaLinear, PropagatesANanScaleToItsRowOnly) {
  constexpr Shape kShape{20, 96};
  Nvfp4Data data(kShape, false);
  data.scales[7 * 6 + 5] = 0x7F;
  const DeviceArray<std::uint8_t> scales(data.scales);
  data.device.scales_e4m3 = scales.get();
  const DeviceArray<float> x(random_floats(kShape.cols)), y(poison(kShape.rows));
  ASSERT_EQ(cuda::linear_nvfp4(data.device, {x.get(), y.get(), 1}, nullptr), cudaSuccess);
  const auto out = y.host();
  for (std::size_t r = 0; r < out.size(); ++r) EXPECT_EQ(std::isnan(out[r]), r == 7) << r;
}

TEST(CudaLinear, RefusesWhatItCannotDo) {
  const Nvfp4Data data({8, 64}, false);
  const DeviceArray<float> x(random_floats(9 * 64)), y(poison(9 * 8));
  const auto refused = [&](Nvfp4View w, std::int64_t tokens, std::int64_t shift = 0) {
    return cuda::linear_nvfp4(w, {x.get() + shift, y.get(), tokens}, nullptr) ==
           cudaErrorInvalidValue;
  };
  EXPECT_TRUE(refused(data.device, 0));
  EXPECT_TRUE(refused(data.device, 9));
  EXPECT_TRUE(refused(data.device, 1, 1));  // not aligned
  Nvfp4View narrow = data.device;
  narrow.cols = 40;
  EXPECT_TRUE(refused(narrow, 1));
  Nvfp4View unscaled = data.device;
  unscaled.scales_e4m3 = nullptr;
  EXPECT_TRUE(refused(unscaled, 1));
}

TEST(CudaLinear, Speed) {
  // Qwen3-4B's down_proj, gate_proj and head.
  for (const Shape& shape : {Shape{2560, 9728}, Shape{9728, 2560}, Shape{151936, 2560}}) {
    const Nvfp4Data data(shape, false);
    const Streamed streamed(data.device);
    const DeviceArray<float> absmax(random_floats(shape.rows * shape.cols / 64)), book(poison(16)),
        x(random_floats(8 * shape.cols)), y(poison(8 * shape.rows));
    const double weights = static_cast<double>(shape.rows * shape.cols);
    const double bytes = weights * (0.5 + 1.0 / 16);
    const Nf4View nf4{
        data.device_codes.get(), absmax.get(), book.get(), 64, shape.rows, shape.cols};
    cuda::TokenLinear token{};
    token.x = x.get();
    token.y[0] = y.get();
    token.count = 1;
    std::printf("| %lld x %lld | bytes | median | rate |\n|---|---|---|---|\n",
                static_cast<long long>(shape.rows), static_cast<long long>(shape.cols));
    token.matrix[0] = {data.device, {}};
    report("linear_token, NVFP4", bytes, [&] { (void)cuda::linear_token(token, nullptr); });
    token.matrix[0] = {{}, nf4};
    report("linear_token, NF4", bytes, [&] { (void)cuda::linear_token(token, nullptr); });
    for (const std::int64_t tokens : {1, 2, 4, 8}) {
      const std::string rows = std::to_string(tokens) + " rows";
      const double activations = 4.0 * static_cast<double>(tokens * (shape.rows + shape.cols));
      report(("linear_nvfp4, " + rows).c_str(), weights * (0.5 + 1.0 / 16) + activations, [&] {
        ASSERT_EQ(cuda::linear_nvfp4(data.device, {x.get(), y.get(), tokens}, nullptr),
                  cudaSuccess);
      });
      report(("linear_stream, " + rows).c_str(), weights * (0.5 + 1.0 / 16) + activations, [&] {
        ASSERT_EQ(cuda::linear_stream(streamed.view(), {x.get(), y.get(), tokens}, nullptr),
                  cudaSuccess);
      });
      // Whatever the bytes say: time does not depend on them.
      const cuda::StreamNf4View nf4_stream{streamed.view().chunks, book.get(), shape.rows,
                                           shape.cols};
      report(("linear_stream, NF4, " + rows).c_str(), weights * (0.5 + 4.0 / 64) + activations,
             [&] {
               ASSERT_EQ(cuda::linear_stream(nf4_stream, {x.get(), y.get(), tokens}, nullptr),
                         cudaSuccess);
             });
      report(("linear_nf4, " + rows).c_str(), weights * (0.5 + 4.0 / 64) + activations, [&] {
        ASSERT_EQ(cuda::linear_nf4(nf4, {x.get(), y.get(), tokens}, nullptr), cudaSuccess);
      });
    }
  }
}

}  // namespace
}  // namespace qf
