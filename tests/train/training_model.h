#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../check/random_model.h"
#include "qwen3fp4/model/model_source.h"
#include "qwen3fp4/train/batch.h"
#include "qwen3fp4/train/model_weights.h"
#include "qwen3fp4/train/trainer.h"

namespace qf::test {

// Collects the gradient of a weight, and leaves the weight alone.
class RecordedWeight final : public TrainedWeight {
 public:
  explicit RecordedWeight(WeightMatrix weight)
      : weight_(std::move(weight)), on_host_(weight_.to(at::kCPU)) {
    gradient = at::full({weight_.out_features(), weight_.in_features()}, std::nan(""), at::kFloat);
  }
  [[nodiscard]] const WeightMatrix& weight() const override { return weight_; }
  [[nodiscard]] at::Tensor dequantize_rows(std::int64_t first, std::int64_t count,
                                           at::ScalarType dtype) const override {
    return on_host_.dequantize_rows(first, count).to(weight_.device(), dtype);
  }
  void step_rows(std::int64_t first, const at::Tensor& rows, const AdamStep& adam,
                 const at::Tensor& /*squares*/) override {
    gradient.narrow(0, first, rows.size(0)).copy_(rows);
    step = adam;
    ++calls;
  }
  void finish_step(const AdamStep&) override { ++finished; }
  void visit_states(const StateVisitor&) override {}
  [[nodiscard]] std::int64_t state_bytes() const override { return 0; }

  at::Tensor gradient;  // of the last step, in main memory
  AdamStep step;
  std::int64_t calls = 0;
  std::int64_t finished = 0;

 private:
  WeightMatrix weight_, on_host_;
};

// A model whose weights record their gradients.
struct RecordedModel {
  // On `backend`'s device.
  RecordedModel(const Qwen3Model& model, const Backend& backend);
  explicit RecordedModel(const Qwen3Model& model) : RecordedModel(model, model.backend()) {}
  [[nodiscard]] const at::Tensor& gradient(const std::string& weight) const {
    return recorded.at(weight)->gradient;
  }
  std::map<std::string, RecordedWeight*> recorded;
  ModelWeights weights;
};

// A sequence of random ids; every id but the first is a target where `every` divides its position.
[[nodiscard]] TrainSequence random_sequence(const Qwen3Model& model, std::int64_t length,
                                            std::uint32_t seed, std::int64_t every = 1);

}  // namespace qf::test
