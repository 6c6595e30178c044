#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace qf {

// Everything that is read about memory, in bytes.
enum class MemoryGauge : std::uint8_t {
  kProcessResident,   // pages of this process in main memory
  kProcessAnonymous,  // of these, the ones that no file backs
  kHostAllocated,     // host_cap.h: blocks of operator new and of libtorch's CPU allocator
  kMachineTotal,
  kMachineAvailable,  // what the kernel could give out without swapping; page cache counts as free
  kCgroupUsed,        // of the tightest limit above this process; without page cache
  kCgroupLimit,
  kDeviceTotal,
  kDeviceFree,
  kDeviceAllocated,  // libtorch's CUDA allocator: tensors,
  kDeviceReserved,   // what it has taken from the device for them,
  kDevicePeak,       // and the most of that so far
  kDeviceProcess,    // this process by NVML: tensors, CUDA's context, kernels' code
};
inline constexpr std::size_t kMemoryGauges = 13;

// "process_resident", ...; and one clause that says where it comes from.
[[nodiscard]] std::string_view gauge_name(MemoryGauge gauge);
[[nodiscard]] std::string_view gauge_source(MemoryGauge gauge);

// One reading of all gauges. What could not be read is empty, never 0.
struct MemorySample {
  std::array<std::optional<std::int64_t>, kMemoryGauges> bytes;

  [[nodiscard]] std::optional<std::int64_t>& operator[](MemoryGauge gauge) {
    return bytes[static_cast<std::size_t>(gauge)];
  }
  [[nodiscard]] const std::optional<std::int64_t>& operator[](MemoryGauge gauge) const {
    return bytes[static_cast<std::size_t>(gauge)];
  }
};

// A GPU's memory. On an integrated GPU (GB10) it is the machine's: the same bytes, so only the
// machine's gauges may be believed there. `free` as CUDA tells it does not know that page cache can
// be given back.
class DeviceMemory {
 public:
  DeviceMemory() = default;
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  virtual ~DeviceMemory() = default;

  [[nodiscard]] virtual bool integrated() const = 0;
  // Fills in the kDevice gauges that can be read.
  virtual void read(MemorySample& sample) const = 0;
  // Why kDeviceProcess cannot be read; empty when it can.
  [[nodiscard]] virtual std::string no_process_reason() const = 0;
  // From now on the tensor allocator refuses to hold more than `bytes`.
  virtual void set_cap(std::int64_t bytes) = 0;
};

// The first CUDA device; nullptr where there is none. Makes CUDA's context when it reads first.
[[nodiscard]] std::unique_ptr<DeviceMemory> make_device_memory();

// Reads the gauges of this process's machine.
class MemoryProbe {
 public:
  // `root`: where proc/ and sys/ are, so that recorded files can be read instead.
  explicit MemoryProbe(std::filesystem::path root = "/");

  // A device's gauges are read once there is one.
  void watch_device(std::unique_ptr<DeviceMemory> device);
  [[nodiscard]] DeviceMemory* device() const { return device_.get(); }
  [[nodiscard]] MemorySample read() const;
  // Without the device's; from any thread at any time.
  [[nodiscard]] MemorySample read_host() const;
  // Why a gauge of the last read() is empty, in one clause.
  [[nodiscard]] std::string why_empty(MemoryGauge gauge) const;

 private:
  // A folder with a limit, and what its files are called there (cgroups 1 and 2).
  struct Cgroup {
    std::filesystem::path folder;
    bool second = false;
  };
  void find_cgroups();
  void read_process(MemorySample& sample) const;
  void read_machine(MemorySample& sample) const;
  void read_cgroups(MemorySample& sample) const;

  std::filesystem::path root_;
  std::vector<Cgroup> cgroups_;
  std::unique_ptr<DeviceMemory> device_;
};

}  // namespace qf
