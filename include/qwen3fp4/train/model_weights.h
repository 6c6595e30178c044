#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "qwen3fp4/backend/backend.h"
#include "qwen3fp4/model/config.h"
#include "qwen3fp4/model/weight_source.h"
#include "qwen3fp4/model/weights.h"
#include "qwen3fp4/train/block.h"
#include "qwen3fp4/train/trained_weight.h"

namespace qf {

// One weight of the inventory: under an optimiser, or frozen. Norms are matrices [1, width].
class ModelWeight {
 public:
  ModelWeight(WeightSpec spec, WeightMatrix frozen);
  ModelWeight(WeightSpec spec, std::unique_ptr<TrainedWeight> trained);

  [[nodiscard]] const WeightSpec& spec() const { return spec_; }
  // nullptr when frozen.
  [[nodiscard]] TrainedWeight* trained() const { return trained_.get(); }
  [[nodiscard]] const WeightMatrix& weight() const {
    return trained_ ? trained_->weight() : *frozen_;
  }
  // [count, in] of `dtype` (f32 or bf16), on the weight's device. May be the weight itself.
  [[nodiscard]] at::Tensor rows(std::int64_t first, std::int64_t count, at::ScalarType dtype) const;
  [[nodiscard]] at::Tensor rows(at::ScalarType dtype) const {
    return rows(0, weight().out_features(), dtype);
  }
  // Of NVFP4 with E4M3 scales.
  [[nodiscard]] std::optional<Nvfp4View> packed_view() const;
  // The weight as it is now, frozen. Codes are copied, scales (which no step writes) shared; so is
  // everything when the weight is frozen already.
  [[nodiscard]] ModelWeight frozen_copy() const;

 private:
  WeightSpec spec_;
  std::unique_ptr<TrainedWeight> trained_;
  std::optional<WeightMatrix> frozen_;
};

struct LayerWeights {
  std::array<std::optional<ModelWeight>, kLayerLinears.size()> linears;
  std::array<std::optional<ModelWeight>, kLayerNorms.size()> norms;  // as in BlockWeights
  [[nodiscard]] const ModelWeight& operator[](Linear which) const {
    return *linears[static_cast<std::size_t>(which)];
  }
  [[nodiscard]] const ModelWeight& operator[](Norm which) const {
    return *norms[static_cast<std::size_t>(which)];
  }
};

// Puts a weight under an optimiser: it is on the device already. nullptr leaves it frozen (the
// matrix is then taken as it is), as the embedding must be that is its model's head as well.
using MakeTrained = std::function<std::unique_ptr<TrainedWeight>(const WeightSpec& spec,
                                                                 const WeightMatrix& start)>;

// Throws (exit code 2) for the embedding of a model that has no other head.
void check_embedding_trains(bool with_head);

// All weights of a model for training, or of a frozen teacher, on the backend's device in the
// file's layout.
class ModelWeights {
 public:
  // Every weight of the inventory exactly once; peak memory: the weights plus one. Borrows
  // `backend`.
  [[nodiscard]] static ModelWeights load(ModelConfig config, WeightSource& source,
                                         const Backend& backend, const MakeTrained& make);
  [[nodiscard]] ModelWeights frozen_copy() const;

  [[nodiscard]] const ModelConfig& config() const { return config_; }
  [[nodiscard]] const Backend& backend() const { return *backend_; }
  // f32 [N, D].
  [[nodiscard]] at::Tensor embed(const at::Tensor& ids_N) const;
  [[nodiscard]] BlockWeights block(std::int64_t layer, at::ScalarType dtype) const;
  [[nodiscard]] const LayerWeights& layer(std::int64_t index) const {
    return layers_.at(static_cast<std::size_t>(index));
  }
  [[nodiscard]] const ModelWeight& norm() const { return *norm_; }
  [[nodiscard]] const ModelWeight& embedding() const { return *embed_tokens_; }
  // Of a tied model without a head of its own: the embedding, frozen.
  [[nodiscard]] const ModelWeight& head() const { return head_ ? *head_ : *embed_tokens_; }
  // The first layer whose input's gradient or weights' gradients are needed; num_hidden_layers when
  // none are.
  [[nodiscard]] std::int64_t first_trained_layer() const;
  // Every weight once: the embedding first, the head last.
  void for_each(const std::function<void(const ModelWeight&)>& visit) const;
  [[nodiscard]] std::int64_t weight_bytes() const;
  [[nodiscard]] std::int64_t state_bytes() const;

 private:
  ModelWeights() = default;
  ModelConfig config_;
  const Backend* backend_ = nullptr;
  std::optional<ModelWeight> embed_tokens_, norm_, head_;  // a tied model has no head
  std::vector<LayerWeights> layers_;
};

}  // namespace qf
