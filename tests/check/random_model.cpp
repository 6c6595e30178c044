#include "random_model.h"

#include <ATen/ATen.h>

#include <cstddef>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "qwen3fp4/formats/dat.h"
#include "qwen3fp4/model/weights.h"
#include "qwen3fp4/quant/quantize.h"

namespace qf::test {
namespace {

// A writer's bytes without a file would need a second path through the program; a file in memory
// does as well.
class MemoryDat {
 public:
  void add(std::string_view name, DType type, const std::vector<std::int64_t>& shape,
           const at::Tensor& values) {
    ++entries_;
    put_number(static_cast<std::uint64_t>(name.size()));
    put(std::as_bytes(std::span(name)));
    put_number(static_cast<std::uint64_t>(type));
    put_number(shape.size());
    for (const std::int64_t dim : shape) put_number(static_cast<std::uint64_t>(dim));
    const auto stored = values.contiguous();
    put({static_cast<const std::byte*>(stored.const_data_ptr()), stored.nbytes()});
  }
  [[nodiscard]] std::vector<std::byte> bytes() const {
    MemoryDat header;
    header.put_number(entries_);
    header.put(body_);
    return header.body_;
  }

 private:
  void put(std::span<const std::byte> bytes) {
    body_.insert(body_.end(), bytes.begin(), bytes.end());
  }
  void put_number(std::uint64_t value) {
    while (value >= 0x80) {
      body_.push_back(static_cast<std::byte>((value & 0x7F) | 0x80));
      value >>= 7;
    }
    body_.push_back(static_cast<std::byte>(value));
  }
  std::vector<std::byte> body_;
  std::uint64_t entries_ = 0;
};

ModelConfig random_config(std::int64_t layers, std::mt19937& random) {
  const auto one_of = [&](std::initializer_list<std::int64_t> choices) {
    return choices.begin()[random() % choices.size()];
  };
  const std::int64_t kv_heads = one_of({1, 2, 3});
  const bool qwen = random() % 4 != 0;
  const nlohmann::json json{
      {"model_type", qwen ? "qwen3" : "llama"},
      {"vocab_size", 50 + random() % 60},
      {"hidden_size", one_of({32, 48, 64, 112})},
      {"intermediate_size", one_of({48, 80, 96})},
      {"num_hidden_layers", layers},
      {"num_attention_heads", kv_heads * one_of({1, 2, 4}) * (kv_heads == 1 ? 2 : 1)},
      {"num_key_value_heads", kv_heads},
      {"head_dim", one_of({16, 32})},
      {"hidden_act", "silu"},
      {"attention_bias", false},
      {"max_position_embeddings", 512},
      {"rms_norm_eps", 1e-6},
      {"rope_theta", random() % 2 == 0 ? 1e4 : 1e6},
      {"rope_scaling", nullptr},
      {"tie_word_embeddings", random() % 2 == 0},
      {"use_sliding_window", false},
      {"torch_dtype", "float32"}};
  return ModelConfig::from_json(json.dump(), "config.json");
}

at::Tensor random_weight(const WeightSpec& spec, const at::Generator& generator) {
  if (spec.kind == WeightKind::kNorm) return 1 + 0.2 * at::randn(spec.shape, generator);
  const double spread =
      spec.kind == WeightKind::kEmbedding ? 1 : 1 / std::sqrt(static_cast<double>(spec.shape[1]));
  auto weight = at::randn(spec.shape, generator) * spread;
  // Each tensor has a size of its own, so that no two tensor scales are alike.
  weight.mul_(at::rand({1}, generator) + 0.5);
  weight.select(1, spec.shape[1] / 3).mul_(5);
  return weight;
}

void add_weight(MemoryDat& file, const WeightSpec& spec, const at::Tensor& values,
                WeightFormat format) {
  if (format == WeightFormat::kF32) {
    file.add(spec.name, DType::kF32, spec.shape, values);
  } else if (format == WeightFormat::kBF16) {
    file.add(spec.name, DType::kBF16, spec.shape, values.to(at::kBFloat16));
  } else if (format == WeightFormat::kNvfp4) {
    const auto packed = quantize_nvfp4(values, {});
    file.add(spec.name + ".qdata", DType::kU8, packed.codes().sizes().vec(), packed.codes());
    file.add(spec.name + ".scale", DType::kF8E4M3, packed.scales().sizes().vec(), packed.scales());
    file.add(spec.name + ".scale_2", DType::kF32, {1}, at::full({1}, packed.global_scale()));
  } else {
    const auto packed = quantize_nf4(values);
    file.add(spec.name, DType::kU8, packed.codes().sizes().vec(), packed.codes());
    file.add(spec.name + ".absmax", DType::kF32, packed.scales().sizes().vec(), packed.scales());
    file.add(spec.name + ".quant_map", DType::kF32, {16}, packed.code_book());
  }
}

}  // namespace

const Backend& reference_backend() {
  static const ReferenceBackend kReference;
  return kReference;
}

Qwen3Model RandomModel::make() const {
  std::mt19937 random(seed);
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  const ModelConfig config = random_config(layers, random);
  MemoryDat file;
  for_each_weight(config, !config.tie_word_embeddings, [&](const WeightSpec& spec) {
    const bool packs = spec.kind == WeightKind::kLinear || spec.kind == WeightKind::kHead;
    const bool is_norm = spec.kind == WeightKind::kNorm;
    add_weight(file, spec, random_weight(spec, generator),
               packs                   ? format
               : is_norm && bf16_norms ? WeightFormat::kBF16
                                       : WeightFormat::kF32);
  });
  const auto bytes = file.bytes();
  const MemorySource source(bytes);
  return Qwen3Model::load(config, DatReader(source), reference_backend());
}

std::vector<std::int64_t> random_ids(const Qwen3Model& model, std::int64_t count,
                                     std::uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<std::int64_t> ids;
  for (std::int64_t i = 0; i < count; ++i) {
    ids.push_back(static_cast<std::int64_t>(random()) % model.config().vocab_size);
  }
  return ids;
}

}  // namespace qf::test
