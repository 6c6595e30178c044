#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace qf::cuda {

// Reads `count` 16-byte words once, coalesced, and leaves their xor in *result: what a kernel that
// only reads takes. Device pointers, `words` aligned to 16 bytes. Refused (cudaErrorInvalidValue):
// count below 1.
[[nodiscard]] cudaError_t read_all(const void* words, std::int64_t count, std::uint32_t* result,
                                   cudaStream_t stream);

}  // namespace qf::cuda
