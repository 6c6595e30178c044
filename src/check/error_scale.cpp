#include "error_scale.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "qwen3fp4/backend/reference.h"
#include "qwen3fp4/kernels/fp4.h"

namespace qf {
namespace {

constexpr double kUnitF32 = 0x1p-24;
constexpr double kUnitBF16 = 0x1p-8;
constexpr double kUnitF16 = 0x1p-11;

double unit_of(ComputeDtype dtype) {
  switch (dtype) {
    case ComputeDtype::kF32:
      return kUnitF32;
    case ComputeDtype::kF16:
      return kUnitF16;
    case ComputeDtype::kBF16:
      return kUnitBF16;
  }
  return 0;
}

// Rounding errs by at most unit * max(|value|, this): fp16's smallest normal number. Those of the
// other types are too small to count.
double floor_of(ComputeDtype dtype) { return dtype == ComputeDtype::kF16 ? 0x1p-14 : 0; }

// What rounding the operands of tensor cores costs both sides together.
struct OperandError {
  double unit = 0, floor = 0;
  explicit OperandError(const Arithmetics& arithmetics) {
    for (const ComputeDtype dtype : arithmetics.operands) {
      if (dtype == ComputeDtype::kF32) continue;
      unit += unit_of(dtype);
      floor = std::max(floor, floor_of(dtype));
    }
  }
};

// NVFP4's half steps as a weight of its own: the codes replaced by those of twice the half steps.
at::Tensor nvfp4_half_steps(const WeightMatrix& weight) {
  // Of the magnitudes 0 .5 1 1.5 2 3 4 6: to the farther neighbour; 6 may stand for up to 7.5.
  constexpr std::array<std::uint8_t, 8> kTwiceHalfStep{1, 1, 1, 1, 2, 2, 4, 5};
  static_assert(e2m1_to_float(1) == 0.5F && e2m1_to_float(2) == 1.0F && e2m1_to_float(4) == 2.0F &&
                e2m1_to_float(5) == 3.0F);
  auto table = at::empty({256}, at::kByte);
  for (unsigned byte = 0; byte < 256; ++byte) {
    const unsigned low = kTwiceHalfStep[byte & 7U];
    const unsigned high = kTwiceHalfStep[(byte >> 4U) & 7U];
    table.mutable_data_ptr<std::uint8_t>()[byte] = static_cast<std::uint8_t>(low | (high << 4U));
  }
  const auto codes = table.index_select(0, weight.codes().flatten().to(at::kInt));
  auto steps = WeightMatrix::nvfp4(codes.view(weight.codes().sizes()), weight.scales(),
                                   weight.global_scale())
                   .dequantize()
                   .abs() /
               2;
  if (weight.scales().scalar_type() == at::kByte) {
    // A subnormal scale, 0 above all, was itself rounded by up to 2^-10: a value of 6 by 6 * 2^-10.
    const auto subnormal = at::bitwise_and(weight.scales(), 0x7F) < 8;
    steps += subnormal.repeat_interleave(kNvfp4Block, 1) * (6 * 0x1p-10 * weight.global_scale());
  }
  return steps;
}

at::Tensor nf4_half_steps(const WeightMatrix& weight) {
  const auto book = weight.code_book().sort();
  const auto values = std::get<0>(book);
  const auto gaps = values.slice(0, 1) - values.slice(0, 0, -1);
  const auto zero = at::zeros({1}, at::kFloat);
  const auto wider = at::maximum(at::cat({gaps, zero}), at::cat({zero, gaps})) / 2;
  auto steps = at::empty_like(weight.code_book());
  steps.index_copy_(0, std::get<1>(book), wider);
  return WeightMatrix::nf4(weight.codes(), weight.scales(), steps, weight.out_features(),
                           weight.in_features(), weight.nf4_view().block)
      .dequantize()
      .abs();
}

// Half steps of embedding rows `y_TD`, without the whole table's: a packed row's are taken as a
// quarter of its largest value, as 1.5 steps of a block whose largest value is 6 of them.
at::Tensor row_steps(const WeightMatrix& weight, const at::Tensor& y_TD) {
  switch (weight.format()) {
    case WeightFormat::kF32:
      return y_TD.abs() * kUnitF32;
    case WeightFormat::kF16:
      return y_TD.abs() * kUnitF16;
    case WeightFormat::kBF16:
      return y_TD.abs() * kUnitBF16;
    case WeightFormat::kNvfp4:
    case WeightFormat::kNf4:
      break;
  }
  return (y_TD.abs().amax(-1, /*keepdim=*/true) / 4).expand_as(y_TD);
}

// sqrt(sum_i x_ti^2 w_oi^2), in units of each token's and each row's largest value, so that squares
// of small numbers do not underflow, and a row with a NaN costs no other row its bound.
at::Tensor root_of_squared_products(const at::Tensor& x_TI, const at::Tensor& w_OI) {
  constexpr double kSmallest = std::numeric_limits<float>::min();
  const auto unit_T1 = x_TI.abs().amax(-1, /*keepdim=*/true).clamp_min_(kSmallest);
  const auto unit_O1 = w_OI.abs().amax(-1, /*keepdim=*/true).clamp_min_(kSmallest);
  const auto sums_TO = at::mm((x_TI / unit_T1).square_(), (w_OI / unit_O1).square_().t());
  return sums_TO.sqrt_() * unit_T1 * unit_O1.t();
}

// The same of a packed weight, unpacked a tile of rows at a time.
at::Tensor root_of_squared_products(const at::Tensor& x_TI, const WeightMatrix& weight) {
  constexpr std::int64_t kTileRows = 2048;
  const std::int64_t outputs = weight.out_features();
  auto y_TO = at::empty({x_TI.size(0), outputs}, at::kFloat);
  for (std::int64_t first = 0; first < outputs; first += kTileRows) {
    const std::int64_t count = std::min(kTileRows, outputs - first);
    y_TO.narrow(1, first, count)
        .copy_(root_of_squared_products(x_TI, weight.dequantize_rows(first, count)));
  }
  return y_TO;
}

ErrorScale linear_scale(const Operation& op, const at::Tensor& y, const Arithmetics& arithmetics,
                        const WeightMatrix* other_weight) {
  const at::Tensor& x_TI = op.inputs[0];
  const double additions = static_cast<double>(op.weight->in_features()) + 1;
  const auto partial_TO = at::hypot(root_of_squared_products(x_TI, *op.weight), y);
  ErrorScale scale{.rounding = partial_TO * (std::sqrt(2 * additions) * kUnitF32),
                   .quantisation = {}};
  // Of an input and, in NF4, of the weight too.
  if (const OperandError operands(arithmetics); operands.unit > 0) {
    const auto noise_TO =
        root_of_squared_products(x_TI.abs().clamp_min(operands.floor), *op.weight);
    scale.rounding += noise_TO * (std::sqrt(2.0) * operands.unit);
  }
  std::vector<at::Tensor> noises_TO;
  if (arithmetics.quantised_activations && op.weight->format() == WeightFormat::kNvfp4) {
    const QuantisedActivations quantised(x_TI);
    const auto steps_TI = half_steps(quantised.blocks) * quantised.scale_T1;
    noises_TO.push_back(root_of_squared_products(steps_TI, *op.weight));
  }
  if (other_weight != nullptr) {
    noises_TO.push_back(root_of_squared_products(
        x_TI, at::hypot(half_steps(*op.weight), half_steps(*other_weight))));
  }
  for (const at::Tensor& noise : noises_TO) {
    scale.quantisation =
        scale.quantisation.defined() ? at::hypot(scale.quantisation, noise) : noise;
  }
  return scale;
}

at::Tensor norm_rounding(const Operation& op, const at::Tensor& y) {
  const double terms = static_cast<double>(op.inputs[0].size(-1));
  return y.abs() * (std::sqrt(2.0) * kUnitF32 * (std::sqrt(terms) / 2 + 3));
}

// |x_i cos| + |x_j sin|
at::Tensor rope_terms(const Operation& op) {
  const auto& x_THE = op.inputs[0];
  const std::int64_t half = x_THE.size(2) / 2;
  const auto cos_T1E = op.inputs[1].abs().unsqueeze(1);
  const auto sin_T1E = op.inputs[2].abs().unsqueeze(1);
  const auto partner = at::cat({x_THE.narrow(2, half, half), x_THE.narrow(2, 0, half)}, 2).abs_();
  return x_THE.abs() * cos_T1E + partner * sin_T1E;
}

at::Tensor rope_rounding(const Operation& op) {
  return rope_terms(op) * (2 * std::sqrt(2.0) * kUnitF32);
}

// In fp32.
at::Tensor exact_attention_rounding(const Operation& op) {
  const at::Tensor& q_THE = op.inputs[0];
  const at::Tensor& k_SKE = op.inputs[1];
  const double width = static_cast<double>(q_THE.size(2));
  const double positions = static_cast<double>(k_SKE.size(0));
  const std::int64_t group = q_THE.size(1) / k_SKE.size(1);
  // |score| <= largest_TH; its error scale; and twice that relative to every weight of the softmax.
  const auto length = [](const at::Tensor& x) { return x.square().sum(-1).sqrt_(); };
  const auto longest_key_SK = std::get<0>(length(k_SKE).cummax(0));
  const auto visible_TK = longest_key_SK.narrow(0, k_SKE.size(0) - q_THE.size(0), q_THE.size(0));
  const auto largest_TH = length(q_THE) * visible_TK.repeat_interleave(group, 1) / std::sqrt(width);
  const auto score_TH = largest_TH * (kUnitF32 * (std::sqrt(2 * width) + 1));
  const auto weight_TH = at::expm1(score_TH * 2) + kUnitF32 * (std::sqrt(positions) + 6);
  const auto magnitude_THE = ReferenceBackend().attention(q_THE, k_SKE, op.inputs[2].abs());
  return magnitude_THE * weight_TH.unsqueeze(-1) * std::sqrt(2.0);
}

// Query rows of all heads, and what each one's key/value head holds up to the last of them.
struct AttentionRows {
  at::Tensor q_HtE, k_HsE, v_HsE;
};

// In units of the largest finite value, so that squares of small numbers do not underflow.
struct Scaled {
  at::Tensor unit, values;
  explicit Scaled(const at::Tensor& x)
      : unit(at::where(at::isfinite(x), x.abs(), 0)
                 .max()
                 .clamp_min_(std::numeric_limits<float>::min())),
        values(x / unit) {}
};

// What rounding q, k, v and the softmax's weights adds. A score's error e is relative in its
// weight; what all weights have in common cancels, so the values count by their spread around their
// mean.
at::Tensor operand_rounding(const AttentionRows& rows, const OperandError& operands) {
  const std::int64_t tokens = rows.q_HtE.size(1);
  const std::int64_t positions = rows.k_HsE.size(1);
  const double root = std::sqrt(static_cast<double>(rows.q_HtE.size(2)));
  const double unit = std::sqrt(2.0) * operands.unit;
  const auto future_ts = at::ones({tokens, positions}, at::kBool).triu(positions - tokens + 1);
  const auto p_Hts =
      at::softmax((at::bmm(rows.q_HtE, rows.k_HsE.transpose(1, 2)) / root)
                      .masked_fill_(future_ts, -std::numeric_limits<float>::infinity()),
                  -1);
  const Scaled q(rows.q_HtE.abs().clamp_min(operands.floor));
  const Scaled k(rows.k_HsE.abs().clamp_min(operands.floor));
  const auto error_Hts = at::bmm(q.values.square(), k.values.square().transpose(1, 2)).sqrt_() *
                         q.unit * k.unit * (unit / root);
  // By the weights; one that is 0 stays so, however large its error.
  const auto mean = [&](const at::Tensor& x_Hts) {
    return (p_Hts * x_Hts).masked_fill_(p_Hts == 0, 0).sum(-1, /*keepdim=*/true);
  };
  const auto weights_Ht1 = mean(at::expm1(error_Hts).square()).sqrt_() * mean(error_Hts).exp_();
  const Scaled v(rows.v_HsE);
  const auto squares_HsE = at::maximum(v.values.abs(), operands.floor / v.unit).square();
  const auto second_HtE = at::bmm(p_Hts, squares_HsE);
  // The difference of two fp32 sums, where one weight is almost all.
  const auto variance_HtE =
      (second_HtE - at::bmm(p_Hts, v.values).square()).clamp_min_(0) + second_HtE * 0x1p-20;
  return (variance_HtE.sqrt() * weights_Ht1 +
          at::bmm(p_Hts.clamp_min(operands.floor).square(), squares_HsE).sqrt_() * unit) *
         v.unit;
}

at::Tensor attention_rounding(const Operation& op, const OperandError& operands) {
  constexpr std::int64_t kScores = std::int64_t{1} << 22;  // that exist at a time
  auto scale_THE = exact_attention_rounding(op);
  if (operands.unit == 0) return scale_THE;
  const at::Tensor& q_THE = op.inputs[0];
  const std::int64_t tokens = q_THE.size(0);
  const std::int64_t heads = q_THE.size(1);
  const std::int64_t positions = op.inputs[1].size(0);
  const std::int64_t tile = std::max<std::int64_t>(1, kScores / (heads * positions));
  for (std::int64_t first = 0; first < tokens; first += tile) {
    const std::int64_t count = std::min(tile, tokens - first);
    const auto by_head = [&](const at::Tensor& x_SKE) {
      return x_SKE.narrow(0, 0, positions - tokens + first + count)
          .transpose(0, 1)
          .repeat_interleave(heads / x_SKE.size(1), 0);
    };
    const AttentionRows rows{.q_HtE = q_THE.narrow(0, first, count).transpose(0, 1),
                             .k_HsE = by_head(op.inputs[1]),
                             .v_HsE = by_head(op.inputs[2])};
    scale_THE.narrow(0, first, count).add_(operand_rounding(rows, operands).transpose(0, 1));
  }
  return scale_THE;
}

at::Tensor swiglu_rounding(const Operation& op, const at::Tensor& y) {
  // exp underflows somewhere below -87, a little earlier or later by library.
  const double tiny = 16 * static_cast<double>(std::numeric_limits<float>::min());
  return y.abs() * (std::sqrt(2.0) * 8 * kUnitF32) + (op.inputs[1].abs() + 1) * tiny;
}

// What rounding an operation's inputs adds, for a unit of 1/4: a rounding is never off by more than
// its unit, so that eight scales of it are two, as for a rounded result.
at::Tensor input_rounding(const Operation& op, const at::Tensor& y) {
  switch (op.kind) {
    case OpKind::kEmbedding:
      return y.abs();
    case OpKind::kNorm:
      return y.abs() * 2;  // of the element, and of the mean square's root
    case OpKind::kRope:
      return rope_terms(op);
    case OpKind::kSwiglu: {
      // silu'(g) g = silu(g) (1 + g (1 - sigmoid(g))); up.
      const at::Tensor& gate = op.inputs[0];
      return y.abs() * ((gate * at::sigmoid(-gate) + 1).abs() + 1);
    }
    case OpKind::kAdd:
      return op.inputs[0].abs() + op.inputs[1].abs();
    case OpKind::kLinear:  // OperandError
    case OpKind::kAttention:
      break;
  }
  return at::zeros_like(y);
}

// In fp32, and where weights or activations were quantised.
ErrorScale exact_scale(const Operation& operation, const at::Tensor& y,
                       const Arithmetics& arithmetics, const OtherWeight& other) {
  ErrorScale scale;
  switch (operation.kind) {
    case OpKind::kEmbedding:
      // Rows are copied, not computed.
      scale.rounding = at::zeros_like(y);
      if (other.matrix != nullptr) {
        scale.quantisation = row_steps(*operation.weight, y) + row_steps(*other.matrix, y);
      }
      break;
    case OpKind::kLinear:
      scale = linear_scale(operation, y, arithmetics, other.matrix);
      break;
    case OpKind::kNorm:
      scale.rounding = norm_rounding(operation, y);
      if (other.norm != nullptr) {
        scale.quantisation =
            y.abs() * (stored_unit(operation.inputs[1]) + stored_unit(*other.norm));
      }
      break;
    case OpKind::kRope:
      scale.rounding = rope_rounding(operation);
      break;
    case OpKind::kAttention:
      scale.rounding = attention_rounding(operation, OperandError(arithmetics));
      break;
    case OpKind::kSwiglu:
      scale.rounding = swiglu_rounding(operation, y);
      break;
    case OpKind::kAdd:
      scale.rounding = y.abs() * (std::sqrt(2.0) * kUnitF32);
      break;
  }
  return scale;
}

}  // namespace

double stored_unit(const at::Tensor& values) {
  const auto fits = [&](at::ScalarType type) {
    return at::equal(values.to(type).to(at::kFloat), values);
  };
  return fits(at::kBFloat16) ? kUnitBF16 : fits(at::kHalf) ? kUnitF16 : kUnitF32;
}

at::Tensor half_steps(const WeightMatrix& weight) {
  switch (weight.format()) {
    case WeightFormat::kNvfp4:
      return nvfp4_half_steps(weight);
    case WeightFormat::kNf4:
      return nf4_half_steps(weight);
    case WeightFormat::kF32:
      return weight.dequantize().abs() * kUnitF32;
    case WeightFormat::kF16:
      return weight.dequantize().abs() * kUnitF16;
    case WeightFormat::kBF16:
      return weight.dequantize().abs() * kUnitBF16;
  }
  return {};
}

ErrorScale error_scale(const Operation& operation, const at::Tensor& y,
                       const Arithmetics& arithmetics, const OtherWeight& other) {
  ErrorScale scale = exact_scale(operation, y, arithmetics, other);
  for (const ComputeDtype dtype : arithmetics.handed_on) {
    if (dtype == ComputeDtype::kF32) continue;
    scale.rounding = scale.rounding + input_rounding(operation, y) * (unit_of(dtype) / 4);
  }
  if (operation.kind == OpKind::kEmbedding) return scale;  // nothing else rounds what is copied
  // A result rounded once more is off by one unit at most, not by chance: a quarter, so that eight
  // scales are two units.
  for (const ComputeDtype dtype : {arithmetics.a, arithmetics.b}) {
    if (dtype != ComputeDtype::kF32) {
      scale.rounding = scale.rounding + y.abs().clamp_min(floor_of(dtype)) * (unit_of(dtype) / 4);
    }
  }
  return scale;
}

}  // namespace qf
