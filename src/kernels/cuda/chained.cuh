#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

// Kernels of a chain: from compute capability 9.0 on each is launched while the one before it still
// runs (programmatic dependent launch), and fetches what nobody writes, weights, until that one has
// finished.
namespace qf::cuda {

// Every thread block calls both: the first at once, the second before it reads or writes anything
// that other kernels of the chain write or read.
__device__ inline void let_next_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
__device__ inline void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

struct Launch {
  dim3 grid, block;
  std::size_t shared_bytes;
  cudaStream_t stream;
};

template <class... Parameters, class... Arguments>
cudaError_t launch_chained(const Launch& launch, void (*kernel)(Parameters...),
                           Arguments... arguments) {
  int device = 0;
  int major = 0;
  cudaError_t status = cudaGetDevice(&device);
  if (status != cudaSuccess) return status;
  status = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (status != cudaSuccess) return status;
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = launch.grid;
  config.blockDim = launch.block;
  config.dynamicSmemBytes = launch.shared_bytes;
  config.stream = launch.stream;
  config.attrs = &early;
  config.numAttrs = major >= 9 ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

}  // namespace qf::cuda
