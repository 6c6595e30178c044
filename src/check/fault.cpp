#include "qwen3fp4/check/fault.h"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <random>
#include <utility>

#include "inject.h"
#include "misreading.h"
#include "qwen3fp4/base/error.h"
#include "variants.h"

namespace qf {
namespace {

constexpr std::string_view kQ = "self_attn.q_proj";
constexpr std::string_view kK = "self_attn.k_proj";
constexpr std::string_view kGate = "mlp.gate_proj";
constexpr std::string_view kUp = "mlp.up_proj";

std::optional<WeightMatrix> one_nan_scale(const WeightMatrix& weight) {
  auto scales = weight.scales().clone();
  const std::int64_t middle = scales.numel() / 2;
  if (weight.format() == WeightFormat::kNf4) {
    scales.flatten()[middle] = NAN;
    return WeightMatrix::nf4(weight.codes(), scales, weight.code_book(), weight.out_features(),
                             weight.in_features(), weight.nf4_view().block);
  }
  if (weight.format() != WeightFormat::kNvfp4) return std::nullopt;
  if (scales.scalar_type() == at::kByte) {
    scales.flatten()[middle] = 0x7F;
  } else {
    scales.flatten()[middle] = NAN;
  }
  return WeightMatrix::nvfp4(weight.codes(), scales, weight.global_scale());
}

// gate_proj with up_proj's tensor scale, or the other way round.
std::optional<WeightMatrix> sibling_scale(const Qwen3Model& model, std::int64_t layer,
                                          std::string_view module) {
  const WeightMatrix& own = model.weight(layer, module);
  const WeightMatrix& other = model.weight(layer, module == kGate ? kUp : kGate);
  if (own.format() != WeightFormat::kNvfp4 || other.format() != WeightFormat::kNvfp4 ||
      own.global_scale() == other.global_scale()) {
    return std::nullopt;
  }
  return with_global_scale(own, other.global_scale());
}

// The weight with the fault in it; none where the fault cannot be (another format, nothing to see).
std::optional<WeightMatrix> faulty_weight(std::string_view fault, const Qwen3Model& model,
                                          std::int64_t layer, std::string_view module) {
  const WeightMatrix& weight = model.weight(layer, module);
  if (fault == "nan-scale") return one_nan_scale(weight);
  if (fault == "gate-up-one-scale") return sibling_scale(model, layer, module);
  if (fault == "rows-permuted") return interleave_head_rows(weight, model.config().head_dim);
  for (const Misreading& misreading : misreadings()) {
    if (misreading.fault == fault) return misreading.apply(weight);
  }
  return std::nullopt;
}

bool can_strike(const Fault& fault, const Qwen3Model& model, std::int64_t layer,
                std::string_view module) {
  if (module == "self_attn.q_norm" || module == "self_attn.k_norm") return model.config().qk_norm;
  return !is_weight_fault(fault) || faulty_weight(fault.name, model, layer, module).has_value();
}

std::string_view take_until_colon(std::string_view& text) {
  const std::size_t end = std::min(text.find(':'), text.size());
  const std::string_view part = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return part;
}

const Fault& find_fault(std::string_view name) {
  std::vector<std::string_view> names;
  for (const Fault& fault : faults()) {
    if (fault.name == name) return fault;
    names.push_back(fault.name);
  }
  fail(ExitCode::kUsage, "--inject: no fault is called '{}': there are {}", name,
       fmt::join(names, ", "));
}

}  // namespace

bool is_weight_fault(const Fault& fault) {
  return fault.name == "nan-scale" || fault.name == "gate-up-one-scale" ||
         fault.name == "rows-permuted" ||
         std::ranges::any_of(misreadings(),
                             [&](const Misreading& m) { return m.fault == fault.name; });
}

std::string_view fault_class_name(FaultClass fault_class) {
  switch (fault_class) {
    case FaultClass::kScaleFactor:
      return "scale factor";
    case FaultClass::kLayoutPermutation:
      return "layout permutation";
    case FaultClass::kNibbleOrder:
      return "nibble order";
    case FaultClass::kNorm:
      return "norm";
    case FaultClass::kRope:
      return "RoPE";
    case FaultClass::kAttention:
      return "attention";
    case FaultClass::kDtype:
      return "dtype";
    case FaultClass::kWeights:
      return "weights";
    case FaultClass::kUnknown:
      break;
  }
  return "unknown";
}

const std::vector<Fault>& faults() {
  using enum FaultClass;
  static const std::vector<std::string_view> kLinears(kLayerLinears.begin(), kLayerLinears.end());
  static const std::vector<std::string_view> kNorms(kLayerNorms.begin(), kLayerNorms.end());
  static const std::vector<Fault> kAll{
      {"scales-as-integers", "E4M3 block scales read as plain integers", kScaleFactor, kLinears},
      {"exponent-15-nan", "E4M3 block scales of 256 and more read as NaN", kScaleFactor, kLinears},
      {"nibbles-swapped", "the two codes of a byte exchanged", kNibbleOrder, kLinears},
      {"scales-tiled", "a row of block scales tiled instead of repeated for each block",
       kLayoutPermutation, kLinears},
      {"tensor-scale-dropped", "the tensor scale left out", kScaleFactor, kLinears},
      {"tensor-scale-reciprocal", "divided by the tensor scale", kScaleFactor, kLinears},
      {"gate-up-one-scale", "gate and up sharing one tensor scale", kScaleFactor, {kUp, kGate}},
      {"rows-permuted", "rows of each head of q or k interleaved", kLayoutPermutation, {kQ, kK}},
      {"norm-skipped", "an RMSNorm left out", kNorm, kNorms},
      {"eps-wrong", "an RMSNorm with 1000 times its eps", kNorm, kNorms},
      {"attention-scale",
       "scores not divided by sqrt(head_dim)",
       kAttention,
       {"self_attn.attention"}},
      {"rope-base", "RoPE with another base", kRope, {"self_attn.q_rope", "self_attn.k_rope"}},
      {"rope-interleaved",
       "RoPE on neighbours instead of halves",
       kRope,
       {"self_attn.q_rope", "self_attn.k_rope"}},
      {"cache-late",
       "keys and values cached one position late",
       kAttention,
       {"self_attn.attention"}},
      {"causal-mask",
       "a causal mask that shows one token more",
       kAttention,
       {"self_attn.attention"}},
      {"nan-scale", "one block scale NaN", kScaleFactor, kLinears},
      {"fp16-overflow", "a product kept in fp16 and too large for it", kDtype, kLinears},
  };
  return kAll;
}

Injection parse_injection(std::string_view text, const Qwen3Model& model, std::uint64_t seed) {
  const Fault& fault = find_fault(take_until_colon(text));
  const std::string_view layer_text = take_until_colon(text);
  const std::string module(text);
  const std::int64_t layers = model.config().num_hidden_layers;
  std::optional<std::int64_t> layer;
  if (!layer_text.empty()) {
    std::int64_t value = -1;
    const auto [end, error] =
        std::from_chars(layer_text.data(), layer_text.data() + layer_text.size(), value);
    if (error != std::errc() || end != layer_text.data() + layer_text.size() || value < 0 ||
        value >= layers) {
      fail(ExitCode::kUsage,
           "--inject: expected {0}[:LAYER[:MODULE]] with a layer from 0 to {1}, found '{2}' (a "
           "module in any layer is {0}::MODULE)",
           fault.name, layers - 1, layer_text);
    }
    layer = value;
  }
  if (!module.empty() && std::ranges::find(fault.modules, module) == fault.modules.end()) {
    fail(ExitCode::kUsage, "--inject: {} strikes {}, not '{}'", fault.name,
         fmt::join(fault.modules, ", "), module);
  }
  std::vector<Injection> places;
  for (std::int64_t l = layer.value_or(0); l <= layer.value_or(layers - 1); ++l) {
    for (const std::string_view candidate : fault.modules) {
      if (!module.empty() && candidate != module) continue;
      if (can_strike(fault, model, l, candidate)) {
        places.push_back({&fault, l, std::string(candidate)});
      }
    }
  }
  if (places.empty()) {
    fail(ExitCode::kUsage,
         "--inject: {} ({}) can strike nowhere here: the model or the place has no weight or norm "
         "that such a mistake would change",
         fault.name, fault.description);
  }
  std::mt19937_64 random(seed);
  return places[random() % places.size()];
}

void inject_into_weights(const Injection& injection, Qwen3Model& model) {
  if (!is_weight_fault(*injection.fault)) return;
  auto weight = faulty_weight(injection.fault->name, model, injection.layer, injection.module);
  QF_CHECK(weight.has_value(), "--inject: {} cannot strike layer {}'s {}", injection.fault->name,
           injection.layer, injection.module);
  model.replace_weight(injection.layer, injection.module, *std::move(weight));
}

FaultyBackend::FaultyBackend(const Backend& inner, const Injection& injection,
                             const ModelConfig& config)
    : inner_(inner), injection_(injection), config_(config) {}

void FaultyBackend::enter(std::int64_t layer, std::int64_t first, const DecoderLayer* weights) {
  layer_ = layer;
  first_ = first;
  weights_ = weights;
  ropes_ = 0;
}

bool FaultyBackend::strikes(std::string_view fault, std::string_view module) const {
  return weights_ != nullptr && layer_ == injection_.layer && injection_.fault->name == fault &&
         injection_.module == module;
}

at::Tensor FaultyBackend::linear(const at::Tensor& x_TI, const WeightMatrix& weight) const {
  auto y = inner_.linear(x_TI, weight);
  for (const std::string_view module : kLayerLinears) {
    if (strikes("fp16-overflow", module) && &weight == &weight_of(*weights_, module)) {
      // One unit for the whole run, so that the largest value of its first piece does not fit.
      if (fp16_unit_ == 0) fp16_unit_ = y.abs().max().item<double>() / (2 * 65504.0);
      return kept_in_fp16(y, fp16_unit_);
    }
  }
  return y;
}

at::Tensor FaultyBackend::rms_norm(const at::Tensor& x, const at::Tensor& weight,
                                   double eps) const {
  for (const std::string_view module : kLayerNorms) {
    if (weights_ == nullptr || !norm_of(*weights_, module).is_same(weight)) continue;
    if (strikes("norm-skipped", module)) return x;
    if (strikes("eps-wrong", module)) return inner_.rms_norm(x, weight, eps * 1000);
  }
  return inner_.rms_norm(x, weight, eps);
}

at::Tensor FaultyBackend::apply_rope(const at::Tensor& x_THE, const at::Tensor& cos_TE,
                                     const at::Tensor& sin_TE) const {
  const std::string_view module = ropes_++ == 0 ? "self_attn.q_rope" : "self_attn.k_rope";
  if (strikes("rope-interleaved", module)) {
    return rope_interleaved(inner_, x_THE, cos_TE, sin_TE);
  }
  if (strikes("rope-base", module)) {
    const double base = config_.rope.theta == 10000 ? 1e6 : 10000;  // the field's two habits
    return rope_with_base(inner_, x_THE, config_, base, first_);
  }
  return inner_.apply_rope(x_THE, cos_TE, sin_TE);
}

at::Tensor FaultyBackend::attention(const at::Tensor& q_THE, const at::Tensor& k_SKE,
                                    const at::Tensor& v_SKE) const {
  constexpr std::string_view kModule = "self_attn.attention";
  if (strikes("attention-scale", kModule)) {
    return inner_.attention(q_THE * std::sqrt(static_cast<double>(q_THE.size(2))), k_SKE, v_SKE);
  }
  if (strikes("cache-late", kModule)) {
    return inner_.attention(q_THE, one_late(k_SKE), one_late(v_SKE));
  }
  if (strikes("causal-mask", kModule)) return attention_seeing(inner_, q_THE, k_SKE, v_SKE, 1);
  return inner_.attention(q_THE, k_SKE, v_SKE);
}

at::Tensor FaultyBackend::swiglu(const at::Tensor& gate, const at::Tensor& up) const {
  return inner_.swiglu(gate, up);
}

at::Tensor FaultyBackend::add(const at::Tensor& a, const at::Tensor& b) const {
  return inner_.add(a, b);
}

}  // namespace qf
