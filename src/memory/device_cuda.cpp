#include <ATen/Context.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <vector>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/memory/gauges.h"

namespace qf {
namespace {

void check(cudaError_t status, std::string_view what) {
  QF_CHECK(status == cudaSuccess, "CUDA: {}: {}", what, cudaGetErrorString(status));
}

// The few calls of NVML that are used, by its documented ABI: the library comes with the driver and
// is loaded when there, so that no build needs it.
class Nvml {
 public:
  explicit Nvml(int cuda_device) { reason_ = open(cuda_device); }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;
  ~Nvml() {
    if (library_ != nullptr) dlclose(library_);
  }

  // Empty when process_bytes() can be asked.
  [[nodiscard]] const std::string& reason() const { return reason_; }
  [[nodiscard]] std::optional<std::int64_t> process_bytes() const;

 private:
  using Handle = void*;
  // nvmlProcessInfo_t of the calls with the suffix _v3.
  struct ProcessInfo {
    unsigned pid;
    unsigned long long used;
    unsigned gpu_instance, compute_instance;
  };
  static constexpr int kSuccess = 0;
  static constexpr unsigned long long kNotAvailable = ~0ULL;

  template <class Function>
  [[nodiscard]] Function find(const char* name) const {
    return reinterpret_cast<Function>(dlsym(library_, name));
  }
  std::string open(int cuda_device);

  void* library_ = nullptr;
  Handle device_ = nullptr;
  int (*processes_)(Handle, unsigned*, ProcessInfo*) = nullptr;
  std::string reason_;
};

std::string Nvml::open(int cuda_device) {
  library_ = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library_ == nullptr) return "libnvidia-ml.so.1 is not there";
  const auto init = find<int (*)()>("nvmlInit_v2");
  const auto by_bus = find<int (*)(const char*, Handle*)>("nvmlDeviceGetHandleByPciBusId_v2");
  processes_ =
      find<int (*)(Handle, unsigned*, ProcessInfo*)>("nvmlDeviceGetComputeRunningProcesses_v3");
  if (init == nullptr || by_bus == nullptr || processes_ == nullptr) {
    return "libnvidia-ml.so.1 lacks a function";
  }
  std::array<char, 32> bus{};
  check(cudaDeviceGetPCIBusId(bus.data(), static_cast<int>(bus.size()), cuda_device), "bus id");
  if (init() != kSuccess) return "NVML does not start";
  if (by_bus(bus.data(), &device_) != kSuccess) return "NVML does not know the device";
  return process_bytes() ? "" : "NVML does not tell a process's memory here";
}

// Where process ids of another namespace are listed, ours is not among them, and the only process
// may well be another.
std::optional<std::int64_t> Nvml::process_bytes() const {
  std::vector<ProcessInfo> all(64);
  auto count = static_cast<unsigned>(all.size());
  if (processes_(device_, &count, all.data()) != kSuccess) return std::nullopt;
  const auto own = static_cast<unsigned>(getpid());
  for (unsigned i = 0; i < count && i < all.size(); ++i) {
    if (all[i].pid == own && all[i].used != kNotAvailable) {
      return static_cast<std::int64_t>(all[i].used);
    }
  }
  return std::nullopt;
}

class CudaMemory final : public DeviceMemory {
 public:
  CudaMemory() : nvml_(kDevice) {
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, kDevice), "properties of device 0");
    integrated_ = properties.integrated != 0;
    at::globalContext().lazyInitDevice(at::kCUDA);
  }

  [[nodiscard]] bool integrated() const override { return integrated_; }
  void read(MemorySample& sample) const override;
  [[nodiscard]] std::string no_process_reason() const override { return nvml_.reason(); }
  void set_cap(std::int64_t bytes) override;

 private:
  static constexpr c10::DeviceIndex kDevice = 0;
  Nvml nvml_;
  bool integrated_ = false;
  double fraction_ = 1;
};

void CudaMemory::read(MemorySample& sample) const {
  std::size_t free = 0;
  std::size_t total = 0;
  if (cudaMemGetInfo(&free, &total) == cudaSuccess) {
    sample[MemoryGauge::kDeviceTotal] = static_cast<std::int64_t>(total);
    sample[MemoryGauge::kDeviceFree] = static_cast<std::int64_t>(free);
  }
  const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(kDevice);
  sample[MemoryGauge::kDeviceAllocated] = stats.allocated_bytes[0].current;
  sample[MemoryGauge::kDeviceReserved] = stats.reserved_bytes[0].current;
  sample[MemoryGauge::kDevicePeak] = stats.reserved_bytes[0].peak;
  if (nvml_.reason().empty()) sample[MemoryGauge::kDeviceProcess] = nvml_.process_bytes();
}

// The allocator counts in fractions of the whole. Small changes are not worth its lock.
void CudaMemory::set_cap(std::int64_t bytes) {
  constexpr double kStep = 1e-3;
  std::size_t free = 0;
  std::size_t total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) return;  // the cap stays as it is
  const double fraction =
      std::clamp(static_cast<double>(bytes) / static_cast<double>(total), 0.0, 1.0);
  if (fraction >= fraction_ && fraction < fraction_ + kStep) return;
  fraction_ = fraction;
  c10::cuda::CUDACachingAllocator::setMemoryFraction(fraction, kDevice);
}

}  // namespace

std::unique_ptr<DeviceMemory> make_device_memory() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) return nullptr;
  return std::make_unique<CudaMemory>();
}

}  // namespace qf
