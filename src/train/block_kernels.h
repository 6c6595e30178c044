#pragma once

#include <ATen/core/Tensor.h>

#include "operations.h"

// The CUDA kernels of a block in bf16, and those of the loss. block_cuda.cpp, or no_block_cuda.cpp
// in a build without CUDA.
//
// Shapes: N rows, H heads, E head_dim, F intermediate_size; of the loss m rows, c tokens of a chunk
// of the vocabulary.
namespace qf::on_cuda {

// Whether the device has a kernel of ours for causal attention of rows of `head_dim`, which pays
// for sequences of kPromptAttentionTokens and more.
inline constexpr std::int64_t kPromptAttentionTokens = 128;
bool has_prompt_attention(std::int64_t head_dim);
// One sequence's rows of q, k, v; writes its rows of `out` and columns of logsumexp [H, N], which
// begin at `first`.
struct AttentionRows {
  at::Tensor q_NHE, k_NKE, v_NKE, out_NHE, logsumexp_HN;
  std::int64_t first, count;
};
void prompt_attention(const AttentionRows& rows);

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);
SwigluGradient swiglu_backward(const at::Tensor& dhidden, const at::Tensor& gate,
                               const at::Tensor& up);

bool has_stream_norm(std::int64_t width);
// `added`: undefined, or of x's type.
StreamNorm add_norm(const at::Tensor& x, const at::Tensor& added, const at::Tensor& weight,
                    double eps);
StreamGradient norm_backward(const at::Tensor& dy, const StreamNorm& norm, const at::Tensor& weight,
                             const at::Tensor& dresidual);

bool has_rotation(std::int64_t head_dim);
Rotated rotate_heads(const at::Tensor& x_NHE, const at::Tensor& weight, double eps,
                     const PackedRows& rows);
RotationGradient rotate_heads_backward(const at::Tensor& dy_NHE, const Rotated& forward,
                                       const at::Tensor& weight, const PackedRows& rows);

// f32 [m, c], contiguous: logits of tokens `first` .. first + c - 1.
struct Logits {
  at::Tensor values_mc;
  std::int64_t first;
};
// Write f32 [m], contiguous, as kernels/cuda/loss.h says. `next_m`: i64.
void cross_entropy(const Logits& logits, const at::Tensor& next_m, const at::Tensor& logsumexp_m,
                   const at::Tensor& value_m);
struct Divergence {
  at::Tensor logsumexp_m, teacher_logsumexp_m, value_m;
};
void divergence(const Logits& logits, const at::Tensor& teacher_mc, const Divergence& out);
// Write [m, c] of f32 or bf16.
void cross_entropy_gradient(const Logits& logits, const at::Tensor& next_m,
                            const at::Tensor& logsumexp_m, double weight, const at::Tensor& out_mc);
void divergence_gradient(const Logits& logits, const at::Tensor& teacher_mc,
                         const at::Tensor& logsumexp_m, const at::Tensor& teacher_logsumexp_m,
                         double weight, const at::Tensor& out_mc);

}  // namespace qf::on_cuda
