#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "block_kernels.h"
#include "deterministic.h"
#include "operations.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/quant/parallel.h"

// Shapes in this file: N rows, H query heads, K key/value heads, G = H/K query heads that share
// one, E head_dim; of one task: n key/value heads, t query rows, s key rows that they may see.
namespace qf {
namespace {

// Query rows of which scores exist at a time.
constexpr std::int64_t kTileRows = 128;

bool flash(const at::Tensor& q_NHE) { return q_NHE.is_cuda() && q_NHE.scalar_type() != at::kFloat; }

double scale_of(const at::Tensor& q_NHE) {
  return 1.0 / std::sqrt(static_cast<double>(q_NHE.size(2)));
}

// Some key/value heads of one sequence, and a tile of its query rows.
struct Tile {
  std::int64_t start, length;  // the sequence's rows
  std::int64_t head, heads;    // key/value heads
  std::int64_t first, rows;    // query rows, within the sequence
  [[nodiscard]] std::int64_t visible() const { return first + rows; }

  // [n, t * G, E] of a tensor [N, H, E].
  [[nodiscard]] at::Tensor queries(const at::Tensor& x_NHE, std::int64_t group) const {
    return x_NHE.narrow(0, start + first, rows)
        .narrow(1, head * group, heads * group)
        .view({rows, heads, group, x_NHE.size(2)})
        .transpose(0, 1)
        .reshape({heads, rows * group, x_NHE.size(2)});
  }
  void put_queries(const at::Tensor& values, const at::Tensor& out_NHE, std::int64_t group) const {
    out_NHE.narrow(0, start + first, rows)
        .narrow(1, head * group, heads * group)
        .view({rows, heads, group, out_NHE.size(2)})
        .copy_(values.view({heads, rows, group, out_NHE.size(2)}).transpose(0, 1));
  }
  // [n, s, E] of a tensor [N, K, E]; a view.
  [[nodiscard]] at::Tensor keys(const at::Tensor& x_NKE) const {
    return x_NKE.narrow(0, start, visible()).narrow(1, head, heads).transpose(0, 1);
  }
};

// run(tile) for every tile: the tiles of one head in order in one task, since they add to the same
// keys. A GPU gets all heads at once.
void for_each_tile(const at::Tensor& k_NKE, const PackedRows& rows,
                   const std::function<void(const Tile&)>& run) {
  const std::int64_t heads = k_NKE.size(1);
  const auto sequence = [&](std::int64_t index, std::int64_t head, std::int64_t count) {
    const std::int64_t start = rows.starts[static_cast<std::size_t>(index)];
    const std::int64_t length = rows.starts[static_cast<std::size_t>(index) + 1] - start;
    for (std::int64_t first = 0; first < length; first += kTileRows) {
      run({start, length, head, count, first, std::min(kTileRows, length - first)});
    }
  };
  const std::int64_t sequences = std::ssize(rows.starts) - 1;
  if (k_NKE.is_cuda()) {
    for (std::int64_t i = 0; i < sequences; ++i) sequence(i, 0, heads);
    return;
  }
  parallel_chunks(sequences * heads, 1, [&](std::int64_t task, std::int64_t) {
    sequence(task / heads, task % heads, 1);
  });
}

// [n, t * G, s] of scaled queries.
at::Tensor probabilities(const Tile& tile, const at::Tensor& queries, const at::Tensor& keys) {
  const std::int64_t group = queries.size(1) / tile.rows;
  auto scores = at::bmm(queries, keys.transpose(1, 2));
  if (tile.rows > 1) {
    const auto future =
        at::ones({tile.rows, tile.visible()}, keys.options().dtype(at::kBool)).triu(tile.first + 1);
    scores.view({tile.heads, tile.rows, group, tile.visible()})
        .masked_fill_(future.unsqueeze(1), -std::numeric_limits<float>::infinity());
  }
  return at::softmax(scores, -1);
}

Attended exact_attention(const at::Tensor& q_NHE, const at::Tensor& k_NKE, const at::Tensor& v_NKE,
                         const PackedRows& rows) {
  const std::int64_t group = q_NHE.size(1) / k_NKE.size(1);
  Attended attended{.out_NHE = at::empty_like(q_NHE)};
  for_each_tile(k_NKE, rows, [&](const Tile& tile) {
    const auto queries = tile.queries(q_NHE, group) * scale_of(q_NHE);
    const auto p = probabilities(tile, queries, tile.keys(k_NKE));
    tile.put_queries(at::bmm(p, tile.keys(v_NKE)), attended.out_NHE, group);
  });
  return attended;
}

AttentionInputs exact_backward(const at::Tensor& dout_NHE, const AttentionInputs& inputs,
                               const PackedRows& rows) {
  const at::Tensor& q_NHE = inputs.q_NHE;
  const at::Tensor& k_NKE = inputs.k_NKE;
  const at::Tensor& v_NKE = inputs.v_NKE;
  const std::int64_t group = q_NHE.size(1) / k_NKE.size(1);
  const double scale = scale_of(q_NHE);
  AttentionInputs gradient{at::empty_like(q_NHE), at::zeros_like(k_NKE), at::zeros_like(v_NKE)};
  for_each_tile(k_NKE, rows, [&](const Tile& tile) {
    const auto queries = tile.queries(q_NHE, group) * scale;
    const auto dout = tile.queries(dout_NHE, group);
    const auto keys = tile.keys(k_NKE);
    const auto p = probabilities(tile, queries, keys);
    tile.keys(gradient.v_NKE).add_(at::bmm(p.transpose(1, 2), dout));
    const auto dp = at::bmm(dout, tile.keys(v_NKE).transpose(1, 2));
    const auto dscores = at::_softmax_backward_data(dp, p, -1, at::kFloat);
    tile.put_queries(at::bmm(dscores, keys) * scale, gradient.q_NHE, group);
    tile.keys(gradient.k_NKE).add_(at::bmm(dscores.transpose(1, 2), queries));
  });
  return gradient;
}

// What libtorch's flash attention returns, so that its backward takes it, which without dropout
// reads no random state.
Attended prompt_attention(const at::Tensor& q_NHE, const at::Tensor& k_NKE, const at::Tensor& v_NKE,
                          const PackedRows& rows) {
  Attended attended{
      .out_NHE = at::empty_like(q_NHE),
      .logsumexp = at::empty({q_NHE.size(1), q_NHE.size(0)}, q_NHE.options().dtype(at::kFloat)),
      .random_state = at::empty({2}, q_NHE.options().dtype(at::kUInt64)),
      .unused = at::empty({}, q_NHE.options().dtype(at::kUInt64))};
  for (std::size_t i = 0; i + 1 < rows.starts.size(); ++i) {
    on_cuda::prompt_attention({q_NHE, k_NKE, v_NKE, attended.out_NHE, attended.logsumexp,
                               rows.starts[i], rows.starts[i + 1] - rows.starts[i]});
  }
  return attended;
}

}  // namespace

Attended attention(const at::Tensor& q_NHE, const at::Tensor& k_NKE, const at::Tensor& v_NKE,
                   const PackedRows& rows) {
  if (!flash(q_NHE)) {
    auto attended = exact_attention(converted(q_NHE, at::kFloat), converted(k_NKE, at::kFloat),
                                    converted(v_NKE, at::kFloat), rows);
    attended.out_NHE = converted(attended.out_NHE, q_NHE.scalar_type());
    return attended;
  }
  const std::int64_t width = q_NHE.size(2);
  QF_CHECK(width % 8 == 0 && width <= 256,
           "attention in bf16: expected a head_dim that is a multiple of 8 up to 256, got {} "
           "(--compute-dtype fp32)",
           width);
  if (rows.shortest() >= on_cuda::kPromptAttentionTokens && on_cuda::has_prompt_attention(width)) {
    return prompt_attention(q_NHE, k_NKE, v_NKE, rows);
  }
  auto [out, logsumexp, random_state, unused, debug] = at::_flash_attention_forward(
      q_NHE, k_NKE, v_NKE, rows.device_starts, rows.device_starts, rows.longest, rows.longest,
      /*dropout_p=*/0.0, /*is_causal=*/true, /*return_debug_mask=*/false, scale_of(q_NHE));
  return {std::move(out), std::move(logsumexp), std::move(random_state), std::move(unused)};
}

AttentionInputs attention_backward(const at::Tensor& dout_NHE, const AttentionInputs& inputs,
                                   const Attended& attended, const PackedRows& rows) {
  const auto type = inputs.q_NHE.scalar_type();
  if (!flash(inputs.q_NHE)) {
    const auto exact = [](const at::Tensor& x) { return converted(x, at::kFloat); };
    const auto gradient = exact_backward(
        exact(dout_NHE), {exact(inputs.q_NHE), exact(inputs.k_NKE), exact(inputs.v_NKE)}, rows);
    return {converted(gradient.q_NHE, type), converted(gradient.k_NKE, type),
            converted(gradient.v_NKE, type)};
  }
  const DeterministicOrder order;
  auto [dq, dk, dv] = at::_flash_attention_backward(
      dout_NHE, inputs.q_NHE, inputs.k_NKE, inputs.v_NKE, attended.out_NHE, attended.logsumexp,
      rows.device_starts, rows.device_starts, rows.longest, rows.longest, /*dropout_p=*/0.0,
      /*is_causal=*/true, attended.random_state, attended.unused, scale_of(inputs.q_NHE));
  return {std::move(dq), std::move(dk), std::move(dv)};
}

}  // namespace qf
