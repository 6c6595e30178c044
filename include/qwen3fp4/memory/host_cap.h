#pragma once

#include <cstdint>
#include <limits>
#include <new>

// The program's own blocks in main memory are counted: those of operator new (which this file's
// source replaces, for every library in the process that calls it) and those of libtorch's CPU
// allocator. Blocks of C's malloc, of the kernel and of drivers are not.
namespace qf {

inline constexpr std::int64_t kNoCap = std::numeric_limits<std::int64_t>::max();

// Thrown by an allocation that would pass the cap, in the thread that asked, before anything is
// taken. libtorch's own types of exceptions cannot carry it.
class CapExceeded : public std::bad_alloc {
 public:
  explicit CapExceeded(std::int64_t asked) noexcept;
  // "asked for 12 bytes with 34 of 40 allocated"; does not allocate.
  [[nodiscard]] const char* what() const noexcept override { return text_; }

 private:
  char text_[160];
};

// Bytes allocated now, and the most so far.
[[nodiscard]] std::int64_t host_allocated();
[[nodiscard]] std::int64_t host_allocated_peak();
// The peak counts from now on.
void forget_host_peak();
// kNoCap: none. Blocks of less than kSmallBlock may pass it by kSmallBlockSlack in all, so that an
// error can be told.
inline constexpr std::int64_t kSmallBlock = std::int64_t{64} << 10;
inline constexpr std::int64_t kSmallBlockSlack = std::int64_t{8} << 20;
void set_host_cap(std::int64_t bytes);
[[nodiscard]] std::int64_t host_cap();
// Called by an allocation that would pass the cap, after the heap's free pages went back to the
// kernel: it may set the cap anew. It may not throw. nullptr: none.
using CapRefresher = void (*)() noexcept;
void set_cap_refresher(CapRefresher refresh);

// Puts libtorch's CPU allocator behind the cap, and has the C library give blocks of 4 MiB and more
// back to the kernel at once. Before the first tensor; again does nothing.
void install_host_cap();

// Returns what the C library's heaps keep of freed blocks to the kernel. Costs a walk through them
// and, for pages that are needed again, a page fault each: for moments that come once in tens of
// milliseconds.
void give_back_free_pages();
// What is freed on top of a heap stays with the process, up to 64 MiB: a training step takes it
// again at once, and pages given back in between cost it 8 % of its time.
void keep_free_pages();

// For tests: asked at every allocation of any size, in its thread; true makes it throw CapExceeded.
// nullptr: none.
using AllocationHook = bool (*)() noexcept;
void set_allocation_hook(AllocationHook hook);

}  // namespace qf
