#include "qwen3fp4/memory/host_cap.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>

#include "qwen3fp4/base/interrupt.h"

namespace qf {
namespace {

// Constant-initialised: operator new runs before any constructor.
constinit std::atomic<std::int64_t> allocated{0};
constinit std::atomic<std::int64_t> peak{0};
constinit std::atomic<std::int64_t> cap{kNoCap};
constinit std::atomic<AllocationHook> allocation_hook{nullptr};
constinit std::atomic<CapRefresher> refresher{nullptr};

void note_peak(std::int64_t now) {
  std::int64_t known = peak.load(std::memory_order_relaxed);
  while (now > known && !peak.compare_exchange_weak(known, now, std::memory_order_relaxed)) {
  }
}

void ask_hook(std::int64_t bytes) {
  const AllocationHook hook = allocation_hook.load(std::memory_order_relaxed);
  if (hook != nullptr && hook()) [[unlikely]]
    throw CapExceeded(bytes);
}

// The cap was set some time ago. What the refresher allocates itself must not come here again.
[[gnu::noinline]] bool fits_after_refresh(std::int64_t bytes) {
  thread_local bool refreshing = false;
  const CapRefresher refresh = refresher.load();
  if (refreshing) return true;
  if (refresh == nullptr) return false;
  refreshing = true;
  give_back_free_pages();
  refresh();
  refreshing = false;
  return bytes <= cap.load(std::memory_order_relaxed);
}

// Counted before they are taken, so that threads that ask at the same time cannot pass together.
void reserve(std::int64_t bytes) {
  ask_hook(bytes);
  const std::int64_t now = allocated.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  const std::int64_t slack = bytes < kSmallBlock ? kSmallBlockSlack : 0;
  if (now - slack > cap.load(std::memory_order_relaxed) && !fits_after_refresh(now - slack))
      [[unlikely]] {
    allocated.fetch_sub(bytes, std::memory_order_relaxed);
    (void)interrupted();  // a run that is asked to stop meets that here
    throw CapExceeded(bytes);
  }
  note_peak(now);
}
// A block counts with what it takes, which is a little more than was asked for.
void settle(void* block, std::int64_t reserved) {
  allocated.fetch_add(static_cast<std::int64_t>(malloc_usable_size(block)) - reserved,
                      std::memory_order_relaxed);
}
void forget(void* block) {
  allocated.fetch_sub(static_cast<std::int64_t>(malloc_usable_size(block)),
                      std::memory_order_relaxed);
}
void give_back(std::int64_t reserved) { allocated.fetch_sub(reserved, std::memory_order_relaxed); }

template <class Take>
void* counted(std::size_t size, const Take& take) {
  if (size > static_cast<std::size_t>(kNoCap)) throw std::bad_alloc();
  const auto bytes = static_cast<std::int64_t>(size);
  reserve(bytes);
  void* const block = take();
  if (block == nullptr) {
    give_back(bytes);
    throw std::bad_alloc();
  }
  settle(block, bytes);
  return block;
}

void* take(std::size_t size) {
  return counted(size, [size] { return std::malloc(size == 0 ? 1 : size); });
}
void* take(std::size_t size, std::align_val_t alignment) {
  const auto align = static_cast<std::size_t>(alignment);
  const std::size_t whole = std::max((size + align - 1) / align * align, align);
  return counted(size, [&] { return std::aligned_alloc(align, whole); });
}
template <class... Args>
void* try_take(Args... args) noexcept {
  try {
    return take(args...);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void put_back(void* block) noexcept {
  if (block == nullptr) return;
  forget(block);
  std::free(block);
}

class CappedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t size) override {
    if (size == 0) return {nullptr, nullptr, &release, c10::Device(c10::DeviceType::CPU)};
    const auto bytes = static_cast<std::int64_t>(size);
    reserve(bytes);
    void* block = nullptr;
    try {
      block = c10::alloc_cpu(size);
    } catch (...) {
      give_back(bytes);
      throw;
    }
    settle(block, bytes);
    return {block, block, &release, c10::Device(c10::DeviceType::CPU)};
  }
  [[nodiscard]] c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t count) const final {
    default_copy_data(to, from, count);
  }

 private:
  static void release(void* block) {
    if (block == nullptr) return;
    forget(block);
    c10::free_cpu(block);
  }
};

}  // namespace

CapExceeded::CapExceeded(std::int64_t asked) noexcept : text_{} {
  std::snprintf(text_, sizeof(text_), "asked for %lld bytes with %lld of at most %lld allocated",
                static_cast<long long>(asked), static_cast<long long>(allocated.load()),
                static_cast<long long>(cap.load()));
}

std::int64_t host_allocated() { return allocated.load(std::memory_order_relaxed); }
std::int64_t host_allocated_peak() { return peak.load(std::memory_order_relaxed); }
void forget_host_peak() { peak = host_allocated(); }
void set_host_cap(std::int64_t bytes) { cap.store(bytes, std::memory_order_relaxed); }
void set_cap_refresher(CapRefresher refresh) { refresher.store(refresh); }
std::int64_t host_cap() { return cap.load(std::memory_order_relaxed); }

void install_host_cap() {
  static std::once_flag once;
  std::call_once(once, [] {
    // Fixed, or the C library would raise it to 32 MB with the first large block, and keep the
    // pages of all blocks below in its heaps: convert of the small model then holds 1.7 GB instead
    // of 0.4.
    constexpr int kMappedBytes = 4 << 20;
    mallopt(M_MMAP_THRESHOLD, kMappedBytes);
    static CappedAllocator allocator;
    constexpr std::uint8_t kOverTheDefault = 1;
    c10::SetCPUAllocator(&allocator, kOverTheDefault);
  });
}

void give_back_free_pages() { malloc_trim(0); }
void keep_free_pages() {
  constexpr int kKeptBytes = 64 << 20;
  mallopt(M_TRIM_THRESHOLD, kKeptBytes);
}

void set_allocation_hook(AllocationHook hook) { allocation_hook = hook; }

}  // namespace qf

// All forms: where a sanitizer has its own, the standard library's would mix the two.
void* operator new(std::size_t size) { return qf::take(size); }
void* operator new[](std::size_t size) { return qf::take(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return qf::try_take(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept {
  return qf::try_take(size);
}
void* operator new(std::size_t size, std::align_val_t alignment) {
  return qf::take(size, alignment);
}
void* operator new[](std::size_t size, std::align_val_t alignment) {
  return qf::take(size, alignment);
}
void* operator new(std::size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return qf::try_take(size, alignment);
}
void* operator new[](std::size_t size, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return qf::try_take(size, alignment);
}
void operator delete(void* block) noexcept { qf::put_back(block); }
void operator delete[](void* block) noexcept { qf::put_back(block); }
void operator delete(void* block, std::size_t) noexcept { qf::put_back(block); }
void operator delete[](void* block, std::size_t) noexcept { qf::put_back(block); }
void operator delete(void* block, const std::nothrow_t&) noexcept { qf::put_back(block); }
void operator delete[](void* block, const std::nothrow_t&) noexcept { qf::put_back(block); }
void operator delete(void* block, std::align_val_t) noexcept { qf::put_back(block); }
void operator delete[](void* block, std::align_val_t) noexcept { qf::put_back(block); }
void operator delete(void* block, std::size_t, std::align_val_t) noexcept { qf::put_back(block); }
void operator delete[](void* block, std::size_t, std::align_val_t) noexcept { qf::put_back(block); }
void operator delete(void* block, std::align_val_t, const std::nothrow_t&) noexcept {
  qf::put_back(block);
}
void operator delete[](void* block, std::align_val_t, const std::nothrow_t&) noexcept {
  qf::put_back(block);
}
