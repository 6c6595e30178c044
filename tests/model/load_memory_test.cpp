// "Peak memory: the file's tensors plus one", counted where libtorch allocates.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "counting_allocator.h"
#include "golden.h"
#include "qwen3fp4/formats/dat.h"
#include "qwen3fp4/model/qwen3_model.h"

namespace qf {
namespace {

TEST(LoadMemory, PeaksAtTheFilePlusOneTensor) {
  const auto path = kGoldenModels / "qwen3_untied_mha/model.dat";
  const auto config = read_golden("qwen3_untied_mha").config;
  const DatReader file(path);
  std::int64_t largest = 0;
  for (const TensorInfo& entry : file.entries()) largest = std::max(largest, entry.bytes);
  const auto backend = make_backend("cpu");

  const test::CountingAllocator counting;
  {
    const auto model = Qwen3Model::load(config, file, *backend);
    EXPECT_GE(counting.live(), static_cast<std::size_t>(model.weight_bytes()));
    EXPECT_LE(counting.peak(),
              static_cast<std::size_t>(largest) + std::filesystem::file_size(path));
  }
  EXPECT_EQ(counting.live(), 0U);
}

}  // namespace
}  // namespace qf
