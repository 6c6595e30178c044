#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "qwen3fp4/backend/emulated.h"
#include "qwen3fp4/backend/reference.h"

namespace qf {
namespace {

// Of a device of its own.
class OtherDevice final : public Backend {
 public:
  [[nodiscard]] std::string_view name() const override { return "other"; }
  [[nodiscard]] std::string description() const override { return "other: for tests"; }
  [[nodiscard]] at::Tensor linear(const at::Tensor& x_TI, const WeightMatrix&) const override {
    return x_TI;
  }
  [[nodiscard]] double measure_read_bandwidth() const override { return 123; }
  [[nodiscard]] std::int64_t memory_peak() const override { return 456; }
};

TEST(HostMemory, BandwidthIsASpeed) {
  const double bandwidth = ReferenceBackend().measure_read_bandwidth();
  EXPECT_TRUE(std::isfinite(bandwidth));
  // A bound that any machine keeps: between a floppy disk and a thousand memory channels.
  EXPECT_GT(bandwidth, 1e5);
  EXPECT_LT(bandwidth, 1e14);
}

TEST(HostMemory, PeakRisesWithWhatIsTouchedAndStays) {
  const ReferenceBackend backend;
  const std::int64_t before = backend.memory_peak();
  const std::int64_t bytes = before + (std::int64_t{32} << 20);  // more than was ever held
  {
    const auto touched = at::ones({bytes}, at::kByte);
    EXPECT_GE(backend.memory_peak(), bytes);
  }
  EXPECT_GE(backend.memory_peak(), bytes);
}

TEST(HostMemory, AnEmulatedBackendAsksItsDevice) {
  const EmulatedBackend emulated(std::make_unique<OtherDevice>(), ComputeDtype::kBF16,
                                 LinearMode::kW4A16);
  EXPECT_EQ(emulated.measure_read_bandwidth(), 123);
  EXPECT_EQ(emulated.memory_peak(), 456);
}

}  // namespace
}  // namespace qf
