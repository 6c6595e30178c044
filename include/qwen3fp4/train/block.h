#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "qwen3fp4/backend/backend.h"
#include "qwen3fp4/model/config.h"
#include "qwen3fp4/model/qwen3_model.h"
#include "qwen3fp4/train/packed_rows.h"

// One decoder layer for training: forward, and backward with respect to input and weights. The same
// maths as ForwardPass::layer, written with its derivative instead of through autograd: no graph is
// kept, and a gradient is handed out the moment it exists.
//
// Shapes: N rows (tokens of all sequences), D hidden_size, F intermediate_size, H query heads, K
// key/value heads, E head_dim. "Compute type": f32 or bf16, that of products and attention; norms
// and the residual stream inside a block are f32.
namespace qf {

// In the order of kLayerLinears and kLayerNorms.
enum class Linear : std::size_t { kQ, kK, kV, kO, kGate, kUp, kDown };
enum class Norm : std::size_t { kInput, kQuery, kKey, kPostAttention };

// What a block reads, dequantised.
struct BlockWeights {
  std::array<at::Tensor, kLayerLinears.size()> linears;  // [out, in], compute type
  std::array<at::Tensor, kLayerNorms.size()> norms;  // f32; kQuery, kKey undefined without qk_norm
  [[nodiscard]] const at::Tensor& operator[](Linear which) const {
    return linears[static_cast<std::size_t>(which)];
  }
  [[nodiscard]] const at::Tensor& operator[](Norm which) const {
    return norms[static_cast<std::size_t>(which)];
  }
};

// A block at work. Borrows everything.
struct Block {
  const ModelConfig& config;
  const Backend& backend;
  const BlockWeights& weights;
  const PackedRows& rows;
  std::int64_t index = 0;
  Tap tap = {};  // as TrainingPass takes it
};

// What block_backward() needs of the forward: [N, D] and so on, of one block.
struct BlockActivations {
  at::Tensor x;  // the input: f32, or its own type where the norm's kernel takes that
  at::Tensor normed, rstd;
  at::Tensor query, query_rstd, key, key_rstd;  // [N, H or K, E] before their norms
  at::Tensor q, k, v;                           // compute type, as attention reads them
  at::Tensor attended, logsumexp, random_state, unused;
  at::Tensor h;  // f32: x + attention
  at::Tensor normed_h, h_rstd;
  at::Tensor gate, up, hidden;  // [N, F]
};
// x_ND: f32 or compute type.
[[nodiscard]] BlockActivations block_activations(const Block& block, const at::Tensor& x_ND);
// The block's output in the compute type. Not needed for the backward.
[[nodiscard]] at::Tensor block_output(const Block& block, const BlockActivations& activations);

// Takes the gradients of a block's weights as they come about. The block reads no weight any more
// that was handed to linear() or norm(): it may be changed there and then.
class BlockSink {
 public:
  BlockSink() = default;
  BlockSink(const BlockSink&) = delete;
  BlockSink& operator=(const BlockSink&) = delete;
  virtual ~BlockSink() = default;
  // The gradient is dy_NO transposed times x_NI, both of the compute type.
  virtual void linear(Linear which, const at::Tensor& dy_NO, const at::Tensor& x_NI) = 0;
  virtual void norm(Norm which, const at::Tensor& gradient) = 0;  // f32 [width]
};
// dy_ND, f32: the gradient of the output. Returns that of the input, f32 [N, D].
[[nodiscard]] at::Tensor block_backward(const Block& block, const BlockActivations& activations,
                                        const at::Tensor& dy_ND, BlockSink& sink);

}  // namespace qf
