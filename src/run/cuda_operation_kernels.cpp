// Norms, heads, attention, MLP: of prompts and of one token behind a cache.
// Shapes in this file: T tokens, D hidden_size, F intermediate_size, H query heads, K key/value
// heads, E head_dim, C positions of a cache.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <utility>

#include "cuda_kernels.h"
#include "qwen3fp4/kernels/cuda/attention.h"
#include "qwen3fp4/kernels/cuda/operations.h"
#include "qwen3fp4/kernels/cuda/token_step.h"

namespace qf {
namespace {

constexpr std::int64_t kTokens = 2048;
constexpr float kEps = 1e-6F;

BenchKernel row(const char* name, std::int64_t tokens, std::int64_t bytes,
                std::function<void()> call) {
  return {.name = name,
          .shape = "",
          .isa = "",
          .tokens = tokens,
          .bytes = bytes,
          .flops = 0,
          .call = std::move(call)};
}

std::vector<BenchKernel> of_prompts(const ModelConfig& config) {
  const std::int64_t hidden = config.hidden_size;
  const std::int64_t heads = config.num_attention_heads;
  const std::int64_t width = config.head_dim;
  const auto x_TD = at::randn({kTokens, hidden}, on_cuda(at::kFloat));
  const auto sum_TD = at::empty_like(x_TD);
  const auto branch_TD = at::randn({kTokens, hidden}, on_cuda(at::kHalf));
  const auto weight = at::ones({hidden}, on_cuda(at::kFloat));
  const auto q_THE = at::randn({kTokens, heads, width}, on_cuda(at::kHalf));
  const auto turned_THE = at::empty_like(q_THE);
  const auto angle_TE = at::randn({kTokens, width}, on_cuda(at::kFloat));
  const auto gate_TF = at::randn({kTokens, config.intermediate_size}, on_cuda(at::kHalf));
  const auto up_TF = at::randn_like(gate_TF);
  const auto out_TF = at::empty_like(gate_TF);
  return {row("rms_norm, f32 to fp16", kTokens, bytes_of({x_TD, weight, branch_TD}),
              [=] {
                check_cuda(cuda::rms_norm(floats(x_TD), floats(weight), kEps, {kTokens, hidden},
                                          halves(branch_TD), current_stream()),
                           "rms_norm");
              }),
          row("rms_norm of heads, fp16", kTokens, bytes_of({q_THE, turned_THE}),
              [=] {
                check_cuda(
                    cuda::rms_norm(halves(q_THE), floats(weight), kEps, {kTokens * heads, width},
                                   halves(turned_THE), current_stream()),
                    "rms_norm");
              }),
          row("apply_rope, fp16", kTokens, bytes_of({q_THE, angle_TE, angle_TE, turned_THE}),
              [=] {
                check_cuda(
                    cuda::apply_rope(halves(q_THE), floats(angle_TE), floats(angle_TE),
                                     {kTokens, heads, width}, halves(turned_THE), current_stream()),
                    "apply_rope");
              }),
          row("swiglu, fp16", kTokens, bytes_of({gate_TF, up_TF, out_TF}),
              [=] {
                check_cuda(cuda::swiglu(halves(gate_TF), halves(up_TF), gate_TF.numel(),
                                        halves(out_TF), current_stream()),
                           "swiglu");
              }),
          row("add, f32 and fp16", kTokens, bytes_of({x_TD, branch_TD, sum_TD}), [=] {
            check_cuda(cuda::add(floats(x_TD), halves(branch_TD), x_TD.numel(), floats(sum_TD),
                                 current_stream()),
                       "add");
          })};
}

// Heads of training: norm and rotation at once, and their derivatives.
std::vector<BenchKernel> of_training(const ModelConfig& config) {
  const std::int64_t heads = config.num_attention_heads;
  const std::int64_t width = config.head_dim;
  const cuda::RopeShape shape{kTokens, heads, width};
  const auto x_THE = at::randn({kTokens, heads, width}, on_cuda(at::kBFloat16));
  const auto y_THE = at::empty_like(x_THE);
  const auto rstd = at::ones({kTokens, heads}, on_cuda(at::kFloat));
  const auto weight = at::ones({width}, on_cuda(at::kFloat));
  const auto angle_TE = at::randn({kTokens, width}, on_cuda(at::kFloat));
  const auto parts = at::empty({cuda::kRotationParts, width}, on_cuda(at::kFloat));
  const cuda::RotationTables tables{floats(weight), floats(angle_TE), floats(angle_TE)};
  const auto gate_TF = at::randn({kTokens, config.intermediate_size}, on_cuda(at::kBFloat16));
  const auto up_TF = at::randn_like(gate_TF);
  const auto dy_TF = at::randn_like(gate_TF);
  const auto dgate_TF = at::empty_like(gate_TF);
  const auto dup_TF = at::empty_like(gate_TF);
  const std::vector<at::Tensor> borrowed{weight, angle_TE};
  return {row("rotate_heads, bf16", kTokens, bytes_of({x_THE, angle_TE, angle_TE, y_THE, rstd}),
              [=] {
                check_cuda(cuda::rotate_heads(bf16s(x_THE), tables, kEps, shape, bf16s(y_THE),
                                              floats(rstd), current_stream()),
                           "rotate_heads");
                static_cast<void>(borrowed);
              }),
          row("rotate_heads_backward, bf16", kTokens,
              bytes_of({x_THE, x_THE, y_THE, angle_TE, angle_TE, rstd, parts}),
              [=] {
                const cuda::RotationGradient<__nv_bfloat16> gradient{
                    bf16s(x_THE), bf16s(x_THE), floats(rstd), bf16s(y_THE), floats(parts)};
                check_cuda(cuda::rotate_heads_backward(gradient, tables, shape, current_stream()),
                           "rotate_heads_backward");
                static_cast<void>(borrowed);
              }),
          row("swiglu_backward, bf16", kTokens, bytes_of({gate_TF, up_TF, dy_TF, dgate_TF, dup_TF}),
              [=] {
                const cuda::SwigluOperands<__nv_bfloat16> in{bf16s(gate_TF), bf16s(up_TF),
                                                             bf16s(dy_TF)};
                check_cuda(cuda::swiglu_backward(in, gate_TF.numel(), bf16s(dgate_TF),
                                                 bf16s(dup_TF), current_stream()),
                           "swiglu_backward");
              })};
}

at::Tensor token_state(std::int64_t position) {
  const cuda::TokenState state{position, 0};
  return at::from_blob(const_cast<cuda::TokenState*>(&state), {sizeof state}, at::kByte)
      .to(at::kCUDA);
}

// The graph's kernels for a token behind `depth` others: heads and attention.
std::vector<BenchKernel> of_a_token(const ModelConfig& config, std::int64_t depth) {
  const std::int64_t heads = config.num_attention_heads;
  const std::int64_t kv_heads = config.num_key_value_heads;
  const std::int64_t width = config.head_dim;
  const std::int64_t context = depth + 1;
  const auto f32 = on_cuda(at::kFloat);
  const auto keys_KCE = at::randn({kv_heads, context, width}, on_cuda(at::kHalf));
  const auto values_KCE = at::randn_like(keys_KCE);
  const auto q_HE = at::randn({heads, width}, f32);
  const auto k_KE = at::randn({kv_heads, width}, f32);
  const auto out_HE = at::empty_like(q_HE);
  const auto angle_CE = at::randn({context, width}, f32);
  const auto norm_E = at::ones({width}, f32);
  const auto partial = at::empty({cuda::token_attention_floats(heads, width)}, f32);
  const auto state = token_state(depth);
  const cuda::TokenAttention<__half> a{.heads = heads,
                                       .kv_heads = kv_heads,
                                       .head_dim = width,
                                       .context = context,
                                       .keys = halves(keys_KCE),
                                       .values = halves(values_KCE),
                                       .cos = floats(angle_CE),
                                       .sin = floats(angle_CE),
                                       .q_norm = floats(norm_E),
                                       .k_norm = floats(norm_E),
                                       .eps = kEps,
                                       .q = floats(q_HE),
                                       .k = floats(k_KE),
                                       .v = floats(k_KE),
                                       .partial = floats(partial),
                                       .out = floats(out_HE),
                                       .state = device_data<const cuda::TokenState>(state)};
  const std::vector<at::Tensor> borrowed{keys_KCE, values_KCE, q_HE,    k_KE, out_HE,
                                         angle_CE, norm_E,     partial, state};
  // q and k in, q out, k and v into the cache.
  const std::int64_t placed =
      bytes_of({q_HE, q_HE, k_KE, k_KE, norm_E, norm_E}) + 2 * width * 4 + 2 * kv_heads * width * 2;
  auto place = row("place_heads (norm, RoPE, cache)", 1, placed, [a, borrowed] {
    check_cuda(cuda::place_heads(a, current_stream()), "place_heads");
  });
  auto attend =
      row("attend_token", 1, bytes_of({keys_KCE, values_KCE, q_HE, out_HE}),
          [a, borrowed] { check_cuda(cuda::attend_token(a, current_stream()), "attend_token"); });
  place.shape = attend.shape = fmt::format("{} cached", depth);
  return {std::move(place), std::move(attend)};
}

std::vector<BenchKernel> of_a_token_anywhere(const ModelConfig& config) {
  const std::int64_t hidden = config.hidden_size;
  const auto x_D = at::randn({hidden}, on_cuda(at::kFloat));
  const auto addend_D = at::randn_like(x_D);
  const auto weight_D = at::ones_like(x_D);
  const auto y_D = at::empty_like(x_D);
  const auto table_VD = at::randn({1024, hidden}, on_cuda(at::kBFloat16));
  const auto state = token_state(0);
  return {row("embed_token, bf16", 1, bytes_of({x_D}) + hidden * 2,
              [=] {
                check_cuda(cuda::embed_token(bf16s(table_VD), hidden,
                                             device_data<const cuda::TokenState>(state),
                                             floats(y_D), current_stream()),
                           "embed_token");
              }),
          row("add_rms_norm", 1, bytes_of({x_D, x_D, addend_D, weight_D, y_D}), [=] {
            const cuda::NormStep step{floats(x_D), floats(addend_D), floats(weight_D),
                                      kEps,        hidden,           floats(y_D)};
            check_cuda(cuda::add_rms_norm(step, current_stream()), "add_rms_norm");
          })};
}

// 4 a pair of query and visible position, and value of a head.
BenchKernel prompt_attention(const ModelConfig& config, std::int64_t tokens, std::int64_t before) {
  const std::int64_t heads = config.num_attention_heads;
  const std::int64_t width = config.head_dim;
  const std::int64_t positions = before + tokens;
  const auto q_THE = at::randn({tokens, heads, width}, on_cuda(at::kHalf));
  const auto out_THE = at::empty_like(q_THE);
  const auto k_KCE = at::randn({config.num_key_value_heads, positions, width}, on_cuda(at::kHalf));
  const auto v_KCE = at::randn_like(k_KCE);
  const cuda::AttentionShape shape{
      tokens, positions, heads, config.num_key_value_heads, width, width, positions * width};
  auto kernel =
      row("prompt_attention, fp16", tokens, bytes_of({q_THE, k_KCE, v_KCE, out_THE}), [=] {
        const cuda::AttentionOperands<__half> operands{halves(q_THE), halves(k_KCE), halves(v_KCE),
                                                       halves(out_THE)};
        check_cuda(cuda::prompt_attention(operands, shape, current_stream()), "prompt_attention");
      });
  kernel.shape = fmt::format("{} cached", before);
  kernel.flops = 4 * heads * width * (tokens * before + tokens * (tokens + 1) / 2);
  return kernel;
}

}  // namespace

std::vector<BenchKernelGroup> cuda_operation_kernels(const CudaBenchDevice& device) {
  const ModelConfig& config = device.config;
  std::vector<BenchKernelGroup> groups{[&config] { return of_prompts(config); },
                                       [&config] { return of_a_token_anywhere(config); }};
  for (const std::int64_t depth : {512, 4096, 16384}) {
    groups.emplace_back([&config, depth] { return of_a_token(config, depth); });
  }
  if (device.hopper()) {
    for (const auto& [tokens, before] : {std::pair{512, 0}, {2048, 0}, {2048, 4096}}) {
      groups.emplace_back([&config, tokens, before] {
        return std::vector{prompt_attention(config, tokens, before)};
      });
    }
  }
  groups.emplace_back([&config] { return of_training(config); });
  return groups;
}

}  // namespace qf
