// The read that measures bandwidth. Needs a GPU (label gpu).
#include "cuda_support.h"
#include "qwen3fp4/kernels/cuda/bandwidth.h"

namespace qf {
namespace {

TEST(CudaBandwidth, ReadsEveryWordOnce) {
  for (const std::int64_t count : {1, 3, 1000, 4000037}) {
    std::vector<std::uint32_t> words(static_cast<std::size_t>(4 * count));
    std::uint32_t expected = 0;
    for (auto& word : words) expected ^= word = random_source()();
    const DeviceArray<std::uint32_t> device(words), result(std::vector<std::uint32_t>(1, 5));
    ASSERT_EQ(cuda::read_all(device.get(), count, result.get(), nullptr), cudaSuccess);
    EXPECT_EQ(result.host().front(), expected) << count;
  }
  EXPECT_EQ(cuda::read_all(nullptr, 0, nullptr, nullptr), cudaErrorInvalidValue);
}

}  // namespace
}  // namespace qf
