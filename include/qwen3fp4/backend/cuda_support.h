#pragma once

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string_view>
#include <type_traits>

#include "qwen3fp4/base/error.h"

// What sources above the kernels share that call CUDA. Only for builds with CUDA.
namespace qf {

inline void check_cuda(cudaError_t status, std::string_view what) {
  if (status == cudaSuccess) return;
  fail(status == cudaErrorMemoryAllocation ? ExitCode::kOutOfMemory : ExitCode::kUnreadable,
       "CUDA: {}: {}", what, cudaGetErrorString(status));
}

inline cudaStream_t current_stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

// Memory of the host that the device reads and writes; zeroed.
template <class T>
class Pinned {
 public:
  explicit Pinned(std::size_t count) {
    void* data = nullptr;
    check_cuda(cudaHostAlloc(&data, count * sizeof(T), cudaHostAllocMapped), "pinned memory");
    data_ = static_cast<T*>(data);
    std::fill(data_, data_ + count, T{});
  }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  ~Pinned() { (void)cudaFreeHost(data_); }
  [[nodiscard]] T* get() const { return data_; }

 private:
  T* data_ = nullptr;
};

using Event = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>,
                              decltype([](cudaEvent_t event) { (void)cudaEventDestroy(event); })>;

// To wait for.
inline Event make_event() {
  cudaEvent_t event{};
  check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "event");
  return Event(event);
}
// To take the time between two.
inline Event make_timed_event() {
  cudaEvent_t event{};
  check_cuda(cudaEventCreate(&event), "event");
  return Event(event);
}

// The tensor's memory as kernels call its type.
template <class T>
T* device_data(const at::Tensor& t) {
  return reinterpret_cast<T*>(t.data_ptr());
}

}  // namespace qf
