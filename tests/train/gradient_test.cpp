// The step's gradients against autograd through the whole model, in double precision and written
// once more with plain operations: the one-line definition of the straight-through estimator is
// the oracle for the blockwise backward.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>
#include <limits>

#include "qwen3fp4/model/rope.h"
#include "qwen3fp4/train/forward.h"
#include "training_model.h"

namespace qf {
namespace {

using test::RandomModel;
using test::RecordedModel;

// Results of fp32 sums of n products, in any order, err by n * 2^-24 relative to the sum of
// magnitudes. A gradient passes through at most 3 layers forward and back, each with sums over
// D, F, H*E and the tokens (under 600 in all), and through norms and softmaxes that grow it by
// less than 10: 6 * 600 * 6e-8 * 10 = 2e-3 of a tensor's largest gradient at worst, and a
// twentieth of that, since rounding errors average out. A missing term or factor is 1e-2 or more.
constexpr double kBound = 1e-4;
// With bf16 operands those sums start from values rounded by 2^-9: 6 * 4 roundings in a row make
// 24 * 2^-9 = .05 of a gradient's norm, grown by norms and softmaxes. The largest seen is .07; a
// missing term is half of the norm and more.
constexpr double kBF16Bound = 0.15;

// Where steps can run here: main memory, and the GPU if there is one.
std::vector<std::string> devices() {
  std::vector<std::string> names{"reference"};
  for (const auto name : backend_names()) {
    if (name == "cuda") names.emplace_back(name);
  }
  return names;
}

class Oracle {
 public:
  explicit Oracle(const Qwen3Model& model) : config_(model.config()) {
    const auto generator = at::make_generator<at::CPUGeneratorImpl>(7);
    ModelSource source(model);
    for_each_weight(config_, source.has("lm_head.weight"), [&](const WeightSpec& spec) {
      const bool norm = spec.kind == WeightKind::kNorm;
      const auto stored =
          (norm ? source.norm(spec) : source.matrix(spec).dequantize()).to(at::kDouble).clone();
      if (spec.kind == WeightKind::kEmbedding || norm) {
        weights_[spec.name] = stored;
        if (norm || source.has("lm_head.weight"))
          leaves_[spec.name] = weights_[spec.name].set_requires_grad(true);
        return;
      }
      // The master lies anywhere near its code; w + (dq(q(w)) - w).detach().
      auto master = stored + 0.01 * at::randn(stored.sizes(), generator, at::kDouble);
      master.set_requires_grad(true);
      leaves_[spec.name] = master;
      weights_[spec.name] = master + (stored - master).detach();
    });
  }

  // The loss of one sequence's targets, summed.
  at::Tensor cross_entropy(const TrainSequence& sequence) const {
    const auto log_p = at::log_softmax(logits(sequence.ids), 1);
    at::Tensor sum = at::zeros({}, at::kDouble);
    for (std::int64_t i = 1; i < std::ssize(sequence.ids); ++i) {
      const auto at_i = static_cast<std::size_t>(i);
      if (sequence.targets[at_i]) sum = sum - log_p[i - 1][sequence.ids[at_i]];
    }
    return sum;
  }
  // KL(teacher || this), summed over the targets.
  at::Tensor divergence(const TrainSequence& sequence, const Oracle& teacher) const {
    const auto log_p = at::log_softmax(teacher.logits(sequence.ids).detach(), 1);
    const auto log_q = at::log_softmax(logits(sequence.ids), 1);
    const auto rows = (log_p.exp() * (log_p - log_q)).sum(1);
    at::Tensor sum = at::zeros({}, at::kDouble);
    for (std::int64_t i = 1; i < std::ssize(sequence.ids); ++i) {
      if (sequence.targets[static_cast<std::size_t>(i)]) sum = sum + rows[i - 1];
    }
    return sum;
  }
  std::map<std::string, at::Tensor> gradients(const at::Tensor& loss) const {
    torch::autograd::variable_list inputs;
    for (const auto& [name, leaf] : leaves_) inputs.push_back(leaf);
    const auto found = torch::autograd::grad({loss}, inputs);
    std::map<std::string, at::Tensor> named;
    std::size_t i = 0;
    for (const auto& [name, leaf] : leaves_) named[name] = found[i++];
    return named;
  }

 private:
  const at::Tensor& weight(std::int64_t layer, const char* module) const {
    return weights_.at(fmt::format("model.layers.{}.{}.weight", layer, module));
  }
  at::Tensor norm(const at::Tensor& x, const at::Tensor& weight) const {
    return x / (x.square().mean(-1, true) + config_.rms_norm_eps).sqrt() * weight;
  }
  at::Tensor logits(const std::vector<std::int64_t>& ids) const {
    auto x = weights_.at("model.embed_tokens.weight").index_select(0, at::tensor(ids, at::kLong));
    for (std::int64_t layer = 0; layer < config_.num_hidden_layers; ++layer) {
      x = x + attention(norm(x, weight(layer, "input_layernorm")), layer);
      const auto y = norm(x, weight(layer, "post_attention_layernorm"));
      const auto gate = at::matmul(y, weight(layer, "mlp.gate_proj").t());
      const auto up = at::matmul(y, weight(layer, "mlp.up_proj").t());
      x = x + at::matmul(gate * at::sigmoid(gate) * up, weight(layer, "mlp.down_proj").t());
    }
    const auto head = weights_.find("lm_head.weight");
    const auto& matrix =
        head != weights_.end() ? head->second : weights_.at("model.embed_tokens.weight");
    return at::matmul(norm(x, weights_.at("model.norm.weight")), matrix.t());
  }
  at::Tensor attention(const at::Tensor& x, std::int64_t layer) const {
    const std::int64_t tokens = x.size(0);
    const auto [cos, sin] = rope_tables(config_, rope_inverse_frequencies(config_), 0, tokens);
    const auto heads = [&](const char* linear, const char* norm_name, std::int64_t count) {
      auto y = at::matmul(x, weight(layer, linear).t()).view({tokens, count, config_.head_dim});
      if (norm_name == nullptr) return y;
      if (config_.qk_norm) y = norm(y, weight(layer, norm_name));
      const auto halves = y.chunk(2, 2);
      return y * cos.to(at::kDouble).unsqueeze(1) +
             at::cat({-halves[1], halves[0]}, 2) * sin.to(at::kDouble).unsqueeze(1);
    };
    const std::int64_t group = config_.num_attention_heads / config_.num_key_value_heads;
    const auto q = heads("self_attn.q_proj", "self_attn.q_norm", config_.num_attention_heads);
    const auto k = heads("self_attn.k_proj", "self_attn.k_norm", config_.num_key_value_heads)
                       .repeat_interleave(group, 1);
    const auto v =
        heads("self_attn.v_proj", nullptr, config_.num_key_value_heads).repeat_interleave(group, 1);
    const auto scores =
        at::einsum("the,she->hts", {q, k}) / std::sqrt(static_cast<double>(config_.head_dim));
    const auto future = at::ones({tokens, tokens}, at::kBool).triu(1);
    const auto p =
        at::softmax(scores.masked_fill(future, -std::numeric_limits<double>::infinity()), -1);
    return at::matmul(at::einsum("hts,she->the", {p, v}).reshape({tokens, -1}),
                      weight(layer, "self_attn.o_proj").t());
  }

  ModelConfig config_;
  std::map<std::string, at::Tensor> weights_, leaves_;
};

double worst_difference(const at::Tensor& found, const at::Tensor& expected) {
  return ((found.to(at::kDouble).view(expected.sizes()) - expected).abs().amax() /
          expected.abs().amax())
      .item<double>();
}

void expect_gradients(const RecordedModel& model, const std::map<std::string, at::Tensor>& expected,
                      double bound) {
  for (const auto& [name, gradient] : expected) {
    EXPECT_LE(worst_difference(model.gradient(name), gradient), bound) << name;
  }
  EXPECT_EQ(model.recorded.size(), expected.size());
}

TrainSettings exact_settings() {
  TrainSettings settings;
  settings.clip = 0;
  return settings;
}

using Case = std::tuple<std::uint32_t, std::string>;  // seed, backend

class Gradient : public ::testing::TestWithParam<Case> {
 protected:
  Gradient()
      : backend_(make_backend(std::get<1>(GetParam()), ComputeDtype::kF32)),
        model_(RandomModel{.seed = std::get<0>(GetParam())}.make()),
        oracle_(model_) {}
  std::unique_ptr<Backend> backend_;
  Qwen3Model model_;
  Oracle oracle_;
};

// Sequences of several attention tiles, of one token without a target, with gaps between targets.
TrainBatch mixed_batch(const Qwen3Model& model) {
  return {test::random_sequence(model, 150, 1, 2), test::random_sequence(model, 1, 2),
          test::random_sequence(model, 23, 3), test::random_sequence(model, 40, 4, 7)};
}

TEST_P(Gradient, EqualsAutogradThroughTheWholeModel) {
  RecordedModel recorded(model_, *backend_);
  Trainer trainer(recorded.weights, nullptr, exact_settings());
  const TrainBatch batch = mixed_batch(model_);
  const auto result = trainer.step(batch);

  at::Tensor sum = at::zeros({}, at::kDouble);
  for (const auto& sequence : batch) sum = sum + oracle_.cross_entropy(sequence);
  const auto loss = sum / static_cast<double>(result.batch.token_targets);
  EXPECT_EQ(result.batch.token_targets, 74 + 22 + 5);
  EXPECT_EQ(result.batch.tokens, 150 + 1 + 23 + 40);
  EXPECT_NEAR(result.batch.loss, loss.item<double>(), kBound * loss.item<double>());
  const auto expected = oracle_.gradients(loss);
  expect_gradients(recorded, expected, kBound);

  double squares = 0;
  for (const auto& [name, gradient] : expected) squares += gradient.square().sum().item<double>();
  EXPECT_NEAR(result.gradient_norm, std::sqrt(squares), kBound * std::sqrt(squares));
}

TEST_P(Gradient, EqualsAutogradWithATeacher) {
  const auto teacher_model = [&] {
    // Of the same vocabulary: the same shapes, other weights.
    auto other = RandomModel{.seed = std::get<0>(GetParam())}.make();
    for (std::int64_t i = 0; i < other.config().num_hidden_layers; ++i) {
      const auto& down = other.weight(i, "mlp.down_proj");
      other.replace_weight(i, "mlp.down_proj", WeightMatrix::dense(down.dequantize().flip({0})));
    }
    return other;
  }();
  const Oracle teacher_oracle(teacher_model);
  RecordedModel recorded(model_, *backend_);
  const RecordedModel teacher(teacher_model, *backend_);
  auto settings = exact_settings();
  settings.kl_weight = 2;
  Trainer trainer(recorded.weights, &teacher.weights, settings);
  TrainBatch batch = mixed_batch(model_);
  batch[0].kind = TargetKind::kTeacher;
  batch[3].kind = TargetKind::kTeacher;
  const auto result = trainer.step(batch);

  const auto kl = (oracle_.divergence(batch[0], teacher_oracle) +
                   oracle_.divergence(batch[3], teacher_oracle)) /
                  79;
  const auto loss = oracle_.cross_entropy(batch[2]) / 22 + 2 * kl;
  EXPECT_NEAR(result.batch.kl, kl.item<double>(), kBound * kl.item<double>());
  EXPECT_NEAR(result.batch.loss, loss.item<double>(), kBound * loss.item<double>());
  expect_gradients(recorded, oracle_.gradients(loss), kBound);
}

TEST_P(Gradient, InBF16IsCloseToAutograd) {
  RecordedModel recorded(model_, *backend_);
  auto settings = exact_settings();
  settings.compute = ComputeDtype::kBF16;
  Trainer trainer(recorded.weights, nullptr, settings);
  const TrainBatch batch{test::random_sequence(model_, 150, 1),
                         test::random_sequence(model_, 9, 2)};
  (void)trainer.step(batch);
  const auto loss = oracle_.cross_entropy(batch[0]) + oracle_.cross_entropy(batch[1]);
  for (const auto& [name, gradient] : oracle_.gradients(loss / (149 + 8))) {
    const auto found = recorded.gradient(name).to(at::kDouble).view(gradient.sizes());
    EXPECT_LE(((found - gradient).norm() / gradient.norm()).item<double>(), kBF16Bound) << name;
  }
}

TEST_P(Gradient, HiddenStatesAreThoseOfTheForwardPass) {
  const RecordedModel recorded(model_, *backend_);
  RowPacker packer(model_.config(), backend_->device());
  const auto batch = mixed_batch(model_);
  const std::vector<std::span<const std::int64_t>> ids{batch[0].ids, batch[2].ids};
  const auto rows = packer.pack(ids);
  const auto hidden =
      final_norm(recorded.weights, run_blocks(recorded.weights, rows, at::kFloat)).hidden_MD;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    KvCache cache(model_.config(), 200);
    const auto expected = model_.forward(ids[i], cache);
    EXPECT_LE(worst_difference(hidden.slice(0, rows.starts[i], rows.starts[i + 1]).cpu(),
                               expected.to(at::kDouble)),
              kBound);
  }
}

// Seeds of Qwen3 and Llama shapes, with tied and untied heads.
INSTANTIATE_TEST_SUITE_P(RandomModels, Gradient,
                         ::testing::Combine(::testing::Range(1U, 9U),
                                            ::testing::ValuesIn(devices())));

}  // namespace
}  // namespace qf
