#include "qwen3fp4/train/model_weights.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "adam_kernels.h"
#include "qwen3fp4/base/error.h"

namespace qf {
namespace {

// The position of `name` ("model.layers.3.mlp.up_proj.weight") in a layer's list of modules.
template <std::size_t count>
std::optional<std::size_t> place_in(const std::array<std::string_view, count>& modules,
                                    std::string_view name) {
  for (std::size_t i = 0; i < count; ++i) {
    if (name.ends_with(fmt::format(".{}.weight", modules[i]))) return i;
  }
  return std::nullopt;
}

template <class Weights, class Visit>
void visit_present(Weights& weights, const Visit& visit) {
  for (auto& weight : weights) {
    if (weight) visit(*weight);
  }
}

// The number in "model.layers.3.mlp.up_proj.weight"; nothing for weights outside of layers.
std::optional<std::size_t> layer_of(std::string_view name) {
  constexpr std::string_view kPrefix = "model.layers.";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  return std::stoull(std::string(name.substr(kPrefix.size())));
}

}  // namespace

void check_embedding_trains(bool with_head) {
  if (with_head) return;
  fail(ExitCode::kUsage,
       "--train-embedding: expected a model with a head of its own, found one whose embedding is "
       "its head (convert makes one with a head)");
}

ModelWeight::ModelWeight(WeightSpec spec, WeightMatrix frozen)
    : spec_(std::move(spec)), frozen_(std::move(frozen)) {}

ModelWeight::ModelWeight(WeightSpec spec, std::unique_ptr<TrainedWeight> trained)
    : spec_(std::move(spec)), trained_(std::move(trained)) {}

std::optional<Nvfp4View> ModelWeight::packed_view() const {
  const WeightMatrix& now = weight();
  if (now.format() != WeightFormat::kNvfp4 || now.scales().scalar_type() != at::kByte) {
    return std::nullopt;
  }
  return now.nvfp4_view();
}

at::Tensor ModelWeight::rows(std::int64_t first, std::int64_t count, at::ScalarType dtype) const {
  if (trained_) return trained_->dequantize_rows(first, count, dtype);
  const at::Device device = frozen_->device();
  if (const auto view = packed_view()) {
    return adam::dequantize(*view, {first, count}, at::device(device).dtype(dtype));
  }
  if (device.is_cpu()) return frozen_->dequantize_rows(first, count).to(dtype);
  QF_CHECK(frozen_->format() != WeightFormat::kNvfp4 && frozen_->format() != WeightFormat::kNf4,
           "{}: expected NVFP4 with E4M3 scales or a float type on a GPU, found {} (convert)",
           spec_.name, weight_format_name(frozen_->format()));
  return frozen_->dense_values().narrow(0, first, count).to(dtype);
}

ModelWeight ModelWeight::frozen_copy() const {
  if (!trained_) return {spec_, *frozen_};
  const WeightMatrix& now = weight();
  if (now.format() == WeightFormat::kNvfp4) {
    return {spec_, WeightMatrix::nvfp4(now.codes().clone(), now.scales(), now.global_scale())};
  }
  if (now.format() == WeightFormat::kNf4) {
    throw std::logic_error("NF4 weights are not trained");
  }
  return {spec_, WeightMatrix::dense(now.dense_values().clone())};
}

ModelWeights ModelWeights::load(ModelConfig config, WeightSource& source, const Backend& backend,
                                const MakeTrained& make) {
  const c10::InferenceMode no_autograd;
  ModelWeights model;
  model.backend_ = &backend;
  model.layers_.resize(static_cast<std::size_t>(config.num_hidden_layers));
  const bool with_head = !config.tie_word_embeddings || source.has("lm_head.weight");
  for_each_weight(config, with_head, [&](const WeightSpec& spec) {
    auto start = (spec.kind == WeightKind::kNorm
                      ? WeightMatrix::dense(source.norm(spec).view({1, spec.shape[0]}))
                      : source.matrix(spec))
                     .to(backend.device());
    auto trained = make(spec, start);
    if (trained && spec.kind == WeightKind::kEmbedding) check_embedding_trains(with_head);
    ModelWeight weight =
        trained ? ModelWeight(spec, std::move(trained)) : ModelWeight(spec, std::move(start));
    const auto layer = layer_of(spec.name);
    if (!layer) {
      auto& place = spec.kind == WeightKind::kEmbedding ? model.embed_tokens_
                    : spec.kind == WeightKind::kHead    ? model.head_
                                                        : model.norm_;
      place.emplace(std::move(weight));
    } else if (const auto linear = place_in(kLayerLinears, spec.name)) {
      model.layers_[*layer].linears[*linear].emplace(std::move(weight));
    } else {
      model.layers_[*layer].norms[place_in(kLayerNorms, spec.name).value()].emplace(
          std::move(weight));
    }
  });
  source.check_nothing_left();
  model.config_ = std::move(config);
  return model;
}

ModelWeights ModelWeights::frozen_copy() const {
  const c10::InferenceMode no_autograd;
  ModelWeights copy;
  copy.config_ = config_;
  copy.backend_ = backend_;
  copy.embed_tokens_.emplace(embed_tokens_->frozen_copy());
  copy.norm_.emplace(norm_->frozen_copy());
  if (head_) copy.head_.emplace(head_->frozen_copy());
  for (const LayerWeights& layer : layers_) {
    LayerWeights& target = copy.layers_.emplace_back();
    for (std::size_t i = 0; i < layer.linears.size(); ++i) {
      target.linears[i].emplace(layer.linears[i]->frozen_copy());
    }
    for (std::size_t i = 0; i < layer.norms.size(); ++i) {
      if (layer.norms[i]) target.norms[i].emplace(layer.norms[i]->frozen_copy());
    }
  }
  return copy;
}

at::Tensor ModelWeights::embed(const at::Tensor& ids_N) const {
  return backend_->embed(ids_N, embed_tokens_->weight());
}

BlockWeights ModelWeights::block(std::int64_t layer, at::ScalarType dtype) const {
  const LayerWeights& weights = this->layer(layer);
  BlockWeights block;
  // The packed ones at once: on a GPU each launch costs the host as long as the device.
  std::vector<Nvfp4View> packed;
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < weights.linears.size(); ++i) {
    if (const auto view = weights.linears[i]->packed_view()) {
      packed.push_back(*view);
      places.push_back(i);
    } else {
      block.linears[i] = weights.linears[i]->rows(dtype);
    }
  }
  auto unpacked = adam::dequantize(packed, at::device(backend_->device()).dtype(dtype));
  for (std::size_t i = 0; i < places.size(); ++i) {
    block.linears[places[i]] = std::move(unpacked[i]);
  }
  for (std::size_t i = 0; i < weights.norms.size(); ++i) {
    if (weights.norms[i]) block.norms[i] = weights.norms[i]->rows(at::kFloat).view({-1});
  }
  return block;
}

std::int64_t ModelWeights::first_trained_layer() const {
  if (embed_tokens_->trained() != nullptr) return 0;
  const auto trains = [](const LayerWeights& layer) {
    bool any = false;
    const auto look = [&](const ModelWeight& weight) { any |= weight.trained() != nullptr; };
    visit_present(layer.linears, look);
    visit_present(layer.norms, look);
    return any;
  };
  return std::ranges::find_if(layers_, trains) - layers_.begin();
}

void ModelWeights::for_each(const std::function<void(const ModelWeight&)>& visit) const {
  visit(*embed_tokens_);
  for (const LayerWeights& layer : layers_) {
    visit_present(layer.norms, visit);
    visit_present(layer.linears, visit);
  }
  visit(*norm_);
  if (head_) visit(*head_);
}

std::int64_t ModelWeights::weight_bytes() const {
  std::int64_t total = 0;
  for_each([&](const ModelWeight& weight) { total += weight.weight().bytes(); });
  return total;
}

std::int64_t ModelWeights::state_bytes() const {
  std::int64_t total = 0;
  for_each([&](const ModelWeight& weight) {
    if (weight.trained() != nullptr) total += weight.trained()->state_bytes();
  });
  return total;
}

}  // namespace qf
