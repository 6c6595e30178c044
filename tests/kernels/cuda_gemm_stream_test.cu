// Products of many tokens with streamed weights against sums in double, on fresh random data. Needs
// a Hopper GPU (label gpu).
#include <cmath>
#include <memory>
#include <string>

#include "cuda_support.h"
#include "qwen3fp4/kernels/cpu/dequantize.h"
#include "qwen3fp4/kernels/cuda/gemm_stream.h"

namespace qf {
namespace {

bool hopper() {
  cudaDeviceProp properties{};
  return cudaGetDeviceProperties(&properties, 0) == cudaSuccess && properties.major == 9;
}
#define QF_NEEDS_HOPPER() \
  if (!hopper()) GTEST_SKIP() << "needs compute capability 9.0"

// A weight in the stream layout, and its values.
class StreamWeight {
 public:
  StreamWeight(const Shape& shape, float global_scale)
      : codes_(random_bytes(shape.rows * shape.cols / 2)),
        scales_(random_bytes(shape.rows * shape.cols / 16, true)),
        chunks_(std::vector<std::uint8_t>(
            static_cast<std::size_t>(cuda::stream_bytes(shape.rows, shape.cols)))),
        view_{chunks_.get(), global_scale, shape.rows, shape.cols} {
    const DeviceArray<std::uint8_t> codes(codes_), scales(scales_);
    EXPECT_EQ(cuda::pack_stream(
                  {codes.get(), scales.get(), nullptr, global_scale, shape.rows, shape.cols},
                  chunks_.get(), nullptr),
              cudaSuccess);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  const cuda::StreamView& view() const { return view_; }
  std::vector<float> values() const {
    auto out = poison(view_.rows * view_.cols);
    dequantize_nvfp4(
        {codes_.data(), scales_.data(), nullptr, view_.global_scale, view_.rows, view_.cols},
        {0, view_.rows}, out.data());
    return out;
  }

 private:
  std::vector<std::uint8_t> codes_, scales_;
  DeviceArray<std::uint8_t> chunks_;
  cuda::StreamView view_;
};

class Workspace {
 public:
  explicit Workspace(const cuda::GemmPlan& plan)
      : partial_(poison(plan.partial_floats() + 4)),
        arrived_(
            std::vector<std::uint32_t>(static_cast<std::size_t>(plan.tiles - plan.whole + 1))) {}
  cuda::GemmWorkspace view() const { return {partial_.get(), arrived_.get()}; }

 private:
  DeviceArray<float> partial_;
  DeviceArray<std::uint32_t> arrived_;
};

// Weights that share x.
struct Group {
  explicit Group(const std::vector<Shape>& group_shapes) : shapes(group_shapes) {
    // Sums that fp16 holds.
    for (const Shape& shape : shapes) {
      weights.push_back(std::make_unique<StreamWeight>(shape, 0x1p-11F));
      views.push_back(weights.back()->view());
    }
  }
  cuda::GemmWeights view() const { return {views.data(), static_cast<int>(views.size())}; }
  std::vector<Shape> shapes;
  std::vector<std::unique_ptr<StreamWeight>> weights;
  std::vector<cuda::StreamView> views;
};

std::vector<cuda::GemmPlan> all_plans(const Group& group, std::int64_t tokens) {
  std::vector<cuda::GemmPlan> plans{cuda::plan_gemm_stream(group.view(), tokens, 132)};
  for (const auto& [rows, wide] :
       {std::pair<int, int>{128, 64}, {128, 128}, {128, 256}, {256, 128}}) {
    std::int64_t tiles = 0;
    for (const Shape& shape : group.shapes) tiles += (shape.rows + rows - 1) / rows;
    tiles *= (tokens + wide - 1) / wide;
    plans.push_back({rows, wide, tiles, tiles, 1});
    for (const int splits : {1, 2, 3, 8}) {
      if (splits > cuda::stream_col_chunks(group.shapes[0].cols)) break;
      plans.push_back({rows, wide, tiles, tiles / 2, splits});
      plans.push_back({rows, wide, tiles, 0, splits});
    }
  }
  return plans;
}
std::string text(const cuda::GemmPlan& plan) {
  return std::to_string(plan.rows) + " x " + std::to_string(plan.tokens) + ", " +
         std::to_string(plan.whole) + " of " + std::to_string(plan.tiles) + " whole, others in " +
         std::to_string(plan.splits);
}

struct Sums {
  std::vector<double> value, magnitude;  // [tokens, rows]
};
Sums exact_sums(const std::vector<float>& w, const std::vector<float>& x, const Shape& shape,
                std::int64_t tokens) {
  Sums sums;
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t r = 0; r < shape.rows; ++r) {
      double value = 0;
      double magnitude = 0;
      for (std::int64_t c = 0; c < shape.cols; ++c) {
        const double term = static_cast<double>(w[static_cast<std::size_t>(r * shape.cols + c)]) *
                            x[static_cast<std::size_t>(t * shape.cols + c)];
        value += term;
        magnitude += std::abs(term);
      }
      sums.value.push_back(value);
      sums.magnitude.push_back(magnitude);
    }
  }
  return sums;
}

// `relative`, `absolute`: of rounding to the type of y.
void expect_sums(const Sums& sums, const Shape& shape, const std::vector<float>& y, double relative,
                 double absolute, const std::string& what) {
  ASSERT_EQ(y.size(), sums.value.size());
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double sum_bound = static_cast<double>(shape.cols) * 0x1p-22 * sums.magnitude[i];
    const double bound = sum_bound + relative * (std::abs(sums.value[i]) + sum_bound) + absolute;
    ASSERT_LE(std::abs(y[i] - sums.value[i]), bound)
        << what << ": row " << i % static_cast<std::size_t>(shape.rows) << ", token "
        << i / static_cast<std::size_t>(shape.rows);
  }
}

const std::vector<Shape> kGroups[] = {{{1, 16}},
                                      {{70, 48}},
                                      {{200, 1008}, {130, 1008}},
                                      {{257, 2560}, {64, 2560}, {1, 2560}},
                                      {{384, 272}}};
constexpr std::int64_t kGemmTokens[] = {1, 9, 64, 130, 300};

// One plan's products, in both types of results, twice.
template <class Type>
void expect_products(const Group& group, const std::vector<Sums>& sums,
                     const DeviceArray<Bits16>& x, std::int64_t tokens, const cuda::GemmPlan& plan,
                     double relative, double smallest) {
  using Value = typename Type::Value;
  const auto* const in = device_values<Type>(x);
  const Workspace workspace(plan);
  std::vector<std::unique_ptr<DeviceArray<float>>> y;
  std::vector<std::unique_ptr<DeviceArray<Bits16>>> narrow, again;
  cuda::GemmOperands<Value, float> to_float{in, tokens, {}};
  cuda::GemmOperands<Value, Value> to_narrow{in, tokens, {}}, to_again{in, tokens, {}};
  for (std::size_t i = 0; i < group.shapes.size(); ++i) {
    const std::int64_t count = tokens * group.shapes[i].rows;
    y.push_back(std::make_unique<DeviceArray<float>>(poison(count)));
    narrow.push_back(std::make_unique<DeviceArray<Bits16>>(poison_bits(count)));
    again.push_back(std::make_unique<DeviceArray<Bits16>>(poison_bits(count)));
    to_float.y[i] = y[i]->get();
    to_narrow.y[i] = device_values<Type>(*narrow[i]);
    to_again.y[i] = device_values<Type>(*again[i]);
  }
  const auto run = [&](const auto& operands) {
    ASSERT_EQ(cuda::gemm_stream(group.view(), operands, plan, workspace.view(), nullptr),
              cudaSuccess);
  };
  run(to_float);
  run(to_narrow);
  run(to_again);
  const std::string what =
      std::string(Type::kName) + ", " + std::to_string(tokens) + ", " + text(plan);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess) << what;
  for (std::size_t i = 0; i < group.shapes.size(); ++i) {
    const Shape& shape = group.shapes[i];
    expect_sums(sums[i], shape, y[i]->host(), 0x1p-24, 0, what + ", f32");
    const auto bits = narrow[i]->host();
    expect_sums(sums[i], shape, widened<Type>(bits), relative, smallest, what);
    ASSERT_EQ(bits, again[i]->host()) << what;
  }
}

// `relative`, `smallest`: of rounding to the type.
template <class Type>
void expect_products(double relative, double smallest) {
  for (const auto& shapes : kGroups) {
    const Group group(shapes);
    for (const std::int64_t tokens : kGemmTokens) {
      const auto x = narrowed<Type>(random_floats(tokens * shapes[0].cols));
      std::vector<Sums> sums;
      for (std::size_t i = 0; i < shapes.size(); ++i) {
        sums.push_back(exact_sums(group.weights[i]->values(), widened<Type>(x), shapes[i], tokens));
      }
      const DeviceArray<Bits16> device_x(x);
      for (const cuda::GemmPlan& plan : all_plans(group, tokens)) {
        expect_products<Type>(group, sums, device_x, tokens, plan, relative, smallest);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(CudaGemmStream, OfFp16IsTheSum) {
  QF_NEEDS_HOPPER();
  expect_products<HalfType>(0x1p-11, 0x1p-25);
}

TEST(CudaGemmStream, OfBf16IsTheSum) {
  QF_NEEDS_HOPPER();
  expect_products<Bf16Type>(0x1p-8, 0);
}

TEST(CudaGemmStream, RefusesWhatItCannotDo) {
  QF_NEEDS_HOPPER();
  const Group group({{128, 256}});
  const DeviceArray<Bits16> x(poison_bits(64 * 256 + 8)), y(poison_bits(64 * 128));
  auto* const in = device_values<HalfType>(x);
  const cuda::GemmPlan plan{128, 64, 1, 1, 1};
  const Workspace workspace(plan);
  const auto status = [&](const cuda::GemmWeights& weights, const __half* from, std::int64_t tokens,
                          const cuda::GemmPlan& how, const cuda::GemmWorkspace& space) {
    const cuda::GemmOperands<__half, __half> operands{from, tokens, {device_values<HalfType>(y)}};
    return cuda::gemm_stream(weights, operands, how, space, nullptr);
  };
  const auto with_plan = [&](const cuda::GemmPlan& how) {
    return status(group.view(), in, 64, how, workspace.view());
  };
  EXPECT_EQ(with_plan(plan), cudaSuccess);
  EXPECT_EQ(status(group.view(), in, 0, plan, workspace.view()), cudaErrorInvalidValue);
  EXPECT_EQ(status(group.view(), in + 1, 64, plan, workspace.view()), cudaErrorInvalidValue);
  EXPECT_EQ(with_plan({128, 64, 2, 2, 1}), cudaErrorInvalidValue);
  EXPECT_EQ(with_plan({128, 64, 1, 0, 2}), cudaErrorInvalidValue);
  EXPECT_EQ(with_plan({64, 64, 2, 2, 1}), cudaErrorInvalidValue);
  EXPECT_EQ(status(group.view(), in, 64, {128, 64, 1, 0, 1}, {nullptr, nullptr}),
            cudaErrorInvalidValue);
  EXPECT_EQ(status({group.views.data(), 0}, in, 64, plan, workspace.view()), cudaErrorInvalidValue);
  auto odd = group.views;
  odd[0].cols = 40;
  EXPECT_EQ(status({odd.data(), 1}, in, 64, plan, workspace.view()), cudaErrorInvalidValue);
  odd = {group.views[0], group.views[0]};
  odd[1].cols = 512;
  EXPECT_EQ(status({odd.data(), 2}, in, 64, plan, workspace.view()), cudaErrorInvalidValue);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

void report_products(bool all) {
  // Of Qwen3-4B: q with k and v, o, gate with up, down.
  const std::vector<Shape> groups[] = {{{4096, 2560}, {1024, 2560}, {1024, 2560}},
                                       {{2560, 4096}},
                                       {{9728, 2560}, {9728, 2560}},
                                       {{2560, 9728}}};
  std::printf("| gemm_stream, fp16 | tiles | median | TFLOP/s |\n|---|---|---|---|\n");
  for (const auto& shapes : groups) {
    const Group group(shapes);
    std::int64_t rows = 0;
    for (const Shape& shape : shapes) rows += shape.rows;
    for (const std::int64_t tokens : {16, 64, 512, 2048}) {
      const DeviceArray<Bits16> x(narrowed<HalfType>(random_floats(tokens * shapes[0].cols)));
      const DeviceArray<Bits16> y(poison_bits(tokens * rows));
      cuda::GemmOperands<__half, __half> operands{device_values<HalfType>(x), tokens, {}};
      __half* next = device_values<HalfType>(y);
      for (std::size_t i = 0; i < shapes.size(); ++i) {
        operands.y[i] = next;
        next += tokens * shapes[i].rows;
      }
      auto plans = all_plans(group, tokens);
      if (!all) plans.resize(1);
      for (const cuda::GemmPlan& plan : plans) {
        const Workspace workspace(plan);
        const double seconds = median_seconds([&] {
          ASSERT_EQ(cuda::gemm_stream(group.view(), operands, plan, workspace.view(), nullptr),
                    cudaSuccess);
        });
        std::printf("| %lld x %lld x %lld | %s | %.1f us | %.0f |\n", static_cast<long long>(rows),
                    static_cast<long long>(shapes[0].cols), static_cast<long long>(tokens),
                    text(plan).c_str(), seconds * 1e6,
                    2e-12 * static_cast<double>(rows * shapes[0].cols * tokens) / seconds);
      }
    }
  }
}

TEST(CudaGemmStream, Speed) {
  QF_NEEDS_HOPPER();
  report_products(false);
}

// What plan_gemm_stream() chooses from.
TEST(CudaGemmStream, DISABLED_SpeedOfAllPlans) {
  QF_NEEDS_HOPPER();
  report_products(true);
}

}  // namespace
}  // namespace qf
