// "Peak memory: the file's tensors plus one", counted where libtorch allocates.
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "golden.h"
#include "qwen3fp4/formats/dat.h"
#include "qwen3fp4/model/qwen3_model.h"

namespace qf {
namespace {

// Hands out libtorch's own memory and keeps the sum of what is alive.
class CountingAllocator final : public c10::Allocator {
 public:
  explicit CountingAllocator(c10::Allocator* inner) : inner_(inner) {}
  c10::DataPtr allocate(std::size_t bytes) override {
    live_ += bytes;
    peak_ = std::max(peak_, live_);
    auto* const block = new Block{inner_->allocate(bytes), bytes, this};
    return {block->memory.get(), block, &release, block->memory.device()};
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
  std::size_t live() const { return live_; }
  std::size_t peak() const { return peak_; }

 private:
  struct Block {
    c10::DataPtr memory;
    std::size_t bytes;
    CountingAllocator* owner;
  };
  static void release(void* context) {
    const std::unique_ptr<Block> block(static_cast<Block*>(context));
    block->owner->live_ -= block->bytes;
  }
  c10::Allocator* inner_;
  std::size_t live_ = 0;
  std::size_t peak_ = 0;
};

TEST(LoadMemory, PeaksAtTheFilePlusOneTensor) {
  const auto path = kGoldenModels / "qwen3_untied_mha/model.dat";
  const auto config = read_golden("qwen3_untied_mha").config;
  const DatReader file(path);
  std::int64_t largest = 0;
  for (const TensorInfo& entry : file.entries()) largest = std::max(largest, entry.bytes);
  const auto backend = make_backend("cpu");

  c10::Allocator* const before = c10::GetCPUAllocator();
  CountingAllocator counting(before);
  c10::SetCPUAllocator(&counting);
  {
    const auto model = Qwen3Model::load(config, file, *backend);
    EXPECT_GE(counting.live(), static_cast<std::size_t>(model.weight_bytes()));
    EXPECT_LE(counting.peak(),
              static_cast<std::size_t>(largest) + std::filesystem::file_size(path));
  }
  c10::SetCPUAllocator(before);
  EXPECT_EQ(counting.live(), 0U);
}

}  // namespace
}  // namespace qf
