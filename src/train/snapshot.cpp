#include "qwen3fp4/train/snapshot.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <map>
#include <stdexcept>
#include <string>

namespace qf {
namespace {

class TrainedSource final : public WeightSource {
 public:
  explicit TrainedSource(const ModelWeights& model) {
    model.for_each([this](const ModelWeight& weight) { weights_[weight.spec().name] = &weight; });
  }
  [[nodiscard]] bool has(const std::string& weight) const override {
    return weights_.contains(weight);
  }
  [[nodiscard]] WeightMatrix matrix(const WeightSpec& spec) override {
    return weights_.at(spec.name)->weight();
  }
  [[nodiscard]] at::Tensor norm(const WeightSpec& spec) override {
    return weights_.at(spec.name)->rows(at::kFloat).view(spec.shape);
  }
  void check_nothing_left() const override {}

 private:
  std::map<std::string, const ModelWeight*> weights_;
};

}  // namespace

Qwen3Model snapshot(const ModelWeights& model) {
  const c10::InferenceMode no_autograd;
  TrainedSource source(model);
  return Qwen3Model::load(model.config(), source, model.backend());
}

}  // namespace qf
