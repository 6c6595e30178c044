#include "qwen3fp4/memory/gauges.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <iterator>
#include <utility>

#include "qwen3fp4/memory/host_cap.h"

namespace qf {
namespace {

struct GaugeText {
  std::string_view name, source;
};
constexpr std::array<GaugeText, kMemoryGauges> kTexts{{
    {"process_resident", "/proc/self/statm"},
    {"process_anonymous", "/proc/self/statm"},
    {"host_allocated", "operator new and libtorch's CPU allocator"},
    {"machine_total", "/proc/meminfo, MemTotal"},
    {"machine_available", "/proc/meminfo, MemAvailable"},
    {"cgroup_used", "the tightest cgroup's usage without page cache"},
    {"cgroup_limit", "the tightest cgroup's limit"},
    {"device_total", "cudaMemGetInfo"},
    {"device_free", "cudaMemGetInfo"},
    {"device_allocated", "libtorch's CUDA allocator"},
    {"device_reserved", "libtorch's CUDA allocator"},
    {"device_peak", "libtorch's CUDA allocator"},
    {"device_process", "NVML"},
}};

bool is_device(MemoryGauge gauge) { return gauge >= MemoryGauge::kDeviceTotal; }

// Of files in /proc and /sys, whose size is not known before they are read; empty when unreadable.
std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::optional<std::int64_t> number_in(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size()));
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

// The number behind `key` at the start of a line.
std::optional<std::int64_t> number_after(std::string_view text, std::string_view key) {
  for (std::size_t first = 0; first < text.size();) {
    const std::string_view line = text.substr(first, text.find('\n', first) - first);
    if (line.starts_with(key)) return number_in(line.substr(key.size()));
    first += line.size() + 1;
  }
  return std::nullopt;
}

std::optional<std::int64_t> kilobytes_after(std::string_view text, std::string_view key) {
  const auto number = number_after(text, key);
  return number ? std::optional(*number * 1024) : std::nullopt;
}

}  // namespace

std::string_view gauge_name(MemoryGauge gauge) {
  return kTexts[static_cast<std::size_t>(gauge)].name;
}
std::string_view gauge_source(MemoryGauge gauge) {
  return kTexts[static_cast<std::size_t>(gauge)].source;
}

MemoryProbe::MemoryProbe(std::filesystem::path root) : root_(std::move(root)) { find_cgroups(); }

void MemoryProbe::watch_device(std::unique_ptr<DeviceMemory> device) {
  device_ = std::move(device);
}

// Version 2 has one line "0::/path", version 1 one for each controller: "4:memory:/path". A limit
// of any folder on the way up applies.
void MemoryProbe::find_cgroups() {
  std::ifstream lines(root_ / "proc/self/cgroup");
  for (std::string line; std::getline(lines, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const auto controllers = std::string_view(line).substr(first + 1, second - first - 1);
    const bool is_second = controllers.empty();
    const bool of_memory = fmt::format(",{},", controllers).find(",memory,") != std::string::npos;
    if (!is_second && !of_memory) continue;
    const auto base = root_ / (is_second ? "sys/fs/cgroup" : "sys/fs/cgroup/memory");
    std::filesystem::path below = line.substr(std::min(second + 2, line.size()));
    for (;; below = below.parent_path()) {
      cgroups_.push_back({below.empty() ? base : base / below, is_second});
      if (below.empty()) break;
    }
  }
}

void MemoryProbe::read_process(MemorySample& sample) const {
  static const std::int64_t kPage = ::sysconf(_SC_PAGESIZE);
  std::ifstream statm(root_ / "proc/self/statm");
  std::int64_t size = 0;
  std::int64_t resident = 0;
  std::int64_t shared = 0;
  if (!(statm >> size >> resident >> shared)) return;
  sample[MemoryGauge::kProcessResident] = resident * kPage;
  sample[MemoryGauge::kProcessAnonymous] = (resident - shared) * kPage;
}

void MemoryProbe::read_machine(MemorySample& sample) const {
  const std::string meminfo = text_of(root_ / "proc/meminfo");
  sample[MemoryGauge::kMachineTotal] = kilobytes_after(meminfo, "MemTotal:");
  sample[MemoryGauge::kMachineAvailable] = kilobytes_after(meminfo, "MemAvailable:");
}

void MemoryProbe::read_cgroups(MemorySample& sample) const {
  // Version 1 writes "no limit" as a number near 2^63.
  constexpr std::int64_t kNoLimit = std::int64_t{1} << 60;
  std::optional<std::int64_t> least_left;
  for (const auto& [folder, second] : cgroups_) {
    const auto limit =
        number_in(text_of(folder / (second ? "memory.max" : "memory.limit_in_bytes")));
    const auto usage =
        number_in(text_of(folder / (second ? "memory.current" : "memory.usage_in_bytes")));
    if (!limit || !usage || *limit >= kNoLimit) continue;
    const auto cache = number_after(text_of(folder / "memory.stat"),
                                    second ? "inactive_file " : "total_inactive_file ");
    const std::int64_t used = std::max<std::int64_t>(0, *usage - cache.value_or(0));
    if (least_left && *limit - used >= *least_left) continue;
    least_left = *limit - used;
    sample[MemoryGauge::kCgroupLimit] = limit;
    sample[MemoryGauge::kCgroupUsed] = used;
  }
}

MemorySample MemoryProbe::read_host() const {
  MemorySample sample;
  read_process(sample);
  read_machine(sample);
  read_cgroups(sample);
  sample[MemoryGauge::kHostAllocated] = host_allocated();
  return sample;
}

MemorySample MemoryProbe::read() const {
  MemorySample sample = read_host();
  if (device_ != nullptr) device_->read(sample);
  return sample;
}

std::string MemoryProbe::why_empty(MemoryGauge gauge) const {
  if (gauge == MemoryGauge::kCgroupUsed || gauge == MemoryGauge::kCgroupLimit) {
    return "no cgroup above this process has a limit that can be read";
  }
  if (is_device(gauge) && device_ == nullptr) return "the run uses no GPU";
  if (gauge == MemoryGauge::kDeviceProcess && !device_->no_process_reason().empty()) {
    return device_->no_process_reason();
  }
  return std::string(gauge_source(gauge)) + " cannot be read";
}

}  // namespace qf
