#include "qwen3fp4/check/ab_check.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <utility>

#include "activation_file.h"
#include "diagnose.h"
#include "error_scale.h"
#include "inject.h"
#include "operation.h"
#include "path_runner.h"
#include "qwen3fp4/backend/reference.h"
#include "qwen3fp4/base/error.h"
#include "tap_comparison.h"

namespace qf {
namespace {

// One stage's taps in forward order, as they come from the pieces of a schedule.
class StageTaps {
 public:
  // Keeps those of `rows` that are new; pieces that replay a beginning bring it again.
  void append(std::string_view module, std::int64_t first, const at::Tensor& rows) {
    const auto [at, is_new] = index_.try_emplace(std::string(module), order_.size());
    if (is_new) order_.emplace_back(module, std::vector<at::Tensor>{});
    std::int64_t& have = rows_[at->first];
    const std::int64_t end = first + rows.size(0);
    if (end <= have) return;
    order_[at->second].second.push_back(rows.narrow(0, have - first, end - have));
    have = end;
  }
  [[nodiscard]] bool has(const std::string& module) const { return index_.contains(module); }
  [[nodiscard]] at::Tensor get(const std::string& module) const {
    const auto& parts = order_.at(index_.at(module)).second;
    return parts.size() == 1 ? parts.front() : at::cat(parts, 0);
  }
  [[nodiscard]] std::vector<std::string> modules() const {
    std::vector<std::string> names;
    for (const auto& [name, parts] : order_) names.push_back(name);
    return names;
  }
  void clear() {
    order_.clear();
    index_.clear();
    rows_.clear();
  }

 private:
  std::vector<std::pair<std::string, std::vector<at::Tensor>>> order_;
  std::map<std::string, std::size_t> index_;
  std::map<std::string, std::int64_t> rows_;
};

// One run of a path: its own model object (sharing the weights), backend, cache and taps.
class Run {
 public:
  // Changes or replaces what the pass goes on with.
  using Feed = std::function<at::Tensor(std::string_view, std::int64_t, const at::Tensor&)>;

  enum class Keep { kComputed, kFed };

  Run(const AbSide& side, std::span<const std::int64_t> ids, Feed feed, Keep keep = Keep::kComputed)
      : backend_(make_backend(side.path)),
        faulty_(side.injection == nullptr ? nullptr
                                          : std::make_unique<FaultyBackend>(
                                                *backend_, *side.injection, side.model->config())),
        recording_(faulty_ ? static_cast<const Backend&>(*faulty_) : *backend_),
        model_(side.model->with_backend(recording_)),
        feed_(std::move(feed)),
        keep_(keep) {
    if (side.injection != nullptr) inject_into_weights(*side.injection, model_);
    runner_ = std::make_unique<PathRunner>(
        model_, side.path.schedule, ids,
        [this](std::string_view module, std::int64_t first, const at::Tensor& rows) {
          note(module);
          const auto fed = feed_ ? feed_(module, first, rows) : rows;
          taps_.append(module, first, keep_ == Keep::kComputed ? rows : fed);
          return fed;
        });
  }

  void run(std::int64_t stage) {
    taps_.clear();
    operations_.clear();
    runner_->run(stage, [&](std::int64_t first) {
      if (!faulty_) return;
      const bool is_layer = stage > 0 && stage <= model_.config().num_hidden_layers;
      faulty_->enter(stage - 1, first,
                     is_layer ? &model_.layers()[static_cast<std::size_t>(stage - 1)] : nullptr);
    });
  }
  [[nodiscard]] const StageTaps& taps() const { return taps_; }
  [[nodiscard]] const Operation& operation(const std::string& module) const {
    return operations_.at(module);
  }
  [[nodiscard]] const Qwen3Model& model() const { return model_; }

 private:
  void note(std::string_view module) {
    // The embedding is a look-up that no backend sees.
    operations_[std::string(module)] =
        module == "model.embed_tokens"
            ? Operation{.kind = OpKind::kEmbedding, .inputs = {}, .weight = &model_.embed_tokens()}
            : recording_.last();
  }

  std::unique_ptr<Backend> backend_;
  std::unique_ptr<FaultyBackend> faulty_;
  RecordingBackend recording_;
  Qwen3Model model_;
  Feed feed_;
  Keep keep_;
  std::unique_ptr<PathRunner> runner_;
  StageTaps taps_;
  std::map<std::string, Operation> operations_;
};

// "self_attn" and "mlp" hand on what their last linear gave.
bool is_alias(std::string_view module) {
  return module.ends_with(".self_attn") || module.ends_with(".mlp");
}

const PathSpec& plain_path() {
  static const PathSpec kPlain{.backend = "reference"};
  return kPlain;
}

const WeightMatrix* weight_at(const Qwen3Model& model, const std::string& module,
                              std::int64_t layer) {
  if (module == "model.embed_tokens") return &model.embed_tokens();
  if (module == "lm_head") return &model.lm_head();
  return &model.weight(layer, module.substr(fmt::format("model.layers.{}.", layer).size()));
}

bool same_weight(const WeightMatrix& a, const WeightMatrix& b) {
  const auto same = [](const at::Tensor& x, const at::Tensor& y) {
    return x.defined() == y.defined() &&
           (!x.defined() || (x.scalar_type() == y.scalar_type() && at::equal(x, y)));
  };
  return a.format() == b.format() && a.global_scale() == b.global_scale() &&
         same(a.codes(), b.codes()) && same(a.scales(), b.scales()) &&
         same(a.code_book(), b.code_book());
}

// What a comparison refers to: a path that runs along, or a file.
class ReferenceValues {
 public:
  ReferenceValues(Run* run, const ActivationFile* file) : run_(run), file_(file) {}
  void run(std::int64_t stage) {
    if (run_ != nullptr) run_->run(stage);
  }
  [[nodiscard]] bool has(const std::string& module) const {
    return file_ != nullptr ? file_->has(module) : run_->taps().has(module);
  }
  // [T, ...]; `rows` gives the dimensions behind the first.
  [[nodiscard]] at::Tensor get(const std::string& module, const at::Tensor& rows) const {
    if (file_ == nullptr) return run_->taps().get(module);
    auto shape = rows.sizes().vec();
    shape[0] = static_cast<std::int64_t>(file_->ids().size());
    return file_->read(module, shape);
  }

 private:
  Run* run_;
  const ActivationFile* file_;
};

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
  [[nodiscard]] const WeightMatrix* other_weight(const std::string& module, std::int64_t layer,
                                                 const Operation& operation) const;
  [[nodiscard]] at::Tensor feed_reference(std::string_view module, std::int64_t first,
                                          const at::Tensor& rows) const;
  [[nodiscard]] at::Tensor feed_noise(std::string_view module, const at::Tensor& rows);
  void measure_scales(std::int64_t layer);
  void compare_isolated(std::int64_t layer, AbReport& report);
  void compare_chained(std::int64_t layer, AbReport& report);

  const AbSide &a_, &b_;
  const AbOptions& options_;
  Arithmetics arithmetics_;
  at::Generator random_;
  std::map<std::string, ErrorScale> scales_;  // of the stage's taps
  double drift_ = 0;                          // the largest relative L2 that noise has grown to
  bool exploded_ = false;
  std::optional<AbFinding> chained_finding_;

  std::unique_ptr<Run> path_a_;    // none with a file
  std::unique_ptr<Run> recorder_;  // the reference backend on the reference's values
  std::unique_ptr<Run> plain_;
  std::array<std::unique_ptr<Run>, 2> noisy_;  // two draws: the larger one counts
  std::unique_ptr<Run> isolated_b_, chained_b_;
  std::unique_ptr<ReferenceValues> reference_;
};

Comparison::Comparison(const AbSide& a, const AbSide& b, const ActivationFile* file,
                       std::span<const std::int64_t> ids, const AbOptions& options)
    : a_(a),
      b_(b),
      options_(options),
      arithmetics_{
          .a = file != nullptr ? ComputeDtype::kF32 : a.path.dtype,
          .b = b.path.dtype,
          .quantised_activations = (file == nullptr && a.path.linear == LinearMode::kW4A4) ||
                                   b.path.linear == LinearMode::kW4A4},
      random_(at::make_generator<at::CPUGeneratorImpl>(options.seed)) {
  const auto reference = [this](std::string_view module, std::int64_t first,
                                const at::Tensor& rows) {
    return feed_reference(module, first, rows);
  };
  const auto noise = [this](std::string_view module, std::int64_t, const at::Tensor& rows) {
    return feed_noise(module, rows);
  };
  const AbSide plain{.model = a.model, .path = plain_path(), .name = {}};
  if (file == nullptr) path_a_ = std::make_unique<Run>(a, ids, Run::Feed{});
  reference_ = std::make_unique<ReferenceValues>(path_a_.get(), file);
  // A plain path a is its own recorder.
  if (file != nullptr || a.path != plain_path()) {
    recorder_ = std::make_unique<Run>(plain, ids, reference);
    if (chained()) plain_ = std::make_unique<Run>(plain, ids, Run::Feed{});
  }
  if (isolated()) isolated_b_ = std::make_unique<Run>(b, ids, reference);
  if (chained()) {
    for (auto& run : noisy_) {
      run = std::make_unique<Run>(plain, ids, noise, Run::Keep::kFed);
    }
    chained_b_ = std::make_unique<Run>(b, ids, Run::Feed{});
  }
}

bool Comparison::selected(std::int64_t layer) const {
  return options_.layers.empty() ||
         std::ranges::find(options_.layers, layer) != options_.layers.end();
}

const WeightMatrix* Comparison::other_weight(const std::string& module, std::int64_t layer,
                                             const Operation& operation) const {
  if (a_.model == b_.model || operation.weight == nullptr) return nullptr;
  const WeightMatrix* other = weight_at(*b_.model, module, layer);
  return same_weight(*operation.weight, *other) ? nullptr : other;
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
  const auto scale = scales_.find(std::string(module));
  if (scale == scales_.end()) return rows;
  // Of either sign, never small: one lucky draw of the value that matters most would spoil it.
  const auto signs = [&](const at::Tensor& size) {
    return at::randint(0, 2, size.sizes(), random_, at::kFloat) * 2 - 1;
  };
  auto noise = scale->second.rounding * kSigmas * signs(scale->second.rounding);
  if (scale->second.quantisation.defined()) {
    const at::Tensor& size = scale->second.quantisation;
    noise = noise + size * kQuantisedSigmas * signs(size);
  }
  return rows + noise.view(rows.sizes());
}

void Comparison::measure_scales(std::int64_t layer) {
  const Run& recorder = recorder_ ? *recorder_ : *path_a_;
  scales_.clear();
  for (const std::string& module : recorder.taps().modules()) {
    if (is_alias(module)) continue;
    const Operation& operation = recorder.operation(module);
    auto scale = error_scale(operation, recorder.taps().get(module), arithmetics_,
                             other_weight(module, layer, operation));
    scales_.emplace(module, std::move(scale));
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

void Comparison::compare_isolated(std::int64_t layer, AbReport& report) {
  const Run& recorder = recorder_ ? *recorder_ : *path_a_;
  for (const std::string& module : isolated_b_->taps().modules()) {
    if (is_alias(module)) continue;
    if (static_cast<std::int64_t>(report.isolated.size()) >= options_.max_calls) {
      report.stopped_early = true;
      return;
    }
    const auto got = isolated_b_->taps().get(module);
    const auto ref = reference_->get(module, got);
    const auto statistics = tap_statistics(ref, got);
    const auto verdict = judge_isolated(ref, got, scales_.at(module), statistics);
    report.isolated.push_back(tap_result(module, layer, ref, statistics, verdict));
    if (report.isolated.back().within() || report.finding) continue;
    const Operation& operation = recorder.operation(module);
    const auto diagnosis = diagnose({.module = module,
                                     .layer = layer,
                                     .operation = operation,
                                     .weight_b = other_weight(module, layer, operation),
                                     .ref = ref,
                                     .got = got,
                                     .statistics = statistics,
                                     .model = *a_.model,
                                     .model_b = *b_.model});
    report.finding = {module, layer, diagnosis.fault_class, diagnosis.evidence};
  }
}

void Comparison::compare_chained(std::int64_t layer, AbReport& report) {
  const Run& plain = plain_ ? *plain_ : *path_a_;
  for (const std::string& module : chained_b_->taps().modules()) {
    if (is_alias(module) || !reference_->has(module)) continue;
    if (static_cast<std::int64_t>(report.chained.size()) >= options_.max_calls) {
      report.stopped_early = true;
      return;
    }
    const auto got = chained_b_->taps().get(module);
    const auto ref = reference_->get(module, got);
    const auto statistics = tap_statistics(ref, got);
    // What has entered the residual stream stays in it, so the bound never shrinks.
    for (const auto& run : noisy_) {
      const auto noise = tap_statistics(plain.taps().get(module), run->taps().get(module));
      drift_ = std::max(drift_, noise.relative_l2);
    }
    const auto verdict = judge_chained(statistics, drift_);
    report.chained.push_back(tap_result(module, layer, ref, statistics, verdict));
    const TapResult& result = report.chained.back();
    if (!result.within() && !chained_finding_) {
      chained_finding_ = {module, layer, FaultClass::kUnknown,
                          isolated() ? "every operation of b is within its bound by itself, but "
                                       "together they drift further than errors grow in this model"
                                     : "--mode isolated says which operation is to blame"};
    }
    if (statistics.relative_l2 > options_.explosion_rel || std::isinf(result.misfit)) {
      report.exploded = exploded_ = true;
      return;
    }
  }
}

AbReport Comparison::run(const AbProgress& progress) {
  const c10::InferenceMode no_autograd;
  AbReport report{.a = a_.name, .b = b_.name};
  const std::int64_t stages = PathRunner::stages(*a_.model);
  report.layers = a_.model->config().num_hidden_layers;
  for (std::int64_t stage = 0; stage < stages && !report.stopped_early; ++stage) {
    const std::int64_t layer = stage - 1;
    reference_->run(stage);
    if (recorder_) recorder_->run(stage);
    measure_scales(layer);
    if (isolated()) {
      isolated_b_->run(stage);
      if (selected(layer)) compare_isolated(layer, report);
    }
    if (chained()) {
      for (Run* run : {plain_.get(), noisy_[0].get(), noisy_[1].get(), chained_b_.get()}) {
        if (run != nullptr) run->run(stage);
      }
      if (selected(layer)) compare_chained(layer, report);
    }
    if (progress) progress(stage + 1, stages);
  }
  if (!report.finding) report.finding = chained_finding_;
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
