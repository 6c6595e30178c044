#include "kv_rows.h"
#include "qwen3fp4/backend/cuda.h"
#include "qwen3fp4/base/error.h"

namespace qf::on_cuda {

void quantize_kv(const at::Tensor&, const at::Tensor&, const at::Tensor&) {
  fail(ExitCode::kUsage, "a cache on CUDA: {}", no_cuda_reason());
}
void dequantize_kv(const at::Tensor&, const at::Tensor&, const at::Tensor&) {
  fail(ExitCode::kUsage, "a cache on CUDA: {}", no_cuda_reason());
}

}  // namespace qf::on_cuda
