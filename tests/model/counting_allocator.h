#pragma once

#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <cstddef>
#include <memory>

namespace qf::test {

// Hands out libtorch's own memory while it lives, and keeps the sum of what is alive. Must outlive
// every tensor that was made meanwhile.
class CountingAllocator final : public c10::Allocator {
 public:
  CountingAllocator() : inner_(c10::GetCPUAllocator()) { c10::SetCPUAllocator(this); }
  CountingAllocator(const CountingAllocator&) = delete;
  CountingAllocator& operator=(const CountingAllocator&) = delete;
  ~CountingAllocator() override { c10::SetCPUAllocator(inner_); }
  c10::DataPtr allocate(std::size_t bytes) override {
    live_ += bytes;
    peak_ = std::max(peak_, live_);
    auto* const block = new Block{inner_->allocate(bytes), bytes, this};
    return {block->memory.get(), block, &release, block->memory.device()};
  }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
  [[nodiscard]] std::size_t live() const { return live_; }
  [[nodiscard]] std::size_t peak() const { return peak_; }

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

}  // namespace qf::test
