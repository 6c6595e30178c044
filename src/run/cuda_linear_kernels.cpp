// Products: of a token, of a few, of prompts. Operands live in the calls that use them.
// Shapes in this file: T tokens, I/O a weight's input and output features.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <memory>
#include <optional>
#include <utility>

#include "cuda_kernels.h"
#include "qwen3fp4/kernels/cuda/dequantize.h"
#include "qwen3fp4/kernels/cuda/fp4_gemm.h"
#include "qwen3fp4/kernels/cuda/gemm_stream.h"
#include "qwen3fp4/kernels/cuda/linear.h"
#include "qwen3fp4/kernels/cuda/quantize.h"
#include "qwen3fp4/kernels/cuda/token_step.h"
#include "qwen3fp4/model/synthetic.h"
#include "qwen3fp4/quant/scale_tiles.h"

namespace qf {
namespace {

constexpr std::int64_t kFewTokens[] = {1, 2, 4, 8};
constexpr std::int64_t kPromptTokens[] = {512, 2048};
constexpr std::int64_t kWorkspaceBytes = std::int64_t{32} << 20;

using Shared = std::shared_ptr<const WeightMatrix>;

Shared weight_of(WeightFormat format, std::int64_t out, std::int64_t in) {
  return std::make_shared<const WeightMatrix>(
      synthetic_matrix(format, out, in, 0).to({at::kCUDA, 0}));
}
Shared streamed_weight(const CudaBenchDevice& device, std::int64_t out, std::int64_t in) {
  return std::make_shared<const WeightMatrix>(
      device.backend.place(synthetic_matrix(WeightFormat::kNvfp4, out, in, 0)));
}
cuda::StreamView stream_view(const WeightMatrix& weight) {
  return {weight.codes().const_data_ptr<std::uint8_t>(), weight.global_scale(),
          weight.out_features(), weight.in_features()};
}

std::string shape_of(const WeightMatrix& weight) {
  return shape_text(weight.out_features(), weight.in_features());
}
std::int64_t flops_of(const WeightMatrix& weight, std::int64_t tokens) {
  return 2 * tokens * weight.out_features() * weight.in_features();
}

// One of the kernels for 1 to 8 tokens: launch(operands).
template <class Launch>
void add_few_tokens(std::vector<BenchKernel>& kernels, const char* name, const Shared& weight,
                    const Launch& launch) {
  for (const std::int64_t tokens : kFewTokens) {
    const auto x_TI = at::randn({tokens, weight->in_features()}, on_cuda(at::kFloat));
    const auto y_TO = at::empty({tokens, weight->out_features()}, on_cuda(at::kFloat));
    const auto call = [=] {
      check_cuda(launch(*weight, cuda::LinearOperands{floats(x_TI), floats(y_TO), tokens}), name);
    };
    kernels.push_back({.name = name,
                       .shape = shape_of(*weight),
                       .isa = "",
                       .tokens = tokens,
                       .bytes = weight->bytes() + bytes_of({x_TI, y_TO}),
                       .flops = flops_of(*weight, tokens),
                       .call = call});
  }
}

std::vector<BenchKernel> few_tokens(const CudaBenchDevice& device, std::int64_t out,
                                    std::int64_t in) {
  std::vector<BenchKernel> kernels;
  add_few_tokens(kernels, "linear_nvfp4", weight_of(WeightFormat::kNvfp4, out, in),
                 [](const WeightMatrix& w, const cuda::LinearOperands& operands) {
                   return cuda::linear_nvfp4(w.nvfp4_view(), operands, current_stream());
                 });
  add_few_tokens(kernels, "linear_nf4", weight_of(WeightFormat::kNf4, out, in),
                 [](const WeightMatrix& w, const cuda::LinearOperands& operands) {
                   return cuda::linear_nf4(w.nf4_view(), operands, current_stream());
                 });
  if (device.hopper()) {
    add_few_tokens(kernels, "linear_stream", streamed_weight(device, out, in),
                   [](const WeightMatrix& w, const cuda::LinearOperands& operands) {
                     return cuda::linear_stream(stream_view(w), operands, current_stream());
                   });
  }
  return kernels;
}

cuda::TokenMatrix token_matrix(const WeightMatrix& weight) {
  if (weight.format() == WeightFormat::kNf4) return {{}, weight.nf4_view()};
  return {weight.nvfp4_view(), {}};
}

// The graph's.
std::vector<BenchKernel> token_linears(WeightFormat format, std::int64_t out, std::int64_t in) {
  const Shared weight = weight_of(format, out, in);
  const Shared up = weight_of(format, out, in);
  const auto x_I = at::randn({in}, on_cuda(at::kFloat));
  const auto y_O = at::empty({out}, on_cuda(at::kFloat));
  cuda::TokenLinear one{};
  one.matrix[0] = token_matrix(*weight);
  one.y[0] = floats(y_O);
  one.count = 1;
  one.x = floats(x_I);
  cuda::TokenLinear both = one;
  both.matrix[1] = token_matrix(*up);
  both.count = 2;
  const auto row = [&, keep = std::vector{weight, up}](const char* name, std::int64_t weights,
                                                       auto launch) {
    return BenchKernel{.name = fmt::format("{} {}", name, weight_format_name(format)),
                       .shape = shape_text(out, in),
                       .isa = "",
                       .tokens = 1,
                       .bytes = weights * weight->bytes() + bytes_of({x_I, y_O}),
                       .flops = weights * flops_of(*weight, 1),
                       .call = [keep, x_I, y_O, name, launch] { check_cuda(launch(), name); }};
  };
  return {
      row("linear_token", 1, [one] { return cuda::linear_token(one, current_stream()); }),
      row("linear_swiglu_token", 2,
          [both] { return cuda::linear_swiglu_token(both, current_stream()); }),
  };
}

// A prompt through weights in the stream layout that share its activations.
BenchKernel stream_product(const CudaBenchDevice& device, const std::vector<Shared>& weights,
                           std::int64_t tokens) {
  std::vector<cuda::StreamView> views;
  for (const Shared& weight : weights) views.push_back(stream_view(*weight));
  const WeightMatrix& first = *weights.front();
  const auto x_TI = at::randn({tokens, first.in_features()}, on_cuda(at::kHalf));
  const auto arrived = at::zeros({device.multiprocessors}, on_cuda(at::kInt));
  std::vector<at::Tensor> y;
  cuda::GemmOperands<__half, __half> operands{halves(x_TI), tokens, {}};
  BenchKernel kernel{.name = fmt::format("gemm_stream of {}", weights.size()),
                     .shape = shape_of(first),
                     .isa = "",
                     .tokens = tokens,
                     .bytes = bytes_of({x_TI}),
                     .flops = 0,
                     .call = {}};
  for (std::size_t i = 0; i < weights.size(); ++i) {
    y.push_back(at::empty({tokens, weights[i]->out_features()}, on_cuda(at::kHalf)));
    operands.y[i] = halves(y.back());
    kernel.bytes += weights[i]->bytes() + bytes_of({y.back()});
    kernel.flops += flops_of(*weights[i], tokens);
  }
  const cuda::GemmPlan plan = cuda::plan_gemm_stream({views.data(), static_cast<int>(views.size())},
                                                     tokens, device.multiprocessors);
  const auto partial = at::empty({plan.partial_floats()}, on_cuda(at::kFloat));
  kernel.call = [=] {
    const cuda::GemmWeights group{views.data(), static_cast<int>(weights.size())};
    check_cuda(
        cuda::gemm_stream(group, operands, plan,
                          {floats(partial), device_data<std::uint32_t>(arrived)}, current_stream()),
        "gemm_stream");
    static_cast<void>(y);
    static_cast<void>(x_TI);
  };
  return kernel;
}

std::vector<BenchKernel> stream_products(const CudaBenchDevice& device) {
  const std::int64_t hidden = device.config.hidden_size;
  const std::int64_t inner = device.config.intermediate_size;
  const Shared gate = streamed_weight(device, inner, hidden);
  const Shared up = streamed_weight(device, inner, hidden);
  const Shared down = streamed_weight(device, hidden, inner);
  std::vector<BenchKernel> kernels;
  for (const std::int64_t tokens : kPromptTokens) {
    kernels.push_back(stream_product(device, {gate, up}, tokens));
    kernels.push_back(stream_product(device, {down}, tokens));
  }
  return kernels;
}

// What a prompt does without the stream layout: the weight in fp16, then cuBLAS.
std::vector<BenchKernel> unpacked_products(WeightFormat format, std::int64_t out, std::int64_t in) {
  const Shared weight = weight_of(format, out, in);
  const auto w_OI = at::empty({out, in}, on_cuda(at::kHalf));
  std::vector<BenchKernel> kernels;
  for (const std::int64_t tokens : kPromptTokens) {
    const auto x_TI = at::randn({tokens, in}, on_cuda(at::kHalf));
    auto y_TO = at::empty({tokens, out}, on_cuda(at::kHalf));
    const auto call = [=]() mutable {
      check_cuda(weight->format() == WeightFormat::kNf4
                     ? cuda::dequantize_nf4(weight->nf4_view(), halves(w_OI), current_stream())
                     : cuda::dequantize_nvfp4(weight->nvfp4_view(), halves(w_OI), current_stream()),
                 "dequantise");
      at::mm_out(y_TO, x_TI, w_OI.t());
    };
    kernels.push_back({.name = fmt::format("dequantize {} and cuBLAS", weight_format_name(format)),
                       .shape = shape_text(out, in),
                       .isa = "",
                       .tokens = tokens,
                       .bytes = weight->bytes() + bytes_of({w_OI, w_OI, x_TI, y_TO}),
                       .flops = flops_of(*weight, tokens),
                       .call = call});
  }
  return kernels;
}

// Where the device has FP4 tensor cores: the product alone, f32 results.
std::vector<BenchKernel> fp4_products(const CudaBenchDevice& device, std::int64_t out,
                                      std::int64_t in) {
  if (!cuda::fp4_gemm_supported(device.major, device.minor).done()) return {};
  const Shared packed = weight_of(WeightFormat::kNvfp4, out, in);
  const auto weight = std::make_shared<const WeightMatrix>(WeightMatrix::nvfp4_tiled(
      packed->codes(), scale_tiles(packed->scales()), packed->global_scale()));
  const auto gemm = std::make_shared<cuda::Fp4Gemm>();
  const auto workspace = at::empty({kWorkspaceBytes}, on_cuda(at::kByte));
  std::vector<BenchKernel> kernels;
  for (const std::int64_t tokens : {std::int64_t{1}, kPromptTokens[0], kPromptTokens[1]}) {
    const auto codes = at::randint(0, 256, {tokens, in / 2}, on_cuda(at::kByte));
    const auto tiles = scale_tiles(at::full({tokens, in / kNvfp4Block}, 0x38, on_cuda(at::kByte)));
    const auto y_TO = at::empty({tokens, out}, on_cuda(at::kFloat));
    const auto call = [=] {
      const ScaledFp4View x{device_data<const std::uint8_t>(codes),
                            device_data<const std::uint8_t>(tiles), tokens, in};
      const auto status =
          gemm->run({x, weight->scaled_fp4_view(), weight->global_scale()}, floats(y_TO),
                    {workspace.data_ptr(), kWorkspaceBytes}, current_stream());
      QF_CHECK(status.done(), "{}", cuda::message(status));
    };
    kernels.push_back({.name = "fp4_gemm",
                       .shape = shape_text(out, in),
                       .isa = "",
                       .tokens = tokens,
                       .bytes = weight->bytes() + bytes_of({codes, tiles, y_TO}),
                       .flops = flops_of(*weight, tokens),
                       .call = call});
  }
  return kernels;
}

}  // namespace

std::vector<BenchKernelGroup> cuda_linear_kernels(const CudaBenchDevice& device) {
  const std::int64_t hidden = device.config.hidden_size;
  const std::int64_t inner = device.config.intermediate_size;
  const std::int64_t vocab = device.config.vocab_size;
  std::vector<BenchKernelGroup> groups;
  // gate_proj, down_proj, the head
  for (const auto& [out, in] :
       {std::pair{inner, hidden}, std::pair{hidden, inner}, std::pair{vocab, hidden}}) {
    groups.emplace_back([&device, out, in] { return few_tokens(device, out, in); });
  }
  for (const WeightFormat format : {WeightFormat::kNvfp4, WeightFormat::kNf4}) {
    groups.emplace_back([=] { return token_linears(format, inner, hidden); });
  }
  if (device.hopper()) groups.emplace_back([&device] { return stream_products(device); });
  for (const WeightFormat format : {WeightFormat::kNvfp4, WeightFormat::kNf4}) {
    groups.emplace_back([=] { return unpacked_products(format, inner, hidden); });
  }
  groups.emplace_back([&device, inner, hidden] { return fp4_products(device, inner, hidden); });
  return groups;
}

}  // namespace qf
