#include "qwen3fp4/train/masters.h"

#include <ATen/ATen.h>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/tensor_info.h"
#include "qwen3fp4/model/model_source.h"

namespace qf {
namespace {

bool is_packed(const WeightMatrix& weight) {
  return weight.format() == WeightFormat::kNvfp4 || weight.format() == WeightFormat::kNf4;
}

const CheckpointTensor* find_master(const CheckpointSource& source, const WeightSpec& spec) {
  const CheckpointTensor* tensor = source.find(spec.name);
  if (tensor != nullptr || spec.kind != WeightKind::kHead) return tensor;
  return source.find("model.embed_tokens.weight");  // tied
}

at::ScalarType type_of(const CheckpointTensor& tensor) {
  if (tensor.float_type == DType::kBF16) return at::kBFloat16;
  if (tensor.float_type == DType::kF16) return at::kHalf;
  return at::kFloat;
}

class MasterSource final : public ModelSource {
 public:
  MasterSource(const Qwen3Model& model, const CheckpointSource& source, std::string_view flag)
      : ModelSource(model), source_(source), flag_(flag) {}
  [[nodiscard]] WeightMatrix matrix(const WeightSpec& spec) override {
    auto weight = ModelSource::matrix(spec);
    if (!is_packed(weight)) return weight;
    const auto values = master_of(source_, spec, flag_);
    return WeightMatrix::dense(values.to(type_of(*find_master(source_, spec))));
  }

 private:
  const CheckpointSource& source_;
  std::string_view flag_;
};

}  // namespace

at::Tensor master_of(const CheckpointSource& source, const WeightSpec& spec,
                     std::string_view flag) {
  const CheckpointTensor* tensor = find_master(source, spec);
  QF_CHECK(tensor != nullptr, "{}: expected the weight {}, found none ({})", source.name(),
           spec.name, flag);
  QF_CHECK(tensor->shape == spec.shape, "{}: {}: expected {}, found {} ({})", source.name(),
           spec.name, shape_text(spec.shape), shape_text(tensor->shape), flag);
  return source.read_f32(*tensor);
}

Qwen3Model with_masters(const Qwen3Model& model, const CheckpointSource& source,
                        std::string_view flag) {
  MasterSource masters(model, source, flag);
  return Qwen3Model::load(model.config(), masters, model.backend());
}

std::string first_packed_weight(const Qwen3Model& model) {
  ModelSource source(model);
  std::string found;
  for_each_weight(model.config(), source.has("lm_head.weight"), [&](const WeightSpec& spec) {
    if (!found.empty() || spec.kind == WeightKind::kNorm) return;
    if (is_packed(source.matrix(spec))) found = spec.name;
  });
  return found;
}

}  // namespace qf
