#include "shadowed_fault.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "qwen3fp4/model/kv_cache.h"

namespace qf {

ShadowedFault::ShadowedFault(const Qwen3Model& model, FaultyBackend& backend,
                             const Injection& injection, std::span<const std::int64_t> ids)
    : model_(model),
      backend_(backend),
      ids_(ids),
      layer_(injection.layer),
      input_(layer_ == 0 ? "model.embed_tokens" : fmt::format("model.layers.{}", layer_ - 1)),
      prefix_(fmt::format("model.layers.{}.", layer_)),
      target_(prefix_ + injection.module) {}

at::Tensor ShadowedFault::compute() {
  at::Tensor result;
  const Tap tap = [&](std::string_view module, const at::Tensor& output) {
    if (module == target_) result = output;
    const auto known = values_.find(module);
    return known == values_.end() ? output : known->second;
  };
  KvCache cache(model_.config(), static_cast<std::int64_t>(ids_.size()));
  backend_.enter(layer_, 0, &model_.layers()[static_cast<std::size_t>(layer_)]);
  (void)ForwardPass(model_, ids_, cache, 0, tap).layer(layer_, values_.at(input_));
  return result;
}

void ShadowedFault::handed_on(std::string_view module, const at::Tensor& value) {
  if (module == input_ || module.starts_with(prefix_)) values_[std::string(module)] = value;
}

}  // namespace qf
