#include "training_model.h"

#include <stdexcept>
#include <string_view>

namespace qf::test {
namespace {

// "model.layers.3.mlp.up_proj.weight" -> (3, "mlp.up_proj")
std::pair<std::size_t, std::string> layer_module(const std::string& name) {
  const std::string prefix = "model.layers.";
  const auto dot = name.find('.', prefix.size());
  const std::string suffix = ".weight";
  return {std::stoull(name.substr(prefix.size())),
          name.substr(dot + 1, name.size() - dot - 1 - suffix.size())};
}

}  // namespace

WeightMatrix ModelSource::matrix(const WeightSpec& spec) {
  if (spec.kind == WeightKind::kEmbedding) return model_.embed_tokens();
  if (spec.kind == WeightKind::kHead) return model_.lm_head();
  const auto [layer, module] = layer_module(spec.name);
  return weight_of(model_.layers()[layer], module);
}

at::Tensor ModelSource::norm(const WeightSpec& spec) {
  if (spec.name == "model.norm.weight") return model_.norm();
  const auto [layer, module] = layer_module(spec.name);
  return norm_of(model_.layers()[layer], module);
}

namespace {

ModelWeights record(const Qwen3Model& model, const Backend& backend,
                    std::map<std::string, RecordedWeight*>& recorded) {
  ModelSource source(model);
  return ModelWeights::load(
      model.config(), source, backend,
      [&](const WeightSpec& spec, const WeightMatrix& start) -> std::unique_ptr<TrainedWeight> {
        auto weight = std::make_unique<RecordedWeight>(start);
        recorded[spec.name] = weight.get();
        return weight;
      });
}

}  // namespace

RecordedModel::RecordedModel(const Qwen3Model& model, const Backend& backend)
    : weights(record(model, backend, recorded)) {}

TrainSequence random_sequence(const Qwen3Model& model, std::int64_t length, std::uint32_t seed,
                              std::int64_t every) {
  TrainSequence sequence;
  sequence.ids = random_ids(model, length, seed);
  for (std::int64_t i = 0; i < length; ++i) {
    sequence.targets.push_back(i > 0 && i % every == 0);
  }
  return sequence;
}

}  // namespace qf::test
