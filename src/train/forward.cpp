#include "qwen3fp4/train/forward.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "operations.h"
#include "qwen3fp4/train/trainer.h"

namespace qf {
namespace {

at::Tensor run_all(const TrainingPass& pass, std::int64_t layers) {
  auto x_ND = pass.embed();
  for (std::int64_t layer = 0; layer < layers; ++layer) x_ND = pass.layer(layer, x_ND);
  return x_ND;
}

}  // namespace

TrainingPass::TrainingPass(const ModelWeights& model, const PackedRows& rows, at::ScalarType type,
                           Tap tap)
    : model_(model), rows_(rows), type_(type), tap_(std::move(tap)) {}

at::Tensor TrainingPass::embed() const {
  const c10::InferenceMode no_autograd;
  const auto x_ND = model_.embed(rows_.ids).to(type_);
  return tap_ ? tap_("model.embed_tokens", x_ND) : x_ND;
}

at::Tensor TrainingPass::layer(std::int64_t index, const at::Tensor& x_ND) const {
  const c10::InferenceMode no_autograd;
  const auto weights = model_.block(index, type_);
  const Block block{model_.config(), model_.backend(), weights, rows_, index, tap_};
  return block_output(block, block_activations(block, x_ND));
}

at::Tensor TrainingPass::final_norm(const at::Tensor& x_MD) const {
  const auto hidden_MD = qf::final_norm(model_, x_MD.to(at::kFloat)).hidden_MD;
  return tap_ ? tap_("model.norm", hidden_MD) : hidden_MD;
}

at::Tensor TrainingPass::logits(const at::Tensor& hidden_MD) const {
  const c10::InferenceMode no_autograd;
  const auto typed_MD = hidden_MD.to(type_);
  const ModelWeight& head = model_.head();
  const std::int64_t vocab = head.weight().out_features();
  const std::int64_t chunk = LossChunks{}.head_rows;
  auto logits_MV = at::empty({hidden_MD.size(0), vocab}, hidden_MD.options().dtype(at::kFloat));
  for (std::int64_t first = 0; first < vocab; first += chunk) {
    const std::int64_t count = std::min(chunk, vocab - first);
    logits_MV.narrow(1, first, count)
        .copy_(product_f32(typed_MD, head.rows(first, count, type_).t()));
  }
  return tap_ ? tap_("lm_head", logits_MV) : logits_MV;
}

at::Tensor run_blocks(const ModelWeights& model, const PackedRows& rows, at::ScalarType type) {
  return run_all(TrainingPass(model, rows, type), model.config().num_hidden_layers);
}

FinalNorm final_norm(const ModelWeights& model, const at::Tensor& x_MD) {
  const c10::InferenceMode no_autograd;
  auto normed =
      rms_norm(x_MD, model.norm().rows(at::kFloat).view({-1}), model.config().rms_norm_eps);
  return {std::move(normed.y), std::move(normed.rstd)};
}

std::string first_non_finite(const ModelWeights& model, const PackedRows& rows,
                             at::ScalarType type) {
  std::string found;
  const Tap tap = [&](std::string_view module, const at::Tensor& output) {
    if (found.empty() && !at::isfinite(output).all().item<bool>()) found = module;
    return output;
  };
  const TrainingPass pass(model, rows, type, tap);
  (void)pass.final_norm(run_all(pass, model.config().num_hidden_layers));
  return found;
}

}  // namespace qf
