#include "qwen3fp4/check/ab_check.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <utility>

#include "activation_file.h"
#include "diagnose.h"
#include "error_scale.h"
#include "operation.h"
#include "path_runner.h"
#include "qwen3fp4/backend/reference.h"
#include "qwen3fp4/base/error.h"
#include "tap_comparison.h"
#include "tapped_run.h"
#include "weight_difference.h"

namespace qf {
namespace {

// "self_attn" and "mlp" hand on what their last linear gave.
bool is_alias(std::string_view module) {
  return module.ends_with(".self_attn") || module.ends_with(".mlp");
}

// "model.layers.3" is a layer's output.
bool is_residual_stream(std::string_view module) {
  return module == "model.embed_tokens" || module.ends_with(".self_attn_residual") ||
         (module.starts_with("model.layers.") && std::ranges::count(module, '.') == 2);
}

const WeightMatrix* weight_at(const Qwen3Model& model, const std::string& module,
                              std::int64_t layer) {
  if (module == "model.embed_tokens") return &model.embed_tokens();
  if (module == "lm_head") return &model.lm_head();
  return &model.weight(layer, module.substr(fmt::format("model.layers.{}.", layer).size()));
}

const at::Tensor* norm_at(const Qwen3Model& model, const std::string& module, std::int64_t layer) {
  if (module == "model.norm") return &model.norm();
  return &norm_of(model.layers().at(static_cast<std::size_t>(layer)),
                  module.substr(fmt::format("model.layers.{}.", layer).size()));
}

// What a comparison refers to: a path that runs along, or a file.
class ReferenceValues {
 public:
  ReferenceValues(TappedRun* run, const ActivationFile* file) : run_(run), file_(file) {}
  void run(std::int64_t stage) {
    read_.clear();
    if (run_ != nullptr) run_->run(stage);
  }
  [[nodiscard]] bool has(const std::string& module) const {
    return file_ != nullptr ? file_->has(module) : run_->taps().has(module);
  }
  // [T, ...]; `rows` gives the dimensions behind the first.
  [[nodiscard]] const at::Tensor& get(const std::string& module, const at::Tensor& rows) const {
    if (file_ == nullptr) return run_->taps().get(module);
    at::Tensor& values = read_[module];
    if (!values.defined()) {
      auto shape = rows.sizes().vec();
      shape[0] = static_cast<std::int64_t>(file_->ids().size());
      values = file_->read(module, shape);
    }
    return values;
  }

 private:
  TappedRun* run_;
  const ActivationFile* file_;
  mutable std::map<std::string, at::Tensor> read_;  // of the stage: pieces ask for each again
};

// What products and attention take their operands as.
ComputeDtype operand_dtype(const PathSpec& path) {
  return path.backend == "cuda" || path.trains() ? path.dtype : ComputeDtype::kF32;
}

ComputeDtype handed_on_dtype(const PathSpec& path) {
  return path.trains() ? path.dtype : ComputeDtype::kF32;
}

bool quantises(const AbSide& side) { return side.path.linear == LinearMode::kW4A4; }

class Comparison {
 public:
  // `file`: instead of path a; then a's model is b's, too.
  Comparison(const AbSide& a, const AbSide& b, const ActivationFile* file,
             std::span<const std::int64_t> ids, const AbOptions& options);
  AbReport run(const AbProgress& progress);

 private:
  [[nodiscard]] bool isolated() const { return options_.mode != AbMode::kChained; }
  [[nodiscard]] bool chained() const { return options_.mode != AbMode::kIsolated && !exploded_; }
  [[nodiscard]] bool selected(std::int64_t layer) const;
  // Of a tap's values or their bounds, what is compared.
  [[nodiscard]] at::Tensor compared(const at::Tensor& rows) const {
    return options_.last_token && rows.defined() ? rows.narrow(0, rows.size(0) - 1, 1) : rows;
  }
  [[nodiscard]] OtherWeight other_weight(const std::string& module, std::int64_t layer,
                                         const Operation& operation) const;
  void note_weight(const std::string& module, std::int64_t layer, const OtherWeight& other,
                   const Operation& operation, AbReport& report);
  void note_non_finite(const TapResult& tap, AbReport& report);
  void conclude(AbReport& report) const;
  // Whether a and b have weights of two models there.
  [[nodiscard]] static bool two_models(const AbReport& report, const std::string& module);
  [[nodiscard]] at::Tensor expected(std::string_view module, const at::Tensor& rows) const;
  [[nodiscard]] AbFinding find_cause(const std::string& module, std::int64_t layer,
                                     const at::Tensor& got) const;
  [[nodiscard]] const TappedRun& recorder() const { return recorder_ ? *recorder_ : *path_a_; }
  [[nodiscard]] at::Tensor feed_reference(std::string_view module, std::int64_t first,
                                          const at::Tensor& rows) const;
  [[nodiscard]] at::Tensor feed_noise(std::string_view module, const at::Tensor& rows);
  [[nodiscard]] double chained_bound(const std::string& module);
  [[nodiscard]] std::string chained_evidence() const;
  void measure_scales(std::int64_t layer, AbReport& report);
  void compare_isolated(std::int64_t layer, AbReport& report);
  void compare_chained(std::int64_t layer, AbReport& report);

  const AbSide &a_, &b_;
  const AbOptions& options_;
  const ActivationFile* file_;
  Arithmetics arithmetics_;
  at::Generator random_;
  std::map<std::string, ErrorScale> scales_;  // of the stage's taps
  // The largest relative L2 that noise has grown to: in the residual stream so far, and in what
  // branched off it last.
  double stream_drift_ = 0, branch_drift_ = 0;
  bool exploded_ = false;
  bool non_finite_noted_ = false;
  std::string missing_;  // the first tap that the file lacks
  std::optional<AbFinding> chained_finding_;

  std::unique_ptr<TappedRun> path_a_;    // none with a file
  std::unique_ptr<TappedRun> recorder_;  // the reference backend on the reference's values
  std::unique_ptr<TappedRun> plain_;
  std::array<std::unique_ptr<TappedRun>, 2> noisy_;  // two draws: the larger one counts
  std::unique_ptr<TappedRun> isolated_b_, chained_b_;
  std::unique_ptr<ReferenceValues> reference_;
};

Comparison::Comparison(const AbSide& a, const AbSide& b, const ActivationFile* file,
                       std::span<const std::int64_t> ids, const AbOptions& options)
    : a_(a),
      b_(b),
      options_(options),
      file_(file),
      arithmetics_{.a = file != nullptr ? ComputeDtype::kF32 : a.path.dtype,
                   .b = b.path.dtype,
                   .quantised_activations = quantises(b) != (file == nullptr && quantises(a)),
                   .operands = {operand_dtype(a.path), operand_dtype(b.path)},
                   .handed_on = {file != nullptr ? ComputeDtype::kF32 : handed_on_dtype(a.path),
                                 handed_on_dtype(b.path)}},
      random_(at::make_generator<at::CPUGeneratorImpl>(options.seed)) {
  const auto reference = [this](std::string_view module, std::int64_t first,
                                const at::Tensor& rows) {
    return feed_reference(module, first, rows);
  };
  const auto noise = [this](std::string_view module, std::int64_t, const at::Tensor& rows) {
    return feed_noise(module, rows);
  };
  const auto right = [this](std::string_view module, const at::Tensor& rows) {
    return expected(module, rows);
  };
  // What both sides do on purpose, the reference backend does as well.
  const bool both_quantise = quantises(b) && file == nullptr && quantises(a);
  const AbSide plain{.model = a.model,
                     .path = {.backend = "reference",
                              .linear = both_quantise ? LinearMode::kW4A4 : LinearMode::kW4A16}};
  if (file == nullptr) path_a_ = std::make_unique<TappedRun>(a, ids, TappedRun::Feed{});
  reference_ = std::make_unique<ReferenceValues>(path_a_.get(), file);
  // A plain path a is its own recorder.
  if (file != nullptr || a.path != plain.path) {
    recorder_ = std::make_unique<TappedRun>(plain, ids, reference);
    if (chained()) plain_ = std::make_unique<TappedRun>(plain, ids, TappedRun::Feed{});
  }
  if (isolated()) isolated_b_ = std::make_unique<TappedRun>(b, ids, reference, right);
  if (chained()) {
    for (auto& run : noisy_) {
      run = std::make_unique<TappedRun>(plain, ids, noise, TappedRun::Expected{},
                                        TappedRun::Keep::kFed);
    }
    chained_b_ = std::make_unique<TappedRun>(b, ids, TappedRun::Feed{}, right);
  }
}

bool Comparison::selected(std::int64_t layer) const {
  return options_.layers.empty() ||
         std::ranges::find(options_.layers, layer) != options_.layers.end();
}

OtherWeight Comparison::other_weight(const std::string& module, std::int64_t layer,
                                     const Operation& operation) const {
  if (a_.model == b_.model) return {};
  if (operation.kind == OpKind::kNorm) {
    const at::Tensor* norm = norm_at(*b_.model, module, layer);
    return {.norm = same_values(operation.inputs[1], *norm) ? nullptr : norm};
  }
  if (operation.weight == nullptr) return {};
  const WeightMatrix* matrix = weight_at(*b_.model, module, layer);
  return {.matrix = same_values(*operation.weight, *matrix) ? nullptr : matrix};
}

void Comparison::note_weight(const std::string& module, std::int64_t layer,
                             const OtherWeight& other, const Operation& operation,
                             AbReport& report) {
  const auto note = [&](const auto& a, const auto& b) {
    report.differing_weights.push_back({.module = module,
                                        .layer = layer,
                                        .how = describe_difference(a, b),
                                        .allowed = of_unlike_formats(a, b)});
  };
  if (operation.weight != nullptr || operation.kind == OpKind::kNorm) ++report.weights;
  if (other.matrix != nullptr) note(*operation.weight, *other.matrix);
  if (other.norm != nullptr) note(operation.inputs[1], *other.norm);
}

bool Comparison::two_models(const AbReport& report, const std::string& module) {
  return std::ranges::any_of(report.differing_weights, [&](const WeightDifference& weight) {
    return weight.module == module && !weight.allowed;
  });
}

void Comparison::note_non_finite(const TapResult& tap, AbReport& report) {
  const TapStatistics& s = tap.statistics;
  if (non_finite_noted_ || !s.non_finite_agree || s.nan_ref + s.inf_ref == 0) return;
  non_finite_noted_ = true;
  std::string notice =
      fmt::format("NaN or infinite values in both paths: first in {} ({} NaN, {} infinite)",
                  tap.module, s.nan_ref, s.inf_ref);
  const Operation& operation = recorder().operation(tap.module);
  if (operation.kind == OpKind::kLinear && at::isfinite(operation.inputs[0]).all().item<bool>()) {
    const auto y_TO = recorder().taps().get(tap.module).flatten(1);
    const auto rows = at::isfinite(y_TO).logical_not_().all(0).nonzero().flatten();
    if (rows.numel() > 0) {
      notice += fmt::format(
          ", output feature {} for every token of a finite input: those rows of "
          "the weight are not finite",
          rows[0].item<std::int64_t>());
      if (rows.numel() > 1) notice += fmt::format(" ({} rows)", rows.numel());
    }
  }
  report.notices.push_back(std::move(notice));
}

void Comparison::conclude(AbReport& report) const {
  if (file_ != nullptr) {
    QF_CHECK(!report.isolated.empty() || !report.chained.empty(),
             "{}: no tap was compared: expected names like {}, found {}", a_.name, missing_,
             file_->contents());
  }
  if (!report.finding) report.finding = chained_finding_;
  std::vector<std::string> of_others;
  std::string how;
  for (const WeightDifference& weight : report.differing_weights) {
    if (weight.allowed) continue;
    of_others.push_back(weight.module);
    if (report.finding && weight.module == report.finding->module) how = weight.how;
  }
  const std::size_t rounded = report.differing_weights.size() - of_others.size();
  if (rounded > 0) {
    report.notices.push_back(fmt::format(
        "{} of {} weights are of other formats in b, for whose rounding the bounds allow", rounded,
        report.weights));
  }
  if (of_others.empty()) return;
  const std::string count =
      fmt::format("{} of {} weights are of two models", of_others.size(), report.weights);
  constexpr std::size_t kShown = 5;
  const bool more = of_others.size() > kShown;
  of_others.resize(std::min(of_others.size(), kShown));
  report.notices.push_back(fmt::format("{}, though of one format: {}{}", count,
                                       fmt::join(of_others, ", "), more ? ", ..." : ""));
  if (how.empty()) return;
  std::string& evidence = report.finding->evidence;
  evidence += fmt::format("{}weights differ in {}: {}; {}", evidence.empty() ? "" : "; ",
                          report.finding->module, how, count);
}

at::Tensor Comparison::expected(std::string_view module, const at::Tensor& rows) const {
  const std::string name(module);
  return is_alias(module) || !reference_->has(name) ? at::Tensor() : reference_->get(name, rows);
}

at::Tensor Comparison::feed_reference(std::string_view module, std::int64_t first,
                                      const at::Tensor& rows) const {
  const std::string name(module);
  if (is_alias(module)) return rows;
  // In chained mode this only serves the recorder, which can do without.
  if (!isolated() && !reference_->has(name)) return rows;
  QF_CHECK(reference_->has(name),
           "--b-file has no {}: isolated mode feeds every operation with the file's values (dump "
           "all of them, or compare with --mode chained)",
           name);
  return reference_->get(name, rows).narrow(0, first, rows.size(0));
}

at::Tensor Comparison::feed_noise(std::string_view module, const at::Tensor& rows) {
  const auto found = scales_.find(std::string(module));
  if (found == scales_.end()) return rows;
  const ErrorScale& scale = found->second;
  // Of either sign, never small: one lucky draw of the value that matters most would spoil it.
  const auto signs = [&](const at::Tensor& size) {
    return at::randint(0, 2, size.sizes(), random_, at::kFloat) * 2 - 1;
  };
  auto noise = scale.rounding * kSigmas * signs(scale.rounding);
  if (scale.quantisation.defined()) {
    noise = noise + scale.quantisation * kQuantisedSigmas * signs(scale.quantisation);
  }
  return rows + noise.view(rows.sizes());
}

void Comparison::measure_scales(std::int64_t layer, AbReport& report) {
  scales_.clear();
  for (const std::string& module : recorder().taps().modules()) {
    if (is_alias(module)) continue;
    const Operation& operation = recorder().operation(module);
    OtherWeight other = other_weight(module, layer, operation);
    note_weight(module, layer, other, operation, report);
    // Rounding to a format is no reason for two weights of it to differ.
    if (two_models(report, module)) other = {};
    const at::Tensor& y = recorder().taps().get(module);
    scales_.emplace(module, error_scale(operation, y, arithmetics_, other));
  }
}

TapResult tap_result(const std::string& module, std::int64_t layer, const at::Tensor& ref,
                     const TapStatistics& statistics, const Verdict& verdict) {
  return {.module = module,
          .layer = layer,
          .shape = ref.sizes().vec(),
          .statistics = statistics,
          .bound = verdict.bound,
          .misfit = verdict.misfit};
}

// Of the two that do not agree, the one that is out of bounds against the reference backend on the
// same inputs.
AbFinding Comparison::find_cause(const std::string& module, std::int64_t layer,
                                 const at::Tensor& got) const {
  const Operation& operation = recorder().operation(module);
  const at::Tensor& right = recorder().taps().get(module);
  const at::Tensor& ref = reference_->get(module, got);
  const auto out_of_bounds = [&](const at::Tensor& values) {
    return judge_isolated(right, values, scales_.at(module), tap_statistics(right, values)).misfit >
           1;
  };
  const bool blame_ref = !out_of_bounds(got) && out_of_bounds(ref);
  const at::Tensor& wrong = blame_ref ? ref : got;
  const auto diagnosis = diagnose(
      {.who = file_ != nullptr ? (blame_ref ? "the file" : "path a") : (blame_ref ? "a" : "b"),
       .layer = layer,
       .operation = operation,
       .weight = blame_ref ? nullptr : other_weight(module, layer, operation).matrix,
       .ref = right,
       .got = wrong,
       .statistics = tap_statistics(right, wrong),
       .model = blame_ref ? *a_.model : *b_.model,
       .right_model = *a_.model});
  return {module, layer, diagnosis.fault_class, diagnosis.evidence};
}

void Comparison::compare_isolated(std::int64_t layer, AbReport& report) {
  for (const std::string& module : isolated_b_->taps().modules()) {
    if (is_alias(module)) continue;
    if (static_cast<std::int64_t>(report.isolated.size()) >= options_.max_calls) {
      report.stopped_early = true;
      return;
    }
    const at::Tensor& all_got = isolated_b_->taps().get(module);
    const auto got = compared(all_got);
    const auto ref = compared(reference_->get(module, all_got));
    const ErrorScale& scale = scales_.at(module);
    const auto statistics = tap_statistics(ref, got);
    const auto verdict = judge_isolated(
        ref, got, {compared(scale.rounding), compared(scale.quantisation)}, statistics);
    report.isolated.push_back(tap_result(module, layer, ref, statistics, verdict));
    note_non_finite(report.isolated.back(), report);
    if (report.finding) continue;
    if (!report.isolated.back().within()) {
      report.finding = find_cause(module, layer, all_got);
    } else if (two_models(report, module)) {
      report.finding = {module, layer, FaultClass::kWeights, {}};
    }
  }
}

// What has entered the residual stream stays in it, so its bound never shrinks. What a branch
// amplifies is added to the stream and counts there for no more than it is: values near 0, whose
// relative error means nothing, must not excuse the layers behind them.
double Comparison::chained_bound(const std::string& module) {
  const TappedRun& plain = plain_ ? *plain_ : *path_a_;
  double noise = 0;
  for (const auto& run : noisy_) {
    const double grown =
        tap_statistics(compared(plain.taps().get(module)), compared(run->taps().get(module)))
            .relative_l2;
    if (std::isfinite(grown)) noise = std::max(noise, grown);
  }
  if (is_residual_stream(module)) {
    stream_drift_ = std::max(stream_drift_, noise);
    branch_drift_ = 0;
  } else {
    branch_drift_ = std::max(branch_drift_, noise);
  }
  return std::max(stream_drift_, branch_drift_);
}

void Comparison::compare_chained(std::int64_t layer, AbReport& report) {
  for (const std::string& module : chained_b_->taps().modules()) {
    if (is_alias(module)) continue;
    if (!reference_->has(module)) {
      if (missing_.empty()) missing_ = module;
      continue;
    }
    if (static_cast<std::int64_t>(report.chained.size()) >= options_.max_calls) {
      report.stopped_early = true;
      return;
    }
    const at::Tensor& all_got = chained_b_->taps().get(module);
    const auto got = compared(all_got);
    const auto ref = compared(reference_->get(module, all_got));
    const auto statistics = tap_statistics(ref, got);
    const auto verdict = judge_chained(statistics, chained_bound(module));
    report.chained.push_back(tap_result(module, layer, ref, statistics, verdict));
    const TapResult& result = report.chained.back();
    note_non_finite(result, report);
    if (!chained_finding_ && !result.within()) {
      chained_finding_ = {module, layer, FaultClass::kUnknown, chained_evidence()};
    } else if (!chained_finding_ && two_models(report, module)) {
      chained_finding_ = {module, layer, FaultClass::kWeights, {}};
    }
    if (statistics.relative_l2 > options_.explosion_rel || !statistics.non_finite_agree) {
      report.exploded = exploded_ = true;
      return;
    }
  }
}

std::string Comparison::chained_evidence() const {
  if (!isolated()) return "--mode isolated says which operation is to blame";
  if (!options_.layers.empty()) {
    return "what came before this layer was not compared (--layers), and may be to blame";
  }
  return "every operation before it is within its bound by itself, but together they drift further "
         "than errors grow in this model";
}

AbReport Comparison::run(const AbProgress& progress) {
  const c10::InferenceMode no_autograd;
  AbReport report{.ref = a_.name, .got = b_.name};
  const std::int64_t stages = StageRunner::stages(*a_.model);
  report.layers = a_.model->config().num_hidden_layers;
  const std::string configs = describe_difference(a_.model->config(), b_.model->config());
  if (!configs.empty()) {
    report.notices.push_back("config.json differs between a and b: " + configs);
  }
  for (std::int64_t stage = 0; stage < stages && !report.stopped_early; ++stage) {
    const std::int64_t layer = stage - 1;
    reference_->run(stage);
    if (recorder_) recorder_->run(stage);
    measure_scales(layer, report);
    if (isolated()) {
      isolated_b_->run(stage);
      if (selected(layer)) compare_isolated(layer, report);
    }
    if (chained()) {
      for (TappedRun* run : {plain_.get(), noisy_[0].get(), noisy_[1].get(), chained_b_.get()}) {
        if (run != nullptr) run->run(stage);
      }
      if (selected(layer)) compare_chained(layer, report);
    }
    if (progress) progress(stage + 1, stages);
  }
  conclude(report);
  return report;
}

void check_ids(const Qwen3Model& model, std::span<const std::int64_t> ids) {
  const ModelConfig& config = model.config();
  const auto count = static_cast<std::int64_t>(ids.size());
  if (count < 1 || count > config.max_position_embeddings) {
    fail(ExitCode::kUsage, "ab-check: expected 1 to {} tokens, got {}",
         config.max_position_embeddings, count);
  }
  for (const std::int64_t id : ids) {
    if (id < 0 || id >= config.vocab_size) {
      fail(ExitCode::kUsage, "ab-check: expected token ids from 0 to {}, found {}",
           config.vocab_size - 1, id);
    }
  }
}

void check_layers(const Qwen3Model& model, const AbOptions& options) {
  for (const std::int64_t layer : options.layers) {
    if (layer < 0 || layer >= model.config().num_hidden_layers) {
      fail(ExitCode::kUsage, "--layers: expected layers from 0 to {}, found {}",
           model.config().num_hidden_layers - 1, layer);
    }
  }
}

void check_same_shape(const AbSide& a, const AbSide& b) {
  const auto shape = [](const ModelConfig& c) {
    return fmt::format(
        "{} layers, hidden {}, intermediate {}, {} heads, {} kv heads, head_dim {}, vocab {}, {}",
        c.num_hidden_layers, c.hidden_size, c.intermediate_size, c.num_attention_heads,
        c.num_key_value_heads, c.head_dim, c.vocab_size, c.qk_norm ? "q/k norm" : "no q/k norm");
  };
  const std::string expected = shape(a.model->config());
  const std::string found = shape(b.model->config());
  QF_CHECK(expected == found, "--model-b: expected a model of a's shape ({}), found {}", expected,
           found);
}

}  // namespace

AbReport ab_check(const AbSide& a, const AbSide& b, std::span<const std::int64_t> ids,
                  const AbOptions& options, const AbProgress& progress) {
  check_same_shape(a, b);
  check_layers(*a.model, options);
  check_ids(*a.model, ids);
  AbReport report = Comparison(a, b, nullptr, ids, options).run(progress);
  report.tokens = static_cast<std::int64_t>(ids.size());
  return report;
}

AbReport ab_check_file(const AbSide& a, const std::filesystem::path& path, const AbOptions& options,
                       const AbProgress& progress) {
  const ActivationFile file(path);
  check_layers(*a.model, options);
  check_ids(*a.model, file.ids());
  AbSide values = a;
  values.name = path.string();
  AbReport report = Comparison(values, a, &file, file.ids(), options).run(progress);
  report.tokens = static_cast<std::int64_t>(file.ids().size());
  return report;
}

}  // namespace qf
