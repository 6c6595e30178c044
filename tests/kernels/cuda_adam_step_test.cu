// The packed optimiser on the device against the CPU's bits, on fresh random data. Needs a GPU
// (label gpu).
#include <memory>

#include "adam_case.h"
#include "cuda_support.h"
#include "qwen3fp4/kernels/cuda/adam_step.h"

namespace qf {
namespace {

// A case's arrays on the device.
class DeviceCase {
 public:
  explicit DeviceCase(const AdamCase& c)
      : host_(c),
        codes_(c.codes),
        scales_(c.scales),
        residual_(c.residual),
        residual_high_(c.residual_high),
        m_codes_(c.m_codes),
        v_codes_(c.v_codes),
        position_(c.position),
        m_(c.m),
        m_scales_(c.m_scales),
        v_(c.v),
        v_scales_(c.v_scales),
        v_rows_(c.v_rows),
        v_columns_(c.v_columns),
        total_(c.column_total),
        open_(c.column_open),
        means_(c.column_means),
        gradient_(c.gradient),
        halves_(bf16_bits(c.gradient)) {}

  AdamWeight view() const {
    AdamWeight w{codes_.get(), scales_.get(), kAdamTestScale, host_.rows, host_.cols};
    w.position = position_.get();
    w.residual = residual_.get();
    w.residual_high = residual_high_.get();
    w.m = m_.get();
    w.m_codes = m_codes_.get();
    w.m_scales = m_scales_.get();
    w.v = v_.get();
    w.v_codes = v_codes_.get();
    w.v_scales = v_scales_.get();
    w.v_rows = v_rows_.get();
    w.v_columns = v_columns_.get();
    return w;
  }
  ColumnSquares squares() const { return {total_.get(), open_.get(), host_.rows, host_.cols}; }
  cuda::ColumnMeans means() const { return {means_.get(), v_columns_.get()}; }
  GradientRows<float> rows(std::int64_t first, std::int64_t count) const {
    return {gradient_.get() + first * host_.cols, {first, count}};
  }
  GradientRows<std::uint16_t> half_rows(std::int64_t first, std::int64_t count) const {
    return {halves_.get() + first * host_.cols, {first, count}};
  }
  AdamCase result() const {
    AdamCase c = host_;
    c.codes = codes_.host();
    c.residual = residual_.host();
    c.residual_high = residual_high_.host();
    c.m_codes = m_codes_.host();
    c.v_codes = v_codes_.host();
    c.position = position_.host();
    c.m = m_.host();
    c.m_scales = m_scales_.host();
    c.v = v_.host();
    c.v_scales = v_scales_.host();
    c.v_rows = v_rows_.host();
    c.v_columns = v_columns_.host();
    c.column_total = total_.host();
    c.column_open = open_.host();
    c.column_means = means_.host();
    return c;
  }

 private:
  AdamCase host_;
  DeviceArray<std::uint8_t> codes_, scales_, residual_, residual_high_, m_codes_, v_codes_;
  DeviceArray<float> position_, m_, m_scales_, v_, v_scales_, v_rows_, v_columns_;
  DeviceArray<float> total_, open_, means_, gradient_;
  DeviceArray<std::uint16_t> halves_;
};

// Positive numbers, by their bits: consecutive ones are consecutive integers.
__global__ void count_misrounded(std::uint32_t first, std::uint32_t last, bool roots,
                                 unsigned long long* count) {
  const std::uint32_t stride = gridDim.x * blockDim.x;
  for (std::uint32_t bits = first + blockIdx.x * blockDim.x + threadIdx.x; bits <= last;
       bits += stride) {
    const float x = float_from_bits(bits);
    const bool same = roots ? square_root(x) == __fsqrt_rn(x) : reciprocal(x) == __frcp_rn(x);
    if (!same) atomicAdd(count, 1ULL);
  }
}

TEST(CudaAdamStep, RoundsRootsAndReciprocalsOfItsRangeOnce) {
  const auto misrounded = [](float first, float last, bool roots) {
    const DeviceArray<unsigned long long> count(std::vector<unsigned long long>(1));
    count_misrounded<<<1024, 256>>>(float_bits(first), float_bits(last), roots, count.get());
    return count.host()[0];
  };
  EXPECT_EQ(misrounded(0x1p-100F, 0x1p127F, true), 0);
  EXPECT_EQ(misrounded(0x1p-125F, 0x1p125F, false), 0);
  // Beyond the range they may differ, and do: the test can tell.
  EXPECT_NE(misrounded(0x1p-149F, 0x1p-126F, true), 0);
  EXPECT_NE(misrounded(0x1p126F, 0x1.8p127F, false), 0);
}

constexpr std::int64_t kRows = 150;  // two tiles of columns' sums and a part of one

TEST(CudaAdamStep, IsTheCpusBits) {
  for (const AdamProfile profile : kAdamProfiles) {
    for (const std::int64_t cols : kAdamWidths) {
      AdamCase c = random_adam_case(random_source(), profile, kRows, cols);
      // Sizes at which roundings, clamps and the outermost edges all happen.
      for (std::size_t i = 0; i < c.gradient.size(); i += 97) c.gradient[i] *= 1024;
      const DeviceCase whole(c), halves(c);
      const std::int64_t groups = moment_groups(cols);
      std::vector<float> squares(static_cast<std::size_t>(kRows * groups));
      for (std::uint32_t step = 1; step <= 3; ++step) {
        const AdamRule rule = adam_test_rule(step);
        adam_step(profile, rule, c.view(), c.rows_of_gradient(0, kRows), squares.data());
        const DeviceArray<float> told(poison(kRows * groups)), told_of_cuts(poison(kRows * groups));
        ASSERT_EQ(
            cuda::adam_step(profile, rule, whole.view(), whole.rows(0, kRows), told.get(), nullptr),
            cudaSuccess);
        for (const auto& [first, count] : {std::pair<int, int>{0, 1}, {1, 70}, {71, 79}}) {
          ASSERT_EQ(cuda::adam_step(profile, rule, halves.view(), halves.half_rows(first, count),
                                    told_of_cuts.get() + first * groups, nullptr),
                    cudaSuccess);
        }
        EXPECT_EQ(told.host(), squares);
        EXPECT_EQ(told_of_cuts.host(), squares);
      }
      EXPECT_TRUE(same_states(whole.result(), c)) << static_cast<int>(profile) << ", " << cols;
      EXPECT_TRUE(same_states(halves.result(), c)) << static_cast<int>(profile) << ", " << cols;
    }
  }
}

TEST(CudaAdamStep, SumsColumnsAsTheCpuDoes) {
  for (const std::int64_t cols : kAdamWidths) {
    AdamCase c = random_adam_case(random_source(), AdamProfile::kMin, 5000, cols);
    // So that the last bits of the sums are not lost in larger numbers.
    for (float& mean : c.column_means) mean *= 0x1p-20F;
    const DeviceCase whole(c), cut(c);
    for (std::uint32_t step = 1; step <= 2; ++step) {
      const AdamRule rule = adam_test_rule(step);
      add_column_squares(rule, c.squares(), c.rows_of_gradient(0, 5000), {0, cols});
      finish_column_squares(rule, c.squares(), c.column_means.data(), c.v_columns.data());
      ASSERT_EQ(cuda::add_column_squares(rule, whole.squares(), whole.rows(0, 5000), nullptr),
                cudaSuccess);
      for (const auto& [first, count] :
           {std::pair<int, int>{0, 1}, {1, 63}, {64, 2200}, {2264, 30}, {2294, 2706}}) {
        ASSERT_EQ(
            cuda::add_column_squares(rule, cut.squares(), cut.half_rows(first, count), nullptr),
            cudaSuccess);
      }
      for (const DeviceCase* device : {&whole, &cut}) {
        ASSERT_EQ(cuda::finish_column_squares(rule, device->squares(), device->means(), nullptr),
                  cudaSuccess);
      }
    }
    EXPECT_TRUE(same_states(whole.result(), c)) << cols;
    EXPECT_TRUE(same_states(cut.result(), c)) << cols;
  }
}

TEST(CudaAdamStep, OfDenseWeightsIsTheCpusBits) {
  AdamCase c = random_adam_case(random_source(), AdamProfile::kFp32, 7, 144);
  const std::int64_t count = 7 * 144 - 5;
  const DeviceCase device(c);
  const AdamRule rule = adam_test_rule(2);
  adam_dense_step(rule, {c.position.data(), c.m.data(), c.v.data(), count}, c.gradient.data());
  const AdamWeight w = device.view();
  ASSERT_EQ(
      cuda::adam_dense_step(rule, {w.position, w.m, w.v, count}, device.rows(0, 7).values, nullptr),
      cudaSuccess);
  EXPECT_TRUE(same_states(device.result(), c));
}

TEST(CudaAdamStep, SumsSquares) {
  for (const std::int64_t count : {1, 7, 4096, 1000003, 5000000}) {
    const auto values = random_floats(count);
    const auto bits = bf16_bits(values);
    const DeviceArray<float> device(values);
    const DeviceArray<std::uint16_t> halves(bits);
    const auto expect = [&](const auto* pointer, const auto& value_at, const char* type) {
      const DeviceArray<float> parts(poison(cuda::kSumParts)), again(poison(cuda::kSumParts));
      ASSERT_EQ(cuda::sum_of_squares(pointer, count, parts.get(), nullptr), cudaSuccess);
      ASSERT_EQ(cuda::sum_of_squares(pointer, count, again.get(), nullptr), cudaSuccess);
      double expected = 0, got = 0;
      for (std::size_t i = 0; i < values.size(); ++i) expected += value_at(i) * value_at(i);
      for (const float part : parts.host()) got += part;
      // A value passes through at most 40 additions of f32 numbers on its way to a part.
      EXPECT_NEAR(got, expected, expected * 40 * 0x1p-24) << type << ", " << count;
      EXPECT_EQ(parts.host(), again.host());
    };
    expect(
        device.get(), [&](std::size_t i) { return double{values[i]}; }, "f32");
    expect(
        halves.get(), [&](std::size_t i) { return double{float_of_bf16(bits[i])}; }, "bf16");
  }
  EXPECT_EQ(cuda::sum_of_squares(static_cast<float*>(nullptr), 4, nullptr, nullptr),
            cudaErrorInvalidValue);
}

TEST(CudaAdamStep, SumsValues) {
  for (const std::int64_t count : {1, 7, 4096, 194560, 5000000}) {
    const auto values = random_floats(count);
    const DeviceArray<float> device(values);
    const DeviceArray<float> parts(poison(cuda::kSumParts)), again(poison(cuda::kSumParts));
    ASSERT_EQ(cuda::sum(device.get(), count, parts.get(), nullptr), cudaSuccess);
    ASSERT_EQ(cuda::sum(device.get(), count, again.get(), nullptr), cudaSuccess);
    double expected = 0, magnitudes = 0, got = 0;
    for (const float value : values) {
      expected += value;
      magnitudes += std::abs(value);
    }
    for (const float part : parts.host()) got += part;
    EXPECT_NEAR(got, expected, magnitudes * 40 * 0x1p-24) << count;
    EXPECT_EQ(parts.host(), again.host());
  }
  EXPECT_EQ(cuda::sum(nullptr, 4, nullptr, nullptr), cudaErrorInvalidValue);
}

TEST(CudaAdamStep, RefusesWhatItCannotDo) {
  const DeviceCase device(random_adam_case(random_source(), AdamProfile::kDefault, 4, 48));
  const AdamRule rule = adam_test_rule(1);
  const auto status = [&](AdamWeight w, const GradientRows<float>& rows) {
    return cuda::adam_step(AdamProfile::kDefault, rule, w, rows, nullptr, nullptr);
  };
  EXPECT_EQ(status(device.view(), device.rows(0, 4)), cudaSuccess);
  EXPECT_EQ(status(device.view(), device.rows(1, 4)), cudaErrorInvalidValue);
  EXPECT_EQ(status(device.view(), device.rows(0, 0)), cudaErrorInvalidValue);
  EXPECT_EQ(status(device.view(), {nullptr, {0, 4}}), cudaErrorInvalidValue);
  AdamWeight odd = device.view();
  odd.cols = 40;
  EXPECT_EQ(status(odd, device.rows(0, 4)), cudaErrorInvalidValue);
  AdamWeight without = device.view();
  without.v_codes = nullptr;
  EXPECT_EQ(status(without, device.rows(0, 4)), cudaErrorInvalidValue);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
}

TEST(CudaAdamStep, Speed) {
  constexpr std::int64_t kSpeedRows = 9728, kSpeedCols = 2560;  // gate_proj of Qwen3-4B
  const double count = static_cast<double>(kSpeedRows * kSpeedCols);
  std::printf(
      "| adam_step (%lld x %lld, bf16 gradient) | bytes | median | rate |\n|---|---|---|---|\n",
      static_cast<long long>(kSpeedRows), static_cast<long long>(kSpeedCols));
  const std::pair<const char*, AdamProfile> profiles[] = {{"fp32", AdamProfile::kFp32},
                                                          {"exact", AdamProfile::kExact},
                                                          {"default", AdamProfile::kDefault},
                                                          {"min", AdamProfile::kMin}};
  // Codes, master, m and v, read and written; scales of blocks and the gradient, read.
  const double states[] = {0.5 + 12, 0.5 + 1.5 + 2 + 2.0 / 32, 0.5 + 1 + 1 + 2.0 / 32,
                           0.5 + 0.5 + 1.0 / 32};
  for (const auto& named : profiles) {
    const AdamProfile profile = named.second;
    const DeviceCase device(random_adam_case(random_source(), profile, kSpeedRows, kSpeedCols));
    const DeviceArray<float> squares(poison(kSpeedRows * moment_groups(kSpeedCols)));
    AdamRule rule = adam_test_rule(3);
    const double bytes =
        count * (2 * states[static_cast<int>(profile)] + 1.0 / 16 + 2 + 4.0 / kMomentGroup);
    report(named.first, bytes, [&] {
      ++rule.step;
      ASSERT_EQ(cuda::adam_step(profile, rule, device.view(), device.half_rows(0, kSpeedRows),
                                squares.get(), nullptr),
                cudaSuccess);
    });
    if (profile != AdamProfile::kMin) continue;
    report("min: column sums", count * 2, [&] {
      ASSERT_EQ(cuda::add_column_squares(rule, device.squares(), device.half_rows(0, kSpeedRows),
                                         nullptr),
                cudaSuccess);
    });
  }
}

}  // namespace
}  // namespace qf
