#include "training_model.h"

namespace qf::test {
namespace {

ModelWeights record(const Qwen3Model& model, const Backend& backend,
                    std::map<std::string, RecordedWeight*>& recorded) {
  ModelSource source(model);
  return ModelWeights::load(
      model.config(), source, backend,
      [&](const WeightSpec& spec, const WeightMatrix& start) -> std::unique_ptr<TrainedWeight> {
        // Which is the head as well.
        if (spec.kind == WeightKind::kEmbedding && !source.has("lm_head.weight")) return nullptr;
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
