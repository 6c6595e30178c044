#include "qwen3fp4/train/calibration.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <fmt/format.h>

#include <utility>

#include "operations.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/model/weights.h"
#include "qwen3fp4/train/block.h"
#include "qwen3fp4/train/packed_rows.h"

// Shapes in this file: N tokens of a micro-batch, I input features of a weight, D hidden_size.
namespace qf {
namespace {

constexpr const char* kEmbedding = "model.embed_tokens.weight";

// f64 [I]: sums over the tokens seen so far.
struct Squares {
  at::Tensor sum;
  void add(const at::Tensor& x_NI) {
    const auto added = x_NI.to(at::kFloat).square().sum(0).to(at::kCPU, at::kDouble);
    sum = sum.defined() ? sum + added : added;
  }
};

// The inputs of a layer's linears: q, k and v share one, as gate and up do.
struct LayerSquares {
  Squares normed, attended, normed_h, hidden;
  void add(const BlockActivations& activations) {
    normed.add(activations.normed);
    attended.add(activations.attended);
    normed_h.add(activations.normed_h);
    hidden.add(activations.hidden);
  }
  [[nodiscard]] const Squares& of(Linear linear) const {
    switch (linear) {
      case Linear::kQ:
      case Linear::kK:
      case Linear::kV:
        return normed;
      case Linear::kO:
        return attended;
      case Linear::kGate:
      case Linear::kUp:
        return normed_h;
      case Linear::kDown:
        return hidden;
    }
    return normed;
  }
};

class Calibration {
 public:
  Calibration(const CheckpointSource& source, const Backend& backend)
      : source_(source), backend_(backend), packer_(source.config(), backend.device()) {}

  void add_micro_batch(std::span<const TrainSequence> sequences) {
    std::vector<std::span<const std::int64_t>> ids;
    for (const TrainSequence& sequence : sequences) ids.emplace_back(sequence.ids);
    rows_.push_back(packer_.pack(ids));
    tokens_ += rows_.back().count();
  }

  void embed() {
    const auto embedding = read(kEmbedding);
    for (const PackedRows& rows : rows_) {
      x_.push_back(embedding.index_select(0, rows.ids).to(backend_.device()));
    }
  }

  void run_layer(std::int64_t layer) {
    const BlockWeights weights = read_layer(layer);
    LayerSquares squares;
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      const Block block{source_.config(), backend_, weights, rows_[i], layer};
      const auto activations = block_activations(block, x_[i]);
      squares.add(activations);
      x_[i] = block_output(block, activations);
    }
    for (std::size_t i = 0; i < kLayerLinears.size(); ++i) {
      put(fmt::format("model.layers.{}.{}.weight", layer, kLayerLinears[i]),
          squares.of(static_cast<Linear>(i)));
    }
  }

  void run_norm() {
    const auto weight = read("model.norm.weight").to(backend_.device());
    Squares squares;
    for (at::Tensor& x_ND : x_) {
      squares.add(rms_norm(x_ND, weight, source_.config().rms_norm_eps).y);
      x_ND.reset();
    }
    put("lm_head.weight", squares);
  }

  [[nodiscard]] std::map<std::string, at::Tensor> take() { return std::move(means_); }

 private:
  [[nodiscard]] at::Tensor read(const std::string& name) const {
    const CheckpointTensor* tensor = source_.find(name);
    QF_CHECK(tensor != nullptr, "{}: {}: expected by the configuration, found no such tensor",
             source_.name(), name);
    return source_.read_f32(*tensor);
  }

  [[nodiscard]] BlockWeights read_layer(std::int64_t layer) const {
    BlockWeights weights;
    const auto read_to_device = [&](std::string_view module) {
      return read(fmt::format("model.layers.{}.{}.weight", layer, module)).to(backend_.device());
    };
    for (std::size_t i = 0; i < kLayerLinears.size(); ++i) {
      weights.linears[i] = read_to_device(kLayerLinears[i]);
    }
    for (std::size_t i = 0; i < kLayerNorms.size(); ++i) {
      const bool of_heads =
          i == static_cast<std::size_t>(Norm::kQuery) || i == static_cast<std::size_t>(Norm::kKey);
      if (of_heads && !source_.config().qk_norm) continue;
      weights.norms[i] = read_to_device(kLayerNorms[i]);
    }
    return weights;
  }

  void put(const std::string& name, const Squares& squares) {
    auto mean = (squares.sum / static_cast<double>(tokens_)).to(at::kFloat);
    if (!at::isfinite(mean).all().item<bool>()) {
      fail(ExitCode::kNonFinite, "{}: the inputs of {} are not finite on the calibration text",
           source_.name(), name);
    }
    means_.emplace(name, std::move(mean));
  }

  const CheckpointSource& source_;
  const Backend& backend_;
  RowPacker packer_;
  std::vector<PackedRows> rows_;  // of the micro-batches
  std::vector<at::Tensor> x_;     // f32 [N, D]: their residual streams
  std::int64_t tokens_ = 0;
  std::map<std::string, at::Tensor> means_;
};

std::int64_t token_count(std::span<const TrainSequence> sequences) {
  std::int64_t tokens = 0;
  for (const TrainSequence& sequence : sequences) tokens += std::ssize(sequence.ids);
  return tokens;
}

}  // namespace

std::vector<TrainSequence> spread(std::vector<TrainSequence> sequences, std::int64_t most) {
  const std::int64_t all = token_count(sequences);
  if (most == 0 || all <= most) return sequences;
  const double share = static_cast<double>(most) / static_cast<double>(all);
  std::vector<TrainSequence> taken;
  double allowed = 0;
  std::int64_t used = 0;
  for (TrainSequence& sequence : sequences) {
    const std::int64_t length = std::ssize(sequence.ids);
    allowed += share * static_cast<double>(length);
    // Half a token for what the sum of shares was rounded by.
    const bool fits = static_cast<double>(used + length) <= allowed + 0.5;
    if (!fits && !(taken.empty() && length > most)) continue;
    used += length;
    taken.push_back(std::move(sequence));
  }
  return taken;
}

std::map<std::string, at::Tensor> mean_input_squares(const CheckpointSource& source,
                                                     const Backend& backend,
                                                     std::span<const TrainSequence> sequences,
                                                     std::int64_t micro_batch_tokens,
                                                     const CalibrationProgress& progress) {
  const c10::InferenceMode no_autograd;
  const std::int64_t layers = source.config().num_hidden_layers;
  Calibration calibration(source, backend);
  for (std::size_t first = 0; first < sequences.size();) {
    std::int64_t tokens = std::ssize(sequences[first].ids);
    std::size_t end = first + 1;
    for (; end < sequences.size(); ++end) {
      tokens += std::ssize(sequences[end].ids);
      if (tokens > micro_batch_tokens) break;
    }
    calibration.add_micro_batch(sequences.subspan(first, end - first));
    first = end;
  }
  if (progress) progress(0, layers);
  calibration.embed();
  for (std::int64_t layer = 0; layer < layers; ++layer) {
    calibration.run_layer(layer);
    if (progress) progress(layer + 1, layers);
  }
  calibration.run_norm();
  return calibration.take();
}

}  // namespace qf
