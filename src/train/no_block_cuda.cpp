#include "block_kernels.h"
#include "qwen3fp4/backend/cuda.h"
#include "qwen3fp4/base/error.h"

namespace qf::on_cuda {
namespace {

[[noreturn]] void refuse() { fail(ExitCode::kUsage, "training on CUDA: {}", no_cuda_reason()); }

}  // namespace

bool has_prompt_attention(std::int64_t) { refuse(); }
void prompt_attention(const AttentionRows&) { refuse(); }
at::Tensor swiglu(const at::Tensor&, const at::Tensor&) { refuse(); }
SwigluGradient swiglu_backward(const at::Tensor&, const at::Tensor&, const at::Tensor&) {
  refuse();
}
bool has_stream_norm(std::int64_t) { refuse(); }
StreamNorm add_norm(const at::Tensor&, const at::Tensor&, const at::Tensor&, double) { refuse(); }
StreamGradient norm_backward(const at::Tensor&, const StreamNorm&, const at::Tensor&,
                             const at::Tensor&) {
  refuse();
}
bool has_rotation(std::int64_t) { refuse(); }
Rotated rotate_heads(const at::Tensor&, const at::Tensor&, double, const PackedRows&) { refuse(); }
RotationGradient rotate_heads_backward(const at::Tensor&, const Rotated&, const at::Tensor&,
                                       const PackedRows&) {
  refuse();
}
void cross_entropy(const Logits&, const at::Tensor&, const at::Tensor&, const at::Tensor&) {
  refuse();
}
void divergence(const Logits&, const at::Tensor&, const Divergence&) { refuse(); }
void cross_entropy_gradient(const Logits&, const at::Tensor&, const at::Tensor&, double,
                            const at::Tensor&) {
  refuse();
}
void divergence_gradient(const Logits&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                         double, const at::Tensor&) {
  refuse();
}

}  // namespace qf::on_cuda
