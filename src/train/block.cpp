#include "qwen3fp4/train/block.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <utility>

#include "block_kernels.h"
#include "operations.h"
#include "task_rows.h"

namespace qf {
namespace {

at::Tensor tapped(const Block& block, const char* module, const at::Tensor& output) {
  if (!block.tap) return output;
  return block.tap(fmt::format("model.layers.{}{}", block.index, module), output);
}

struct StreamNames {
  const char* sum;
  const char* norm;
};

// The norm of the stream x, after `added` (undefined: nothing) has joined it.
StreamNorm norm_of(const Block& block, const at::Tensor& x, const at::Tensor& added, Norm which,
                   const StreamNames& names) {
  const auto& weight = block.weights[which];
  const auto type = block.weights[Linear::kQ].scalar_type();
  const double eps = block.config.rms_norm_eps;
  if (!block.tap && x.is_cuda() && x.scalar_type() == at::kBFloat16 && type == at::kBFloat16 &&
      on_cuda::has_stream_norm(weight.size(0))) {
    return on_cuda::add_norm(x, added, weight, eps);
  }
  auto h = converted(x, at::kFloat);
  if (added.defined()) h = tapped(block, names.sum, sum_of(h, added));
  auto normed = rms_norm(h, weight, eps);
  return {std::move(h), converted(tapped(block, names.norm, normed.y), type),
          std::move(normed.rstd)};
}

struct HeadNames {
  const char* norm;
  const char* rope;
};

// In one kernel where there is one; modules that somebody looks into run one by one.
bool in_one_kernel(const Block& block, const at::Tensor& x_NHE) {
  return !block.tap && x_NHE.is_cuda() && x_NHE.scalar_type() == at::kBFloat16 &&
         on_cuda::has_rotation(x_NHE.size(2));
}

const at::Tensor& head_norm(const Block& block, Norm which) {
  static const at::Tensor kNone;
  return block.config.qk_norm ? block.weights[which] : kNone;
}

Rotated rotate(const Block& block, const at::Tensor& x_NHE, Norm which, const HeadNames& names) {
  if (in_one_kernel(block, x_NHE)) {
    return on_cuda::rotate_heads(x_NHE, head_norm(block, which), block.config.rms_norm_eps,
                                 block.rows);
  }
  Rotated result;
  auto x = converted(x_NHE, at::kFloat);
  if (block.config.qk_norm) {
    auto normed = rms_norm(x, block.weights[which], block.config.rms_norm_eps);
    result.raw = std::move(x);
    result.rstd = std::move(normed.rstd);
    x = tapped(block, names.norm, normed.y);
  }
  x = tapped(block, names.rope, block.backend.apply_rope(x, block.rows.cos, block.rows.sin));
  result.rotated = converted(x, x_NHE.scalar_type());
  return result;
}

// The gradient of what rotate() took, in the compute type [N, H*E].
at::Tensor rotate_backward(const Block& block, const at::Tensor& gradient, const Rotated& forward,
                           Norm which, BlockSink& sink) {
  if (in_one_kernel(block, gradient)) {
    auto back =
        on_cuda::rotate_heads_backward(gradient, forward, head_norm(block, which), block.rows);
    if (block.config.qk_norm) sink.norm(which, back.weight);
    return back.x.view({gradient.size(0), -1});
  }
  // The inverse of a rotation is the one by the opposite angle, which is also its transpose.
  auto dx =
      block.backend.apply_rope(converted(gradient, at::kFloat), block.rows.cos, -block.rows.sin);
  if (block.config.qk_norm) {
    auto back = rms_norm_backward(dx, forward.raw, forward.rstd, block.weights[which]);
    sink.norm(which, back.weight);
    dx = std::move(back.x);
  }
  return converted(dx, gradient.scalar_type()).view({dx.size(0), -1});
}

at::Tensor attention_input_backward(const Block& block, const BlockActivations& a,
                                    const at::Tensor& dattended, BlockSink& sink) {
  const BlockWeights& w = block.weights;
  const auto back = attention_backward(
      dattended.view(a.q.sizes()), {a.q, a.k, a.v},
      {a.attended.view(a.q.sizes()), a.logsumexp, a.random_state, a.unused}, block.rows);
  const auto dq =
      rotate_backward(block, back.q_NHE, {{}, a.query, a.query_rstd}, Norm::kQuery, sink);
  const auto dk = rotate_backward(block, back.k_NKE, {{}, a.key, a.key_rstd}, Norm::kKey, sink);
  const auto dv = back.v_NKE.reshape({dk.size(0), -1});
  auto dnormed = product_f32(dq, w[Linear::kQ]);
  add_product(dk, w[Linear::kK], dnormed);
  add_product(dv, w[Linear::kV], dnormed);
  sink.linear(Linear::kQ, dq, a.normed);
  sink.linear(Linear::kK, dk, a.normed);
  sink.linear(Linear::kV, dv, a.normed);
  return dnormed;
}

at::Tensor mlp_backward(const Block& block, const BlockActivations& a, const at::Tensor& dy,
                        BlockSink& sink) {
  const BlockWeights& w = block.weights;
  const auto dhidden = product(dy, w[Linear::kDown]);
  sink.linear(Linear::kDown, dy, a.hidden);
  const auto [dgate, dup] = swiglu_backward(dhidden, a.gate, a.up);
  auto dnormed = product_f32(dgate, w[Linear::kGate]);
  add_product(dup, w[Linear::kUp], dnormed);
  sink.linear(Linear::kGate, dgate, a.normed_h);
  sink.linear(Linear::kUp, dup, a.normed_h);
  return dnormed;
}

}  // namespace

BlockActivations block_activations(const Block& block, const at::Tensor& x_ND) {
  const BlockWeights& w = block.weights;
  const std::int64_t rows = x_ND.size(0);
  const auto linear = [&](const char* module, const at::Tensor& x, Linear which) {
    return tapped(block, module, product(x, w[which].t()));
  };
  const auto heads = [&](const at::Tensor& y, std::int64_t count) {
    return y.view({rows, count, block.config.head_dim});
  };

  BlockActivations a;
  const auto x = norm_of(block, x_ND, {}, Norm::kInput, {"", ".input_layernorm"});
  std::tie(a.x, a.normed, a.rstd) = std::tie(x.h, x.y, x.rstd);
  const auto query =
      heads(linear(".self_attn.q_proj", a.normed, Linear::kQ), block.config.num_attention_heads);
  const auto key =
      heads(linear(".self_attn.k_proj", a.normed, Linear::kK), block.config.num_key_value_heads);
  a.v = heads(linear(".self_attn.v_proj", a.normed, Linear::kV), block.config.num_key_value_heads);
  auto q = rotate(block, query, Norm::kQuery, {".self_attn.q_norm", ".self_attn.q_rope"});
  auto k = rotate(block, key, Norm::kKey, {".self_attn.k_norm", ".self_attn.k_rope"});
  std::tie(a.query, a.query_rstd, a.q) = std::tie(q.raw, q.rstd, q.rotated);
  std::tie(a.key, a.key_rstd, a.k) = std::tie(k.raw, k.rstd, k.rotated);

  auto attended = attention(a.q, a.k, a.v, block.rows);
  a.attended = tapped(block, ".self_attn.attention", attended.out_NHE).reshape({rows, -1});
  a.logsumexp = std::move(attended.logsumexp);
  a.random_state = std::move(attended.random_state);
  a.unused = std::move(attended.unused);
  const auto projected = linear(".self_attn.o_proj", a.attended, Linear::kO);
  const auto h = norm_of(block, a.x, projected, Norm::kPostAttention,
                         {".self_attn_residual", ".post_attention_layernorm"});
  std::tie(a.h, a.normed_h, a.h_rstd) = std::tie(h.h, h.y, h.rstd);
  a.gate = linear(".mlp.gate_proj", a.normed_h, Linear::kGate);
  a.up = linear(".mlp.up_proj", a.normed_h, Linear::kUp);
  a.hidden = tapped(block, ".mlp.swiglu", swiglu(a.gate, a.up));
  return a;
}

at::Tensor block_output(const Block& block, const BlockActivations& activations) {
  const auto& down = block.weights[Linear::kDown];
  const auto mlp = tapped(block, ".mlp.down_proj", product(activations.hidden, down.t()));
  auto out = at::empty(mlp.sizes(), down.options());
  by_rows(out.size(0), out.is_cuda(), [&](std::int64_t first, std::int64_t count) {
    auto rows = out.narrow(0, first, count);  // in f32, then rounded
    at::add_out(rows, activations.h.narrow(0, first, count), mlp.narrow(0, first, count));
  });
  return tapped(block, "", out);
}

at::Tensor block_backward(const Block& block, const BlockActivations& a, const at::Tensor& dy_ND,
                          BlockSink& sink) {
  const BlockWeights& w = block.weights;
  const auto type = w[Linear::kQ].scalar_type();
  const auto dnormed_h = mlp_backward(block, a, converted(dy_ND, type), sink);
  const auto dh =
      norm_backward(dnormed_h, {a.h, a.normed_h, a.h_rstd}, w[Norm::kPostAttention], dy_ND);
  sink.norm(Norm::kPostAttention, dh.weight);

  const auto dattended = product(dh.narrow, w[Linear::kO]);
  sink.linear(Linear::kO, dh.narrow, a.attended);
  const auto dnormed = attention_input_backward(block, a, dattended, sink);
  const auto dx = norm_backward(dnormed, {a.x, a.normed, a.rstd}, w[Norm::kInput], dh.x);
  sink.norm(Norm::kInput, dx.weight);
  return dx.x;
}

}  // namespace qf
