#include "adam_kernels.h"
#include "qwen3fp4/backend/cuda.h"
#include "qwen3fp4/base/error.h"

namespace qf::adam::on_cuda {
namespace {

[[noreturn]] void refuse() { fail(ExitCode::kUsage, "training on CUDA: {}", no_cuda_reason()); }

}  // namespace

void step(AdamProfile, const AdamRule&, const AdamWeight&, const Gradient&, float*) { refuse(); }
void dense_step(const AdamRule&, const AdamDense&, const at::Tensor&) { refuse(); }
void add_columns(const AdamRule&, const ColumnSquares&, const Gradient&) { refuse(); }
void finish_columns(const AdamRule&, const ColumnSquares&, const ColumnMeans&) { refuse(); }
void dequantize(const Nvfp4View&, RowRange, at::Tensor&) { refuse(); }
void dequantize(const std::vector<Nvfp4View>&, std::vector<at::Tensor>&) { refuse(); }
std::int64_t sum_parts() { refuse(); }
void sum_of_squares(const at::Tensor&, at::Tensor&) { refuse(); }
void sum(const at::Tensor&, at::Tensor&) { refuse(); }

}  // namespace qf::adam::on_cuda
