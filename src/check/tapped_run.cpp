#include "tapped_run.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "qwen3fp4/backend/reference.h"
#include "train_runner.h"

namespace qf {
namespace {

void keep_worse(const at::Tensor& kept, const at::Tensor& rows, const at::Tensor& ref) {
  const auto distance = (rows - ref).abs();
  // Not "greater": a NaN is worse than anything.
  const auto worse = (distance <= (kept - ref).abs()).logical_not();
  kept.copy_(at::where(worse & at::isnan(kept).logical_not(), rows, kept));
}

// What an injected fault's operations are computed with before it spoils them.
const Backend& operations_of(const PathSpec& path, const Backend& backend) {
  static const ReferenceBackend kReference;
  // Training's backend may be of another device, and its operations are not this one's.
  return path.trains() ? kReference : backend;
}

}  // namespace

void StageTaps::append(std::string_view module, std::int64_t first, const at::Tensor& rows,
                       const at::Tensor& ref) {
  const auto [at, is_new] = taps_.try_emplace(std::string(module));
  if (is_new) order_.emplace_back(module);
  Collected& tap = at->second;
  const std::int64_t end = first + rows.size(0);
  if (is_new && first == 0 && end == tokens_) {
    tap = {rows, tokens_};
    return;
  }
  if (is_new) {
    auto shape = rows.sizes().vec();
    shape[0] = tokens_;
    tap.values = at::empty(shape, rows.options());
  }
  if (first < tap.rows && ref.defined()) {
    const std::int64_t again = std::min(end, tap.rows) - first;
    const auto kept = tap.values.narrow(0, first, again);
    keep_worse(kept, rows.narrow(0, 0, again), ref.narrow(0, first, again));
  }
  if (end <= tap.rows) return;
  tap.values.narrow(0, tap.rows, end - tap.rows)
      .copy_(rows.narrow(0, tap.rows - first, end - tap.rows));
  tap.rows = end;
}

void StageTaps::clear() {
  order_.clear();
  taps_.clear();
}

TappedRun::TappedRun(const AbSide& side, std::span<const std::int64_t> ids, Feed feed,
                     Expected expected, Keep keep)
    : path_(side.path),
      backend_(make_backend(side.path)),
      faulty_(side.injection == nullptr
                  ? nullptr
                  : std::make_unique<FaultyBackend>(operations_of(side.path, *backend_),
                                                    *side.injection, side.model->config())),
      recording_(faulty_ ? static_cast<const Backend&>(*faulty_) : *backend_),
      model_(side.model->with_backend(recording_)),
      feed_(std::move(feed)),
      expected_(std::move(expected)),
      keep_(keep),
      taps_(static_cast<std::int64_t>(ids.size())) {
  if (side.injection != nullptr) {
    inject_into_weights(*side.injection, model_);
    if (path_.trains()) inject_into_training(*side.injection, ids);
  }
  runner_ = make_runner(ids);
}

void TappedRun::inject_into_training(const Injection& injection,
                                     std::span<const std::int64_t> ids) {
  if (!is_weight_fault(*injection.fault)) {
    shadow_ = std::make_unique<ShadowedFault>(model_, *faulty_, injection, ids);
    return;
  }
  // Block scales that were misread as floats are in no format that training's kernels know.
  const WeightMatrix& weight = model_.weight(injection.layer, injection.module);
  if (weight.format() == WeightFormat::kNvfp4 && weight.scales().scalar_type() != at::kByte) {
    model_.replace_weight(injection.layer, injection.module,
                          WeightMatrix::dense(weight.dequantize()));
  }
}

std::unique_ptr<StageRunner> TappedRun::make_runner(std::span<const std::int64_t> ids) {
  const auto tap = [this](std::string_view module, std::int64_t first, const at::Tensor& rows) {
    return this->tap(module, first, rows);
  };
  if (path_.trains()) {
    return std::make_unique<TrainRunner>(model_, *backend_, path_.dtype, ids, tap);
  }
  return std::make_unique<PathRunner>(model_, path_.schedule, ids, tap);
}

at::Tensor TappedRun::tap(std::string_view module, std::int64_t first, const at::Tensor& rows) {
  if (!path_.trains()) note(module);
  const auto computed = shadow_ && shadow_->strikes(module) ? shadow_->compute() : rows;
  const auto fed = feed_ ? feed_(module, first, computed) : computed;
  taps_.append(module, first, keep_ == Keep::kComputed ? computed : fed,
               expected_ ? expected_(module, computed) : at::Tensor());
  if (shadow_) shadow_->handed_on(module, fed);
  return fed;
}

void TappedRun::run(std::int64_t stage) {
  taps_.clear();
  operations_.clear();
  runner_->run(stage, [&](std::int64_t first) {
    if (!faulty_) return;
    const bool is_layer = stage > 0 && stage <= model_.config().num_hidden_layers;
    faulty_->enter(stage - 1, first,
                   is_layer ? &model_.layers()[static_cast<std::size_t>(stage - 1)] : nullptr);
  });
}

void TappedRun::note(std::string_view module) {
  // The embedding is a look-up that no backend sees.
  operations_[std::string(module)] =
      module == "model.embed_tokens"
          ? Operation{.kind = OpKind::kEmbedding, .inputs = {}, .weight = &model_.embed_tokens()}
          : recording_.of_next_tap();
}

}  // namespace qf
