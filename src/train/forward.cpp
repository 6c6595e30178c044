#include "qwen3fp4/train/forward.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <string_view>
#include <utility>

#include "operations.h"

namespace qf {
namespace {

at::Tensor run_tapped(const ModelWeights& model, const PackedRows& rows, at::ScalarType type,
                      const Tap& tap) {
  auto x_ND = model.embed(rows.ids).to(type);
  if (tap) x_ND = tap("model.embed_tokens", x_ND);
  for (std::int64_t layer = 0; layer < model.config().num_hidden_layers; ++layer) {
    const auto weights = model.block(layer, type);
    const Block block{model.config(), model.backend(), weights, rows, layer, tap};
    x_ND = block_output(block, block_activations(block, x_ND));
  }
  return x_ND;
}

}  // namespace

at::Tensor run_blocks(const ModelWeights& model, const PackedRows& rows, at::ScalarType type) {
  const c10::InferenceMode no_autograd;
  return run_tapped(model, rows, type, {});
}

FinalNorm final_norm(const ModelWeights& model, const at::Tensor& x_MD) {
  const c10::InferenceMode no_autograd;
  auto normed =
      rms_norm(x_MD, model.norm().rows(at::kFloat).view({-1}), model.config().rms_norm_eps);
  return {std::move(normed.y), std::move(normed.rstd)};
}

std::string first_non_finite(const ModelWeights& model, const PackedRows& rows,
                             at::ScalarType type) {
  const c10::InferenceMode no_autograd;
  std::string found;
  const Tap tap = [&](std::string_view module, const at::Tensor& output) {
    if (found.empty() && !at::isfinite(output).all().item<bool>()) found = module;
    return output;
  };
  const auto x_ND = run_tapped(model, rows, type, tap);
  (void)tap("model.norm", final_norm(model, x_ND.to(at::kFloat)).hidden_MD);
  return found;
}

}  // namespace qf
