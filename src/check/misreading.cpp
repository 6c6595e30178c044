#include "misreading.h"

#include <ATen/ATen.h>

#include "qwen3fp4/kernels/fp4.h"
#include "qwen3fp4/kernels/views.h"

namespace qf {
namespace {

using Misread = std::optional<WeightMatrix>;

bool has_byte_scales(const WeightMatrix& weight) {
  return weight.format() == WeightFormat::kNvfp4 && weight.scales().scalar_type() == at::kByte;
}

Misread nibbles_swapped(const WeightMatrix& weight) {
  const bool nvfp4 = weight.format() == WeightFormat::kNvfp4;
  if (!nvfp4 && weight.format() != WeightFormat::kNf4) return std::nullopt;
  const auto& codes = weight.codes();
  const auto swapped =
      at::bitwise_or(at::bitwise_left_shift(codes, 4), at::bitwise_right_shift(codes, 4));
  if (nvfp4) return WeightMatrix::nvfp4(swapped, weight.scales(), weight.global_scale());
  return WeightMatrix::nf4(swapped, weight.scales(), weight.code_book(), weight.out_features(),
                           weight.in_features(), weight.nf4_view().block);
}

Misread scales_as_integers(const WeightMatrix& weight) {
  if (!has_byte_scales(weight)) return std::nullopt;
  return WeightMatrix::nvfp4(weight.codes(), weight.scales().to(at::kFloat), weight.global_scale());
}

Misread exponent_15_as_nan(const WeightMatrix& weight) {
  if (!has_byte_scales(weight)) return std::nullopt;
  const auto top = at::bitwise_and(weight.scales(), 0x78).eq(0x78);
  if (!top.any().item<bool>()) return std::nullopt;
  return WeightMatrix::nvfp4(weight.codes(), weight.scales().masked_fill(top, 0x7F),
                             weight.global_scale());
}

Misread scales_tiled(const WeightMatrix& weight) {
  // A row of one block looks the same either way.
  if (weight.format() != WeightFormat::kNvfp4 || weight.in_features() == kNvfp4Block) {
    return std::nullopt;
  }
  const auto scales_OB =
      has_byte_scales(weight)
          ? WeightMatrix::nvfp4(at::full_like(weight.codes(), 0x22), weight.scales(), 1.0F)
                .dequantize()
                .slice(1, 0, std::nullopt, kNvfp4Block)
          : weight.scales();
  const auto ones = at::full({weight.out_features(), weight.in_features() / kNvfp4Block}, 0x38,
                             at::kByte);  // E4M3 of 1
  const auto unscaled = WeightMatrix::nvfp4(weight.codes(), ones, weight.global_scale());
  const auto tiled = scales_OB.repeat({1, kNvfp4Block});  // column j gets scale j % (in/16)
  return WeightMatrix::dense(unscaled.dequantize() * tiled);
}

Misread tensor_scale_dropped(const WeightMatrix& weight) {
  if (weight.format() != WeightFormat::kNvfp4 || weight.global_scale() == 1.0F) return std::nullopt;
  return with_global_scale(weight, 1.0F);
}

Misread tensor_scale_reciprocal(const WeightMatrix& weight) {
  if (weight.format() != WeightFormat::kNvfp4 || weight.global_scale() == 1.0F) return std::nullopt;
  return with_global_scale(weight, 1.0F / weight.global_scale());
}

}  // namespace

const std::vector<Misreading>& misreadings() {
  using enum FaultClass;
  static const std::vector<Misreading> kAll{
      {"scales-as-integers", "its block scales are read as plain integers instead of E4M3",
       kScaleFactor, scales_as_integers},
      {"exponent-15-nan", "its block scales of 256 and more (E4M3 exponent 15) are read as NaN",
       kScaleFactor, exponent_15_as_nan},
      {"nibbles-swapped", "the two codes of every byte are exchanged", kNibbleOrder,
       nibbles_swapped},
      {"scales-tiled",
       "its row of block scales is tiled over the columns instead of repeated for each block",
       kLayoutPermutation, scales_tiled},
      {"tensor-scale-dropped", "its tensor scale is left out", kScaleFactor, tensor_scale_dropped},
      {"tensor-scale-reciprocal", "it is divided by its tensor scale instead of multiplied",
       kScaleFactor, tensor_scale_reciprocal},
  };
  return kAll;
}

WeightMatrix with_global_scale(const WeightMatrix& weight, float global_scale) {
  return WeightMatrix::nvfp4(weight.codes(), weight.scales(), global_scale);
}

WeightMatrix interleave_head_rows(const WeightMatrix& weight, std::int64_t head_dim) {
  const std::int64_t rows = weight.out_features();
  const auto order = at::arange(rows, at::kLong)
                         .view({rows / head_dim, 2, head_dim / 2})
                         .transpose(1, 2)
                         .reshape({rows});
  const auto pick = [&](const at::Tensor& t) { return t.index_select(0, order); };
  if (weight.format() == WeightFormat::kNvfp4) {
    return WeightMatrix::nvfp4(pick(weight.codes()), pick(weight.scales()), weight.global_scale());
  }
  if (weight.format() == WeightFormat::kNf4) return WeightMatrix::dense(pick(weight.dequantize()));
  return WeightMatrix::dense(pick(weight.dense_values()));
}

}  // namespace qf
