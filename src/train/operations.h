#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "bf16_product.h"
#include "qwen3fp4/train/packed_rows.h"

// Operations of a block with their derivatives, on any device. Every result is the same bits for
// every number of threads, and a row of tokens never depends on other sequences' rows.
//
// Shapes: N rows (tokens), H query heads, K key/value heads, E head_dim.
namespace qf {

// x.to(type) and a + b, of one shape, by all threads.
[[nodiscard]] at::Tensor converted(const at::Tensor& x, at::ScalarType type);
[[nodiscard]] at::Tensor sum_of(const at::Tensor& a, const at::Tensor& b);

// a [M, K] times b [K, N], in a's type.
[[nodiscard]] at::Tensor product(const at::Tensor& a, const at::Tensor& b);
// out += a b of operands of any type. out: f32; its sums are never rounded to a narrower type.
void add_product(const at::Tensor& a, const at::Tensor& b, at::Tensor& out);
// f32 a b of operands of any type: nothing but the operands is rounded to it.
[[nodiscard]] at::Tensor product_f32(const at::Tensor& a, const at::Tensor& b);

// b of several products with f32 sums, which is brought into the order or type that they take but
// once.
class RightOperand {
 public:
  RightOperand() = default;
  explicit RightOperand(const at::Tensor& b);
  // Of one on the CPU, beside b itself.
  [[nodiscard]] static std::int64_t bytes(std::int64_t values, at::ScalarType type);
  friend at::Tensor product_f32(const at::Tensor& a, const RightOperand& b);
  friend void add_product(const at::Tensor& a, const RightOperand& b, at::Tensor& out);

 private:
  at::Tensor b_;
  RowPairs pairs_;
};
[[nodiscard]] at::Tensor product_f32(const at::Tensor& a, const RightOperand& b);
void add_product(const at::Tensor& a, const RightOperand& b, at::Tensor& out);

struct Normed {
  at::Tensor y;     // like x
  at::Tensor rstd;  // [..., 1]: 1 / sqrt(mean(x^2) + eps)
};
// RMS norm over the last dimension. x and weight: f32.
[[nodiscard]] Normed rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps);
struct NormGradient {
  at::Tensor x, weight;
};
[[nodiscard]] NormGradient rms_norm_backward(const at::Tensor& dy, const at::Tensor& x,
                                             const at::Tensor& rstd, const at::Tensor& weight);

// A norm of the residual stream and the addition before it.
struct StreamNorm {
  at::Tensor h;     // the sum, f32; x itself where nothing is added and its type will do
  at::Tensor y;     // in the compute type
  at::Tensor rstd;  // f32, of each row
};
struct StreamGradient {
  at::Tensor x;       // f32: the stream's gradient before the norm
  at::Tensor narrow;  // the same in the compute type
  at::Tensor weight;
};
// The gradient through a StreamNorm of x and `added`: `dresidual`, that of h beside the norm's, and
// the norm's own from dy, f32.
[[nodiscard]] StreamGradient norm_backward(const at::Tensor& dy, const StreamNorm& norm,
                                           const at::Tensor& weight, const at::Tensor& dresidual);

// silu(gate) * up, in their type; computed in f32.
[[nodiscard]] at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up);
struct SwigluGradient {
  at::Tensor gate, up;
};
[[nodiscard]] SwigluGradient swiglu_backward(const at::Tensor& dhidden, const at::Tensor& gate,
                                             const at::Tensor& up);

// A head's queries or keys on their way into attention: RMS norm over each head (without `weight`:
// none), then RoPE.
struct Rotated {
  at::Tensor rotated = {};  // [N, H, E], x's type
  at::Tensor raw = {};      // x: kept for the backward where there is a norm
  at::Tensor rstd = {};     // f32, of each head
};
struct RotationGradient {
  at::Tensor x;            // [N, H, E]
  at::Tensor weight = {};  // f32 [E], where there is a norm
};

struct Attended {
  at::Tensor out_NHE;
  at::Tensor logsumexp = {}, random_state = {},
             unused = {};  // flash attention's own, for its backward
};
// Causal attention of each sequence alone, scaled by 1/sqrt(E); q, k, v [N, H or K, E] of one type.
[[nodiscard]] Attended attention(const at::Tensor& q_NHE, const at::Tensor& k_NKE,
                                 const at::Tensor& v_NKE, const PackedRows& rows);
struct AttentionInputs {
  at::Tensor q_NHE, k_NKE, v_NKE;
};
[[nodiscard]] AttentionInputs attention_backward(const at::Tensor& dout_NHE,
                                                 const AttentionInputs& inputs,
                                                 const Attended& attended, const PackedRows& rows);

}  // namespace qf
