#include "qwen3fp4/train/start.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/kernels/fp4.h"
#include "qwen3fp4/run/name_filter.h"
#include "qwen3fp4/train/masters.h"

namespace qf {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";

// Decides weight by weight, in the inventory's order.
class Chooser {
 public:
  Chooser(const ModelConfig& config, TrainStart start)
      : start_(std::move(start)), freeze_("--freeze", "weight", start_.freeze) {
    const std::int64_t layers = config.num_hidden_layers;
    if (start_.last_layers > layers) {
      fail(ExitCode::kUsage, "--train-last-layers: expected at most {} layers, found {}", layers,
           start_.last_layers);
    }
    if (start_.embedding && start_.last_layers > 0) {
      fail(ExitCode::kUsage,
           "--train-embedding: expected all layers to train, found --train-last-layers {}",
           start_.last_layers);
    }
    if (start_.embedding && freeze_.matches(kEmbedding)) {
      fail(ExitCode::kUsage, "--train-embedding: expected no --freeze that finds {}, got '{}'",
           kEmbedding, start_.freeze);
    }
    first_layer_ = start_.last_layers > 0 ? layers - start_.last_layers : 0;
  }

  [[nodiscard]] bool trains(const WeightSpec& spec) {
    return (spec.kind != WeightKind::kEmbedding || start_.embedding) &&
           !freeze_.matches(spec.name) && !before_first_layer(spec.name);
  }

  std::unique_ptr<TrainedWeight> choose(const WeightSpec& spec, const WeightMatrix& weight) {
    // Numbered also where it stays frozen: what else trains changes nobody's random numbers.
    const std::uint32_t number = spec.kind == WeightKind::kEmbedding ? 0 : ++weights_;
    if (!trains(spec)) return nullptr;
    TrainedWeightOptions options{.profile = start_.profile,
                                 .tensor = number,
                                 .seed = start_.seed,
                                 .offload_moments = start_.offload_moments,
                                 .offload_master = start_.offload_master};
    if (start_.master != nullptr && weight.format() == WeightFormat::kNvfp4) {
      options.master = master_of(*start_.master, spec, "--init-master");
    }
    return make_trained_weight(weight, options);
  }

 private:
  [[nodiscard]] bool before_first_layer(const std::string& name) const {
    for (std::int64_t layer = 0; layer < first_layer_; ++layer) {
      if (name.starts_with(fmt::format("model.layers.{}.", layer))) return true;
    }
    return false;
  }

  TrainStart start_;
  NameFilter freeze_;
  std::int64_t first_layer_ = 0;
  std::uint32_t weights_ = 0;
};

}  // namespace

MakeTrained make_trained(const ModelConfig& config, const TrainStart& start) {
  return [chooser = std::make_shared<Chooser>(config, start)](const WeightSpec& spec,
                                                              const WeightMatrix& weight) {
    return chooser->choose(spec, weight);
  };
}

std::function<bool(const WeightSpec&)> trained_weights(const ModelConfig& config,
                                                       const TrainStart& start) {
  return [chooser = std::make_shared<Chooser>(config, start)](const WeightSpec& spec) {
    return chooser->trains(spec);
  };
}

double median_block_scale(const ModelWeights& model) {
  std::vector<double> medians;
  model.for_each([&](const ModelWeight& weight) {
    if (weight.trained() == nullptr || weight.spec().kind != WeightKind::kLinear) return;
    const WeightMatrix& matrix = weight.weight();
    if (matrix.format() != WeightFormat::kNvfp4) return;
    // E4M3 bits of scales, which are not negative, are in the order of their values.
    const auto bits = matrix.scales().view({-1}).median().item<std::uint8_t>();
    medians.push_back(static_cast<double>(e4m3_to_float(bits) * matrix.global_scale()));
  });
  if (medians.empty()) return 0;
  std::ranges::nth_element(medians, medians.begin() + std::ssize(medians) / 2);
  return medians[medians.size() / 2];
}

}  // namespace qf
