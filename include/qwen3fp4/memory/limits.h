#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/memory/gauges.h"

namespace qf {

// kShared: of a machine whose GPU has no memory of its own.
enum class PoolKind { kMachine, kShared, kProcess, kCgroup, kDevice };
[[nodiscard]] std::string_view pool_name(PoolKind kind);  // "the machine's main memory", ...

// A memory that must not run full: what is used of it, and how much of it may be.
struct MemoryPool {
  PoolKind kind = PoolKind::kMachine;
  std::int64_t used = 0;
  std::int64_t limit = 0;
  [[nodiscard]] std::int64_t left() const { return limit - used; }
  [[nodiscard]] std::string_view name() const { return pool_name(kind); }
};

// Left to others of a memory of `total` bytes where nobody named a limit: main memory a twentieth
// and 512 MiB, for a host without memory stops; a GPU's own a fiftieth and 256 MiB; at most a
// quarter.
[[nodiscard]] std::int64_t host_reserve(std::int64_t total);
[[nodiscard]] std::int64_t device_reserve(std::int64_t total);

// Where a run computes: in main memory, in a GPU's own, or in one that both share.
enum class MemoryLayout { kHost, kDevice, kShared };

// Every pool whose gauges could be read. `given`: --guard-limit-gb in bytes, the limit of the
// memory that the run computes in: the GPU's, else this process's main memory; of a unified memory
// the whole machine's, whose page cache does not count as used.
[[nodiscard]] std::vector<MemoryPool> memory_pools(const MemorySample& sample, MemoryLayout layout,
                                                   std::optional<std::int64_t> given);

// Left below a limit for what libraries take between two looks.
inline constexpr std::int64_t kCapMargin = std::int64_t{32} << 20;

// The largest sum of counted blocks (host_cap.h) with which no pool of main memory passes its
// limit. `libraries`: anonymous pages that are no counted blocks.
// Counted blocks that nobody has written yet are no pages yet; they will be.
[[nodiscard]] std::int64_t host_cap_for(const MemorySample& sample,
                                        const std::vector<MemoryPool>& pools,
                                        std::int64_t libraries);
// The same of a GPU's own memory, as the most that libtorch's allocator may reserve; empty without.
[[nodiscard]] std::optional<std::int64_t> device_cap_for(const MemorySample& sample,
                                                         const std::vector<MemoryPool>& pools);

// "12.3 GB": of 10^9 bytes, three digits.
[[nodiscard]] std::string gigabytes(std::int64_t bytes);

}  // namespace qf
