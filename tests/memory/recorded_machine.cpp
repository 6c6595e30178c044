#include "recorded_machine.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

namespace qf::test {
namespace {

class Played final : public DeviceMemory {
 public:
  explicit Played(PlayedDevice& device) : device_(device) {}
  [[nodiscard]] bool integrated() const override { return device_.integrated; }
  void read(MemorySample& sample) const override {
    sample[MemoryGauge::kDeviceTotal] = device_.total;
    sample[MemoryGauge::kDeviceFree] = device_.free.load();
    sample[MemoryGauge::kDeviceAllocated] = device_.allocated;
    sample[MemoryGauge::kDeviceReserved] = device_.reserved;
  }
  [[nodiscard]] std::string no_process_reason() const override { return "a played GPU"; }
  void set_cap(std::int64_t bytes) override { device_.cap = bytes; }

 private:
  PlayedDevice& device_;
};

}  // namespace

RecordedMachine::RecordedMachine() {
  std::string name = (std::filesystem::temp_directory_path() / "qf_machine_XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) std::abort();
  root_ = name;
}
RecordedMachine::~RecordedMachine() { std::filesystem::remove_all(root_); }

// A reader sees the old file or the new one.
void RecordedMachine::write(const std::filesystem::path& file, std::string_view text) const {
  const auto path = root_ / file;
  std::filesystem::create_directories(path.parent_path());
  const auto temporary = path.string() + ".new";
  std::ofstream(temporary) << text;
  std::filesystem::rename(temporary, path);
}
void RecordedMachine::meminfo(std::int64_t total, std::int64_t available) const {
  write("proc/meminfo", fmt::format("MemTotal:       {} kB\nMemFree:        1000 kB\n"
                                    "MemAvailable:   {} kB\nBuffers:         22 kB\n",
                                    total / 1024, available / 1024));
}
void RecordedMachine::statm(std::int64_t resident, std::int64_t shared) const {
  const std::int64_t page = ::sysconf(_SC_PAGESIZE);
  write("proc/self/statm",
        fmt::format("{} {} {} 10 0 99 0\n", 4 * resident / page, resident / page, shared / page));
}

std::unique_ptr<DeviceMemory> PlayedDevice::memory() { return std::make_unique<Played>(*this); }

}  // namespace qf::test
