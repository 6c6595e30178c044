#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <string>

#include "qwen3fp4/kernels/cpu/fp4_gemm.h"

// Block-scaled FP4 products on the tensor cores, by cuBLASLt (W4A4): the arithmetic of
// kernels/cpu/fp4_gemm.h from the same bytes, in another order of sums. Compute capability 10.0 and
// newer; written against cuBLASLt's documentation and not run yet (doc/kernels.md). Pointers in
// Fp4Product are device pointers here.
namespace qf::cuda {

struct Fp4GemmStatus {
  enum class Kind : std::uint8_t {
    kDone,
    kDeviceTooOld,  // found: the device's compute capability as 10 * major + minor
    kNotBuilt,      // the build found no cublasLt.h
    kShape,         // found: the size that is no multiple of what it must be
    kAlignment,     // a pointer that is not aligned to 16 bytes
    kNoAlgorithm,   // cuBLASLt has none for this shape and workspace
    kCublas,        // found: the cublasStatus_t
    kCuda,          // found: the cudaError_t
  };
  Kind kind = Kind::kDone;
  std::int64_t found = 0;
  [[nodiscard]] bool done() const { return kind == Kind::kDone; }
};
// A sentence with what was expected and what was found.
[[nodiscard]] std::string message(const Fp4GemmStatus& status);

// Whether a device of this compute capability can run the products of this build.
[[nodiscard]] Fp4GemmStatus fp4_gemm_supported(int major, int minor);
// in_features must be a multiple of 32, out_features one of 8, codes and scale tiles aligned to 16
// bytes.
[[nodiscard]] Fp4GemmStatus fp4_gemm_takes(const Fp4Product& product);

struct Workspace {
  void* bytes;  // device, aligned to 256; 32 MiB are what NVIDIA recommends
  std::int64_t size;
};

// A cuBLASLt handle with the algorithm that its heuristic picked for each shape. Not for two
// threads at a time.
class Fp4Gemm {
 public:
  Fp4Gemm();
  ~Fp4Gemm();
  Fp4Gemm(const Fp4Gemm&) = delete;
  Fp4Gemm& operator=(const Fp4Gemm&) = delete;

  // Whether the current device can run products, with everything made ready for them. run() does
  // that too.
  [[nodiscard]] Fp4GemmStatus open();
  // y [tokens, out_features] on the device; alpha is read before run() returns.
  [[nodiscard]] Fp4GemmStatus run(const Fp4Product& product, __nv_bfloat16* y,
                                  const Workspace& workspace, cudaStream_t stream);
  [[nodiscard]] Fp4GemmStatus run(const Fp4Product& product, float* y, const Workspace& workspace,
                                  cudaStream_t stream);

 private:
  struct Plans;
  std::unique_ptr<Plans> plans_;
};

// y[r, c] = x[r, c] * row_scales[r], on any device: the token scales of QuantisedTokens, which
// cuBLASLt's single alpha cannot hold, on a product in f32. The 16-bit types are rounded to nearest
// even. y may be x. Refuses (cudaErrorInvalidValue) empty shapes.
struct RowScaling {
  const float* x;           // [rows, cols]
  const float* row_scales;  // [rows]
  std::int64_t rows, cols;
};
[[nodiscard]] cudaError_t scale_rows(const RowScaling& scaling, float* y, cudaStream_t stream);
[[nodiscard]] cudaError_t scale_rows(const RowScaling& scaling, __half* y, cudaStream_t stream);
[[nodiscard]] cudaError_t scale_rows(const RowScaling& scaling, __nv_bfloat16* y,
                                     cudaStream_t stream);

}  // namespace qf::cuda
