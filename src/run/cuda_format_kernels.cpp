// Packing and unpacking, and the sampling of tokens.
#include <ATen/ATen.h>
#include <fmt/format.h>

#include <memory>
#include <utility>

#include "cuda_kernels.h"
#include "qwen3fp4/kernels/cpu/scale_tiles.h"
#include "qwen3fp4/kernels/cuda/dequantize.h"
#include "qwen3fp4/kernels/cuda/fp4_gemm.h"
#include "qwen3fp4/kernels/cuda/quantize.h"
#include "qwen3fp4/kernels/cuda/sample.h"
#include "qwen3fp4/kernels/cuda/stream_layout.h"
#include "qwen3fp4/model/synthetic.h"

namespace qf {
namespace {

constexpr std::int64_t kPromptTokens = 2048;

using Shared = std::shared_ptr<const WeightMatrix>;

Shared weight_of(WeightFormat format, std::int64_t out, std::int64_t in) {
  return std::make_shared<const WeightMatrix>(
      synthetic_matrix(format, out, in, 0).to({at::kCUDA, 0}));
}

BenchKernel row(std::string name, std::string shape, std::int64_t bytes,
                std::function<void()> call) {
  return {.name = std::move(name),
          .shape = std::move(shape),
          .isa = "",
          .tokens = 0,
          .bytes = bytes,
          .flops = 0,
          .call = std::move(call)};
}

std::vector<BenchKernel> dequantizers(const CudaBenchDevice& device, std::int64_t out,
                                      std::int64_t in) {
  const Shared nvfp4 = weight_of(WeightFormat::kNvfp4, out, in);
  const Shared nf4 = weight_of(WeightFormat::kNf4, out, in);
  const auto dense = at::empty({out, in}, on_cuda(at::kHalf));
  const std::string shape = shape_text(out, in);
  std::vector<BenchKernel> kernels{
      row("dequantize_nvfp4 to fp16", shape, nvfp4->bytes() + bytes_of({dense}),
          [=] {
            check_cuda(cuda::dequantize_nvfp4(nvfp4->nvfp4_view(), halves(dense), current_stream()),
                       "dequantize_nvfp4");
          }),
      row("dequantize_nf4 to fp16", shape, nf4->bytes() + bytes_of({dense}), [=] {
        check_cuda(cuda::dequantize_nf4(nf4->nf4_view(), halves(dense), current_stream()),
                   "dequantize_nf4");
      })};
  if (!device.hopper()) return kernels;
  const auto chunks = at::empty({cuda::stream_bytes(out, in)}, on_cuda(at::kByte));
  kernels.push_back(row("pack_stream", shape, nvfp4->bytes() + bytes_of({chunks}), [=] {
    check_cuda(
        cuda::pack_stream(nvfp4->nvfp4_view(), device_data<std::uint8_t>(chunks), current_stream()),
        "pack_stream");
  }));
  kernels.back().call();  // what the next one reads
  kernels.push_back(row("dequantize_stream to fp16", shape, bytes_of({chunks, dense}), [=] {
    const cuda::StreamView view{device_data<const std::uint8_t>(chunks), 1, out, in};
    check_cuda(cuda::dequantize_stream(view, {0, out}, halves(dense), current_stream()),
               "dequantize_stream");
  }));
  return kernels;
}

std::vector<BenchKernel> quantizers(std::int64_t out, std::int64_t in) {
  const auto dense = at::randn({out, in}, on_cuda(at::kFloat)) * 0.02;
  const auto codes = at::empty({out, in / 2}, on_cuda(at::kByte));
  const auto scales = at::empty({out, in / kNvfp4Block}, on_cuda(at::kByte));
  const auto absmax = at::empty({out * in / kNf4Block}, on_cuda(at::kFloat));
  const auto amax = at::empty({1}, on_cuda(at::kFloat));
  const std::string shape = shape_text(out, in);
  const auto nvfp4 = [=](bool search) {
    const Nvfp4Rule rule{.global_scale = 1e-4F, .search = search, .column_weights = nullptr};
    return [=] {
      check_cuda(cuda::quantize_nvfp4(
                     cuda::Matrix<float>{floats(dense), out, in}, rule,
                     {device_data<std::uint8_t>(codes), device_data<std::uint8_t>(scales)},
                     current_stream()),
                 "quantize_nvfp4");
    };
  };
  return {
      row("absolute_max of f32", shape, bytes_of({dense, amax}),
          [=] {
            check_cuda(
                cuda::absolute_max(floats(dense), dense.numel(), floats(amax), current_stream()),
                "absolute_max");
          }),
      row("quantize_nvfp4 of f32 (amax)", shape, bytes_of({dense, codes, scales}), nvfp4(false)),
      row("quantize_nvfp4 of f32 (search)", shape, bytes_of({dense, codes, scales}), nvfp4(true)),
      row("quantize_nf4 of f32", shape, bytes_of({dense, codes, absmax}), [=] {
        check_cuda(cuda::quantize_nf4(floats(dense), dense.numel(),
                                      {device_data<std::uint8_t>(codes), floats(absmax)},
                                      current_stream()),
                   "quantize_nf4");
      })};
}

// W4A4's, before its product and after it.
std::vector<BenchKernel> activations(std::int64_t cols) {
  std::vector<BenchKernel> kernels;
  for (const std::int64_t tokens : {std::int64_t{1}, kPromptTokens}) {
    const auto x = at::randn({tokens, cols}, on_cuda(at::kFloat));
    const auto y = at::empty({tokens, cols}, on_cuda(at::kHalf));
    const auto codes = at::empty({tokens, cols / 2}, on_cuda(at::kByte));
    const auto tiles =
        at::empty({scale_tiles_bytes(tokens, cols / kNvfp4Block)}, on_cuda(at::kByte));
    const auto scales = at::ones({tokens}, on_cuda(at::kFloat));
    auto quantise =
        row("quantize_activations of f32", "", bytes_of({x, codes, tiles, scales}), [=] {
          check_cuda(cuda::quantize_activations(cuda::Matrix<float>{floats(x), tokens, cols},
                                                {device_data<std::uint8_t>(codes),
                                                 device_data<std::uint8_t>(tiles), floats(scales)},
                                                current_stream()),
                     "quantize_activations");
        });
    auto scale = row("scale_rows, f32 to fp16", "", bytes_of({x, scales, y}), [=] {
      check_cuda(
          cuda::scale_rows({floats(x), floats(scales), tokens, cols}, halves(y), current_stream()),
          "scale_rows");
    });
    for (BenchKernel* kernel : {&quantise, &scale}) {
      kernel->tokens = tokens;
      kernels.push_back(std::move(*kernel));
    }
  }
  return kernels;
}

std::vector<BenchKernel> samplers(std::int64_t vocab) {
  const auto logits = at::randn({vocab}, on_cuda(at::kFloat)) * 3;
  const auto repeated = at::zeros({id_set_words(vocab)}, on_cuda(at::kInt));
  const auto draws = at::rand({4}, on_cuda(at::kDouble));
  const auto state = at::zeros({sizeof(cuda::SampleState)}, on_cuda(at::kByte));
  const auto workspace = at::empty({cuda::sample_workspace_bytes(vocab)}, on_cuda(at::kByte));
  const auto sampler = [&](const char* name, const SampleRule& rule) {
    cuda::SampleStep step{};
    step.logits = floats(logits);
    step.vocab = vocab;
    step.repeated = rule.repetition_penalty == 1 ? nullptr : device_data<std::uint32_t>(repeated);
    step.draws = draws.const_data_ptr<double>();
    step.draws_made = draws.numel();
    step.state = device_data<cuda::SampleState>(state);
    step.workspace = workspace.data_ptr();
    auto kernel = row(
        fmt::format("sample_token, {}", name), fmt::format("{}", vocab), bytes_of({logits}), [=] {
          check_cuda(cuda::sample_token(rule, step, current_stream()), "sample_token");
          static_cast<void>(logits);
          static_cast<void>(repeated);
          static_cast<void>(draws);
          static_cast<void>(workspace);
        });
    // A step takes a draw, and one without draws does nothing.
    kernel.prepare = [state] { state.zero_(); };
    return kernel;
  };
  return {sampler("greedy", {0, 0, 1, 0, 1}), sampler("temperature", {0.7, 0, 1, 0, 1}),
          sampler("top-k 20, top-p 0.8", {0.7, 20, 0.8, 0, 1}),
          sampler("top-p 0.95, penalty 1.05", {0.7, 0, 0.95, 0, 1.05F})};
}

}  // namespace

std::vector<BenchKernelGroup> cuda_format_kernels(const CudaBenchDevice& device) {
  const std::int64_t hidden = device.config.hidden_size;
  const std::int64_t inner = device.config.intermediate_size;
  return {[&device, inner, hidden] { return dequantizers(device, inner, hidden); },
          [inner, hidden] { return quantizers(inner, hidden); },
          [inner] { return activations(inner); }};
}

std::vector<BenchKernelGroup> cuda_choice_kernels(const CudaBenchDevice& device) {
  return {[vocab = device.config.vocab_size] { return samplers(vocab); }};
}

}  // namespace qf
