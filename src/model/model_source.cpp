#include "qwen3fp4/model/model_source.h"

#include <string_view>
#include <utility>

namespace qf {
namespace {

// "model.layers.3.mlp.up_proj.weight" -> (3, "mlp.up_proj")
std::pair<std::size_t, std::string_view> layer_module(std::string_view name) {
  constexpr std::string_view kPrefix = "model.layers.";
  constexpr std::string_view kSuffix = ".weight";
  name.remove_prefix(kPrefix.size());
  name.remove_suffix(kSuffix.size());
  const std::size_t dot = name.find('.');
  return {std::stoull(std::string(name.substr(0, dot))), name.substr(dot + 1)};
}

}  // namespace

bool ModelSource::has(const std::string& weight) const {
  // The head of a tied model without one of its own is the embedding itself.
  return weight != "lm_head.weight" || &model_.lm_head() != &model_.embed_tokens();
}

WeightMatrix ModelSource::matrix(const WeightSpec& spec) {
  if (spec.kind == WeightKind::kEmbedding) return model_.embed_tokens();
  if (spec.kind == WeightKind::kHead) return model_.lm_head();
  const auto [layer, module] = layer_module(spec.name);
  return weight_of(model_.layers().at(layer), module);
}

at::Tensor ModelSource::norm(const WeightSpec& spec) {
  if (spec.name == "model.norm.weight") return model_.norm();
  const auto [layer, module] = layer_module(spec.name);
  return norm_of(model_.layers().at(layer), module);
}

}  // namespace qf
