#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "qwen3fp4/formats/dat.h"
#include "qwen3fp4/model/weights.h"
#include "qwen3fp4/quant/weight_matrix.h"

namespace qf {

// Where Qwen3Model::load() takes the weights of the inventory from, one at a time, each once: a
// `.dat` file, or numbers drawn at random (synthetic.h).
class WeightSource {
 public:
  WeightSource() = default;
  WeightSource(const WeightSource&) = delete;
  WeightSource& operator=(const WeightSource&) = delete;
  virtual ~WeightSource() = default;

  // Asked about the head of tied models, which may have one of their own.
  [[nodiscard]] virtual bool has(const std::string& weight) const = 0;
  // A linear, head or embedding of the spec's shape [out, in].
  [[nodiscard]] virtual WeightMatrix matrix(const WeightSpec& spec) = 0;
  // A norm's weights, f32 of the spec's shape.
  [[nodiscard]] virtual at::Tensor norm(const WeightSpec& spec) = 0;
  // Called after the last weight. Throws when the source holds others, naming the first few.
  virtual void check_nothing_left() const = 0;
};

// The weights of a `.dat` file, packed or raw, each entry once. Borrows `file`; `progress` gets
// (bytes read, bytes in all).
[[nodiscard]] std::unique_ptr<WeightSource> make_weight_source(
    const DatReader& file, std::function<void(std::int64_t, std::int64_t)> progress);

}  // namespace qf
