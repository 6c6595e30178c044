#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "qwen3fp4/memory/gauges.h"

namespace qf::test {

// A folder with proc/ and sys/ in which a test plays a machine.
class RecordedMachine {
 public:
  RecordedMachine();
  RecordedMachine(const RecordedMachine&) = delete;
  RecordedMachine& operator=(const RecordedMachine&) = delete;
  ~RecordedMachine();

  void write(const std::filesystem::path& file, std::string_view text) const;
  void meminfo(std::int64_t total, std::int64_t available) const;  // bytes
  void statm(std::int64_t resident, std::int64_t shared) const;    // bytes
  [[nodiscard]] const std::filesystem::path& root() const { return root_; }
  [[nodiscard]] std::unique_ptr<MemoryProbe> probe() const {
    return std::make_unique<MemoryProbe>(root_);
  }

 private:
  std::filesystem::path root_;
};

// What a played GPU says, and is told; outlives the DeviceMemory that the guard owns.
struct PlayedDevice {
  bool integrated = false;
  std::int64_t total = 0;
  std::atomic<std::int64_t> free = 0;  // read while the test writes it
  std::int64_t allocated = 0, reserved = 0;
  std::atomic<std::int64_t> cap = -1;
  [[nodiscard]] std::unique_ptr<DeviceMemory> memory();
};

inline constexpr std::int64_t kGiB = std::int64_t{1} << 30;
inline constexpr std::int64_t kMiB = std::int64_t{1} << 20;

}  // namespace qf::test
