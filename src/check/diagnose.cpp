#include "diagnose.h"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "misreading.h"
#include "qwen3fp4/backend/reference.h"
#include "tap_comparison.h"
#include "variants.h"

// Shapes in this file: T tokens, S cached positions, H query heads, K key/value heads, E head_dim,
// O output features.
namespace qf {
namespace {

// A mistake explains the suspect's values when it leaves at most this part of the deviation.
constexpr double kLeftOver = 0.1;

const ReferenceBackend& reference() {
  static const ReferenceBackend kReference;
  return kReference;
}

// What is left of the deviation when the mistake is made; nothing where it does not explain it.
std::optional<double> left_over(const Suspect& s, const at::Tensor& candidate) {
  const auto mistaken = candidate.reshape(s.got.sizes());
  const TapStatistics compared = tap_statistics(mistaken, s.got);
  if (!compared.non_finite_agree) return std::nullopt;
  const double left = compared.relative_l2;
  // Where values became infinite or NaN, agreeing about which did counts for more than the rest.
  const double deviation = s.statistics.non_finite_agree ? s.statistics.relative_l2 : 1;
  // Relative to the mistaken values, which may be larger by orders of magnitude.
  const double limit = kLeftOver * std::min(deviation, 1.0);
  if (!(left <= limit)) return std::nullopt;
  return left;
}

// Mistakes to try, in turn; the one that leaves least is the diagnosis.
class Hypotheses {
 public:
  explicit Hypotheses(const Suspect& suspect) : suspect_(suspect) {}

  void consider(FaultClass fault_class, std::string_view sentence, const at::Tensor& candidate) {
    const auto left = left_over(suspect_, candidate);
    if (!left || (best_left_ && *best_left_ <= *left)) return;
    best_left_ = left;
    best_ = {fault_class, fmt::format("{} computes as if {} (what is left: relative L2 {:.1e})",
                                      suspect_.who, sentence, *left)};
  }
  [[nodiscard]] const std::optional<Diagnosis>& best() const { return best_; }

 private:
  const Suspect& suspect_;
  std::optional<double> best_left_;
  std::optional<Diagnosis> best_;
};

void consider_scales_of_others(const Suspect& s, const WeightMatrix& own, const Qwen3Model& model,
                               Hypotheses& hypotheses) {
  if (own.format() != WeightFormat::kNvfp4 || s.layer < 0 ||
      s.layer >= model.config().num_hidden_layers) {
    return;
  }
  for (const std::string_view module : kLayerLinears) {
    const WeightMatrix& other = model.weight(s.layer, module);
    if (&other == &own || other.format() != WeightFormat::kNvfp4) continue;
    hypotheses.consider(FaultClass::kScaleFactor,
                        fmt::format("the weight had the tensor scale of {}", module),
                        s.ref * (static_cast<double>(other.global_scale()) / own.global_scale()));
  }
}

void consider_misreadings(const Suspect& s, const WeightMatrix& weight, const Qwen3Model& model,
                          Hypotheses& hypotheses) {
  const at::Tensor& x_TI = s.operation.inputs[0];
  for (const Misreading& misreading : misreadings()) {
    if (const auto misread = misreading.apply(weight)) {
      hypotheses.consider(misreading.fault_class,
                          fmt::format("with this weight {}", misreading.sentence),
                          reference().linear(x_TI, *misread));
    }
  }
  consider_scales_of_others(s, weight, model, hypotheses);
}

void consider_linear(const Suspect& s, Hypotheses& hypotheses) {
  const WeightMatrix& weight = *s.operation.weight;
  consider_misreadings(s, weight, s.right_model, hypotheses);
  // A suspect that reads its own other weight as it is makes no mistake with it: a misreading that
  // gives the same values would be named for nothing.
  if (s.weight != nullptr && !left_over(s, reference().linear(s.operation.inputs[0], *s.weight))) {
    consider_misreadings(s, *s.weight, s.model, hypotheses);
  }
  const std::int64_t head_dim = s.model.config().head_dim;
  if (weight.out_features() % head_dim == 0) {
    const auto y_TGE2 = s.ref.view({s.ref.size(0), -1, 2, head_dim / 2});
    hypotheses.consider(FaultClass::kLayoutPermutation,
                        "the rows of each head were interleaved (as GGUF has llama's q and k)",
                        y_TGE2.transpose(2, 3));
    const auto y_TG2E = s.ref.view({s.ref.size(0), -1, head_dim / 2, 2});
    hypotheses.consider(FaultClass::kLayoutPermutation,
                        "the interleaved rows of each head were put into halves once too often",
                        y_TG2E.transpose(2, 3));
  }
}

// The eps that would explain how much larger or smaller the rows are.
std::optional<double> fitted_eps(const Suspect& s) {
  const auto x = s.operation.inputs[0].to(at::kDouble).reshape({-1, s.ref.size(-1)});
  const auto y = s.ref.to(at::kDouble).reshape(x.sizes());
  const auto g = s.got.to(at::kDouble).reshape(x.sizes());
  const auto mean_square = x.square().mean(-1);
  const std::int64_t row = mean_square.argmin().item<std::int64_t>();  // where eps weighs most
  const double ratio = ((y[row] * g[row]).sum() / y[row].square().sum()).item<double>();
  const double smallest = mean_square[row].item<double>();
  const double eps = (smallest + s.operation.eps) / (ratio * ratio) - smallest;
  if (!std::isfinite(eps)) return std::nullopt;
  return eps;
}

void consider_norm(const Suspect& s, Hypotheses& hypotheses) {
  const at::Tensor& x = s.operation.inputs[0];
  const at::Tensor& weight = s.operation.inputs[1];
  const double eps = s.operation.eps;
  const auto ones = at::ones_like(weight);
  const auto consider = [&](std::string_view sentence, const at::Tensor& candidate) {
    hypotheses.consider(FaultClass::kNorm, sentence, candidate);
  };
  consider("the norm were skipped", x);
  consider("the norm's weight were left out", reference().rms_norm(x, ones, eps));
  consider("the input were only multiplied by the norm's weight", x * weight);
  consider("the norm's weight were 1 + weight", reference().rms_norm(x, weight + 1, eps));
  if (const auto fitted = fitted_eps(s)) {
    consider(fmt::format("eps were {:.2e} instead of {:.2e}", *fitted, eps),
             reference().rms_norm(x, weight, *fitted));
  }
}

// RoPE's base from how far the suspect turned the second token's pairs of features; pair i turns by
// base^(-2i/E) a position.
std::optional<double> fitted_base(const Suspect& s) {
  const at::Tensor& x_THE = s.operation.inputs[0];
  const std::int64_t half = x_THE.size(2) / 2;
  if (x_THE.size(0) < 2) return std::nullopt;
  const auto angles = [&](const at::Tensor& values_THE) {
    const auto second_HE = values_THE[1].to(at::kDouble);
    return at::atan2(second_HE.narrow(1, half, half), second_HE.narrow(1, 0, half));
  };
  // Of the whole turns between two angles only the least one shows; heads agree about it.
  const auto turned_HP = (angles(s.got) - angles(x_THE)).remainder(2 * M_PI);
  const auto turned_P = std::get<0>(turned_HP.median(0));
  std::vector<double> bases;
  for (std::int64_t i = 1; i < half; ++i) {
    const double turned = turned_P[i].item<double>();
    if (turned < 1e-4 || turned >= 1) continue;
    bases.push_back(std::pow(turned, -static_cast<double>(half) / static_cast<double>(i)));
  }
  if (bases.empty()) return std::nullopt;
  std::ranges::sort(bases);
  return bases[bases.size() / 2];
}

void consider_rope(const Suspect& s, Hypotheses& hypotheses) {
  const at::Tensor& x_THE = s.operation.inputs[0];
  const at::Tensor& cos_TE = s.operation.inputs[1];
  const at::Tensor& sin_TE = s.operation.inputs[2];
  const ModelConfig& config = s.right_model.config();
  const auto consider = [&](std::string_view sentence, const at::Tensor& candidate) {
    hypotheses.consider(FaultClass::kRope, sentence, candidate);
  };
  consider("RoPE were skipped", x_THE);
  consider("neighbouring features were rotated instead of the two halves",
           rope_interleaved(reference(), x_THE, cos_TE, sin_TE));
  consider("RoPE turned the other way", reference().apply_rope(x_THE, cos_TE, -sin_TE));
  consider("positions were counted from 1",
           rope_with_base(reference(), x_THE, config, config.rope.theta, 1));
  if (const auto base = fitted_base(s)) {
    consider(fmt::format("RoPE's base were {:.6g} instead of {:.6g}", *base, config.rope.theta),
             rope_with_base(reference(), x_THE, config, *base, 0));
  }
}

void consider_attention(const Suspect& s, Hypotheses& hypotheses) {
  const at::Tensor& q_THE = s.operation.inputs[0];
  const at::Tensor& k_SKE = s.operation.inputs[1];
  const at::Tensor& v_SKE = s.operation.inputs[2];
  const double root = std::sqrt(static_cast<double>(q_THE.size(2)));
  const std::int64_t positions = k_SKE.size(0);
  const auto consider = [&](std::string_view sentence, const at::Tensor& candidate) {
    hypotheses.consider(FaultClass::kAttention, sentence, candidate);
  };
  consider("scores were not divided by sqrt(head_dim)",
           reference().attention(q_THE * root, k_SKE, v_SKE));
  consider("scores were divided by head_dim instead of its root",
           reference().attention(q_THE / root, k_SKE, v_SKE));
  consider("keys and values were cached one position late",
           reference().attention(q_THE, one_late(k_SKE), one_late(v_SKE)));
  consider("the causal mask showed one token more",
           attention_seeing(reference(), q_THE, k_SKE, v_SKE, 1));
  consider("the causal mask hid each token from itself",
           attention_seeing(reference(), q_THE, k_SKE, v_SKE, -1));
  consider("there were no causal mask",
           attention_seeing(reference(), q_THE, k_SKE, v_SKE, positions));
  const std::int64_t kv_heads = k_SKE.size(1);
  const std::int64_t group = q_THE.size(1) / kv_heads;
  if (group > 1 && kv_heads > 1) {
    const auto dealt = q_THE.view({q_THE.size(0), group, kv_heads, -1}).transpose(1, 2);
    const auto attended = reference().attention(dealt.reshape(q_THE.sizes()), k_SKE, v_SKE);
    consider("query head h read key/value head h mod K",
             attended.view({q_THE.size(0), kv_heads, group, -1}).transpose(1, 2));
  }
}

std::string listed(const at::Tensor& indices) {
  constexpr std::int64_t kShown = 5;
  const std::int64_t count = indices.numel();
  std::string text;
  for (std::int64_t i = 0; i < std::min(count, kShown); ++i) {
    text += fmt::format("{}{}", i == 0 ? "" : ", ", indices[i].item<std::int64_t>());
  }
  return count > kShown ? text + ", ..." : text;
}

// [rows, features of the last dimension]
at::Tensor as_rows(const at::Tensor& values) { return values.reshape({values.size(0), -1}); }

std::optional<Diagnosis> by_infinities(const Suspect& s) {
  const TapStatistics& stats = s.statistics;
  if (stats.inf_got <= stats.inf_ref) return std::nullopt;
  const auto infinite = at::isinf(s.got) & at::isfinite(s.ref);
  if (!infinite.any().item<bool>()) return std::nullopt;
  const double least = s.ref.abs().masked_select(infinite).min().item<double>();
  const auto finite = at::isfinite(s.got) & at::isfinite(s.ref);
  const auto others = s.ref.abs().masked_select(finite);
  const double most = others.numel() == 0 ? 0 : others.max().item<double>();
  if (least < most * 0.99) return std::nullopt;
  return Diagnosis{FaultClass::kDtype,
                   fmt::format("the {} largest values of {} are infinite (from {:.3g} on; all "
                               "smaller ones are finite): an overflow, as of fp16",
                               stats.inf_got - stats.inf_ref, s.who, least)};
}

std::optional<Diagnosis> by_nans(const Suspect& s) {
  const TapStatistics& stats = s.statistics;
  if (stats.nan_got <= stats.nan_ref) return std::nullopt;
  const auto nan_rows = at::isnan(as_rows(s.got));
  const auto columns = nan_rows.all(0).nonzero().flatten();
  const bool whole_columns = columns.numel() * nan_rows.size(0) == stats.nan_got;
  if (s.operation.kind == OpKind::kLinear && whole_columns) {
    return Diagnosis{
        FaultClass::kScaleFactor,
        fmt::format("output features {} ({} of {}) of {} are NaN for every token: a NaN "
                    "among the scales of these rows of the weight",
                    listed(columns), columns.numel(), nan_rows.size(1), s.who)};
  }
  return Diagnosis{FaultClass::kUnknown, fmt::format("{} of {} values of {} are NaN", stats.nan_got,
                                                     s.got.numel(), s.who)};
}

Diagnosis by_finiteness(const Suspect& s) {
  const TapStatistics& stats = s.statistics;
  return {
      FaultClass::kUnknown,
      fmt::format("expected {} NaN and {} infinite values, {} has {} and {}, or has them elsewhere",
                  stats.nan_ref, stats.inf_ref, s.who, stats.nan_got, stats.inf_got)};
}

std::optional<Diagnosis> by_narrow_type(const Suspect& s) {
  if (!s.statistics.non_finite_agree) return std::nullopt;
  // In this order, for most bf16 numbers are fp16 numbers, too.
  const std::pair<at::ScalarType, std::string_view> types[] = {{at::kBFloat16, "bf16"},
                                                               {at::kHalf, "fp16"}};
  for (const auto& [type, name] : types) {
    const auto fits = [t = type](const at::Tensor& values) {
      return at::equal(values.to(t).to(at::kFloat), values);
    };
    // Its rounding leaves a relative error of about its unit, not more.
    if (!fits(s.got) || fits(s.ref) || s.statistics.relative_l2 >= 0x1p-7) continue;
    // Rows are copied, so it is the table that was rounded, not a result.
    if (s.operation.kind == OpKind::kEmbedding) {
      return Diagnosis{FaultClass::kWeights,
                       fmt::format("every value of {0} is a {1} number: its table was rounded to "
                                   "{1}, so it is of other weights",
                                   s.who, name)};
    }
    return Diagnosis{
        FaultClass::kDtype,
        fmt::format("every value of {0} is a {1} number: results are rounded to {1}", s.who, name)};
  }
  return std::nullopt;
}

std::optional<Diagnosis> by_scale(const Suspect& s) {
  const TapStatistics& stats = s.statistics;
  const double without = std::sqrt(std::max(0.0, 1 - stats.cosine * stats.cosine));
  if (stats.cosine <= 0 || without > kLeftOver * stats.relative_l2) return std::nullopt;
  return Diagnosis{FaultClass::kScaleFactor,
                   fmt::format("{} is {:.6g} times what it should be (cosine 1 - {:.1e})", s.who,
                               stats.scale, 1 - stats.cosine)};
}

std::optional<Diagnosis> by_permutation(const Suspect& s) {
  const auto sorted = [](const at::Tensor& values) {
    return std::get<0>(as_rows(values).sort(-1));
  };
  const double left = tap_statistics(sorted(s.ref), sorted(s.got)).relative_l2;
  // Sorting brings even unrelated values of like distribution near each other.
  if (left > 0.001 * s.statistics.relative_l2) return std::nullopt;
  return Diagnosis{
      FaultClass::kLayoutPermutation,
      fmt::format("{} has the right values in another order (sorted, relative L2 {:.1e})", s.who,
                  left)};
}

std::optional<Diagnosis> by_few_features(const Suspect& s, double element_limit) {
  if (s.operation.kind != OpKind::kLinear) return std::nullopt;
  const auto off = (as_rows(s.got) - as_rows(s.ref)).abs().amax(0);
  const auto features = (off > element_limit).nonzero().flatten();
  if (features.numel() == 0 || features.numel() * 4 > off.numel()) return std::nullopt;
  return Diagnosis{FaultClass::kWeights,
                   fmt::format("{} of {} output features of {} deviate ({}): other values in those "
                               "rows of the weight",
                               features.numel(), off.numel(), s.who, listed(features))};
}

FaultClass class_of(OpKind kind) {
  switch (kind) {
    case OpKind::kNorm:
      return FaultClass::kNorm;
    case OpKind::kRope:
      return FaultClass::kRope;
    case OpKind::kAttention:
      return FaultClass::kAttention;
    case OpKind::kLinear:
    case OpKind::kEmbedding:
      return FaultClass::kWeights;
    case OpKind::kSwiglu:
    case OpKind::kAdd:
      break;
  }
  return FaultClass::kUnknown;
}

Diagnosis by_kind(const Suspect& s) {
  return {class_of(s.operation.kind),
          fmt::format(
              "no known mistake gives the values of {}: relative L2 {:.2e}, cosine {:.6f}, best "
              "factor {:.6g}",
              s.who, s.statistics.relative_l2, s.statistics.cosine, s.statistics.scale)};
}

}  // namespace

Diagnosis diagnose(const Suspect& suspect) {
  Hypotheses hypotheses(suspect);
  switch (suspect.operation.kind) {
    case OpKind::kLinear:
      consider_linear(suspect, hypotheses);
      break;
    case OpKind::kNorm:
      consider_norm(suspect, hypotheses);
      break;
    case OpKind::kRope:
      consider_rope(suspect, hypotheses);
      break;
    case OpKind::kAttention:
      consider_attention(suspect, hypotheses);
      break;
    case OpKind::kEmbedding:
    case OpKind::kSwiglu:
    case OpKind::kAdd:
      break;
  }
  if (hypotheses.best()) return *hypotheses.best();
  if (auto found = by_infinities(suspect)) return *found;
  if (auto found = by_nans(suspect)) return *found;
  if (auto found = by_narrow_type(suspect)) return *found;
  if (!suspect.statistics.non_finite_agree) return by_finiteness(suspect);
  if (auto found = by_scale(suspect)) return *found;
  if (auto found = by_permutation(suspect)) return *found;
  // A thousandth of the largest deviation is far above what rounding adds to the other features.
  if (auto found = by_few_features(suspect, suspect.statistics.max_diff * 1e-3)) return *found;
  return by_kind(suspect);
}

}  // namespace qf
