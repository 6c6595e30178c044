#include "qwen3fp4/model/synthetic.h"

#include <ATen/ATen.h>

#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/half.h"
#include "qwen3fp4/formats/tensor_info.h"
#include "qwen3fp4/kernels/fp4.h"
#include "qwen3fp4/quant/parallel.h"

namespace qf {
namespace {

struct Qwen3Size {
  std::string_view name;
  std::int64_t hidden_size, intermediate_size, num_hidden_layers, num_attention_heads;
  bool tie_word_embeddings;
};

constexpr std::array<Qwen3Size, 6> kSizes{{
    {"qwen3-0.6b", 1024, 3072, 28, 16, true},
    {"qwen3-1.7b", 2048, 6144, 28, 16, true},
    {"qwen3-4b", 2560, 9728, 36, 32, true},
    {"qwen3-8b", 4096, 12288, 36, 32, false},
    {"qwen3-14b", 5120, 17408, 40, 40, false},
    {"qwen3-32b", 5120, 25600, 64, 64, false},
}};

// A thread's share: enough work to pay for waking it.
constexpr std::int64_t kWordsPerTask = std::int64_t{1} << 14;

constexpr std::uint64_t kGolden = 0x9E3779B97F4A7C15U;

// SplitMix64 (Steele, Lea, Flood 2014), whose i-th number needs none of those before it.
constexpr std::uint64_t random_word(std::uint64_t key, std::uint64_t index) {
  std::uint64_t x = key + (index + 1) * kGolden;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9U;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBU;
  return x ^ (x >> 31);
}
static_assert(random_word(0, 0) == 0xE220A8397B1DCDAFU, "the published first number of seed 0");

std::uint64_t key_of(std::uint64_t seed, std::string_view weight) {
  std::uint64_t hash = random_word(seed, 0);
  for (const char c : weight) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
  return hash;
}

// Writes make(random word), an array of Values, over and over until `out` is full.
template <class Make>
void fill(const at::Tensor& out, std::uint64_t key, const Make& make) {
  auto* const bytes = static_cast<char*>(out.mutable_data_ptr());
  constexpr auto kPiece = static_cast<std::int64_t>(sizeof(make(key)));
  const auto size = static_cast<std::int64_t>(out.nbytes());
  const std::int64_t whole = size / kPiece;
  const auto piece = [&](std::int64_t i) {
    return make(random_word(key, static_cast<std::uint64_t>(i)));
  };
  parallel_chunks(whole, kWordsPerTask, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto values = piece(i);
      std::memcpy(bytes + i * kPiece, &values, sizeof(values));
    }
  });
  const auto last = piece(whole);
  std::memcpy(bytes + whole * kPiece, &last, static_cast<std::size_t>(size - whole * kPiece));
}

void fill_bits(const at::Tensor& out, std::uint64_t key) {
  fill(out, key, [](std::uint64_t word) { return std::array{word}; });
}

// f32 in [low, high)
void fill_f32(const at::Tensor& out, std::uint64_t key, float low, float high) {
  const float step = (high - low) * 0x1p-24F;
  fill(out, key, [=](std::uint64_t word) {
    return std::array{low + step * static_cast<float>(word >> 40),
                      low + step * static_cast<float>(word & 0xFFFFFFU)};
  });
}

void fill_bf16(const at::Tensor& out, std::uint64_t key, float deviation) {
  // Uniform in [-a, a) deviates by a / sqrt(3).
  const float step = deviation * std::sqrt(3.0F) * 0x1p-15F;
  fill(out, key, [=](std::uint64_t word) {
    std::array<std::uint16_t, 4> values{};
    for (unsigned i = 0; i < 4; ++i) {
      const auto steps = static_cast<std::int16_t>(word >> (16 * i) & 0xFFFFU);
      values[i] = float_to_bf16(step * static_cast<float>(steps));
    }
    return values;
  });
}

// Root mean square of value(0) .. value(count - 1).
template <class Value>
float root_mean_square(unsigned count, const Value& value) {
  double sum = 0;
  for (unsigned i = 0; i < count; ++i) sum += static_cast<double>(value(i)) * value(i);
  return static_cast<float>(std::sqrt(sum / count));
}

WeightMatrix random_nvfp4(std::int64_t out, std::int64_t in, std::uint64_t key, float deviation) {
  QF_CHECK(in % kNvfp4Block == 0, "nvfp4: expected rows of a multiple of {} values, found {}",
           kNvfp4Block, in);
  auto codes = at::empty({out, in / 2}, at::kByte);
  fill_bits(codes, key);
  // 1, 1.125, ..., 1.875: the tensor scale sets the size.
  constexpr std::uint64_t kOnes = 0x3838383838383838U;
  constexpr std::uint64_t kMantissas = 0x0707070707070707U;
  auto scales = at::empty({out, in / kNvfp4Block}, at::kByte);
  fill(scales, random_word(key, ~std::uint64_t{0}),
       [](std::uint64_t word) { return std::array{kOnes | (word & kMantissas)}; });
  const float code_rms = root_mean_square(16, e2m1_to_float);
  const float scale_rms = root_mean_square(
      8, [](unsigned i) { return e4m3_to_float(static_cast<std::uint8_t>(0x38U | i)); });
  return WeightMatrix::nvfp4(std::move(codes), std::move(scales),
                             deviation / (code_rms * scale_rms));
}

WeightMatrix random_nf4(std::int64_t out, std::int64_t in, std::uint64_t key, float deviation) {
  const std::int64_t count = out * in;
  auto codes = at::empty({count / 2}, at::kByte);
  fill_bits(codes, key);
  // Uniform in [0.75, 1.25) of what the deviation asks for; that alone raises it by 1 %.
  const float absmax_mean =
      deviation / (root_mean_square(16, nf4_to_float) * std::sqrt(1.0F + 0.25F * 0.25F / 3.0F));
  auto absmax = at::empty({(count + kNf4Block - 1) / kNf4Block}, at::kFloat);
  fill_f32(absmax, random_word(key, ~std::uint64_t{0}), 0.75F * absmax_mean, 1.25F * absmax_mean);
  auto code_book = at::empty({16}, at::kFloat);
  for (unsigned i = 0; i < 16; ++i) code_book.mutable_data_ptr<float>()[i] = nf4_to_float(i);
  return WeightMatrix::nf4(std::move(codes), std::move(absmax), std::move(code_book), out, in,
                           kNf4Block);
}

void check_format(WeightFormat format) {
  if (format == WeightFormat::kNvfp4 || format == WeightFormat::kNf4 ||
      format == WeightFormat::kBF16) {
    return;
  }
  fail(ExitCode::kUsage, "synthetic weights: expected the format nvfp4, nf4 or bf16, found {}",
       weight_format_name(format));
}

}  // namespace

const std::vector<std::string_view>& qwen3_names() {
  static const std::vector<std::string_view> kNames = [] {
    std::vector<std::string_view> names;
    for (const Qwen3Size& size : kSizes) names.push_back(size.name);
    return names;
  }();
  return kNames;
}

ModelConfig qwen3_config(std::string_view name) {
  for (const Qwen3Size& size : kSizes) {
    if (size.name != name) continue;
    ModelConfig config;
    config.model_type = "qwen3";
    config.vocab_size = 151936;
    config.hidden_size = size.hidden_size;
    config.intermediate_size = size.intermediate_size;
    config.num_hidden_layers = size.num_hidden_layers;
    config.num_attention_heads = size.num_attention_heads;
    config.num_key_value_heads = 8;
    config.head_dim = 128;
    config.max_position_embeddings = 40960;
    config.rms_norm_eps = 1e-6;
    config.rope.theta = 1e6;
    config.tie_word_embeddings = size.tie_word_embeddings;
    config.qk_norm = true;
    config.eos_token_ids = {151645};
    return config;
  }
  fail(ExitCode::kUsage, "unknown model '{}': expected one of {} (--synthetic)", name,
       fmt::join(qwen3_names(), ", "));
}

WeightMatrix synthetic_matrix(WeightFormat format, std::int64_t out_features,
                              std::int64_t in_features, std::uint64_t seed) {
  check_format(format);
  const float deviation = 1.0F / std::sqrt(static_cast<float>(in_features));
  if (format == WeightFormat::kNvfp4) {
    return random_nvfp4(out_features, in_features, seed, deviation);
  }
  if (format == WeightFormat::kNf4) return random_nf4(out_features, in_features, seed, deviation);
  auto values = at::empty({out_features, in_features}, at::kBFloat16);
  fill_bf16(values, seed, deviation);
  return WeightMatrix::dense(std::move(values));
}

SyntheticWeights::SyntheticWeights(const ModelConfig& config, WeightFormat format,
                                   std::uint64_t seed, Progress progress)
    : format_(format),
      own_head_(!config.tie_word_embeddings || format != WeightFormat::kBF16),
      seed_(seed),
      progress_(std::move(progress)) {
  check_format(format);
  for_each_weight(config, own_head_,
                  [&](const WeightSpec& spec) { all_ += element_count(spec.shape); });
}

bool SyntheticWeights::has(const std::string& weight) const {
  return weight != "lm_head.weight" || own_head_;
}

void SyntheticWeights::count(const WeightSpec& spec) {
  drawn_ += element_count(spec.shape);
  if (progress_) progress_(drawn_, all_);
}

WeightMatrix SyntheticWeights::matrix(const WeightSpec& spec) {
  const bool multiplies = spec.kind == WeightKind::kLinear || spec.kind == WeightKind::kHead;
  auto weight = synthetic_matrix(multiplies ? format_ : WeightFormat::kBF16, spec.shape[0],
                                 spec.shape[1], key_of(seed_, spec.name));
  count(spec);
  return weight;
}

at::Tensor SyntheticWeights::norm(const WeightSpec& spec) {
  auto weight = at::empty(spec.shape, at::kFloat);
  fill_f32(weight, key_of(seed_, spec.name), 0.5F, 1.5F);
  count(spec);
  return weight;
}

}  // namespace qf
