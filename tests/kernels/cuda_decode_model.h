#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "cuda_support.h"
#include "qwen3fp4/kernels/cpu/dequantize.h"
#include "qwen3fp4/kernels/cpu/kv_cache.h"
#include "qwen3fp4/kernels/cuda/decode_step.h"
#include "qwen3fp4/kernels/fp4.h"
#include "qwen3fp4/kernels/kv_row.h"

// A random model for the decode step: packed on the device, dequantised on the host.
namespace qf {

struct DecodeShape {
  int layers, hidden, intermediate, heads, kv_heads, head_dim, vocab;
  bool head_norms;
  std::int64_t context;
};

inline std::array<float, 16> nf4_book() {
  std::array<float, 16> book{};
  for (unsigned i = 0; i < 16; ++i) book[i] = nf4_to_float(i);
  return book;
}
// As the stream layout's readers take it.
inline std::vector<float> nf4_stream_book() {
  const auto levels = levels_by_code(nf4_book(), papers_nf4_table());
  return {levels.begin(), levels.end()};
}

enum class RandomFormat { kNvfp4, kNf4 };

// Random codes; scales of many sizes, zero and subnormal ones among them; scaled so that products
// stay near the size of their input.
class RandomMatrix {
 public:
  RandomMatrix(RandomFormat format, std::int64_t rows, std::int64_t cols, bool nan_scale = false)
      : rows_(rows), cols_(cols), codes_(random_bytes(rows * cols / 2)) {
    dense_.resize(static_cast<std::size_t>(rows * cols));
    chunks_ = std::make_unique<DeviceArray<std::uint8_t>>(
        std::vector<std::uint8_t>(static_cast<std::size_t>(cuda::stream_bytes(rows, cols)), 0xA5));
    if (format == RandomFormat::kNvfp4) {
      fill_nvfp4(nan_scale);
    } else {
      fill_nf4(nan_scale);
    }
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  const cuda::DecodeMatrix& matrix() const { return matrix_; }
  std::vector<double> times(const std::vector<double>& x) const {
    std::vector<double> y(static_cast<std::size_t>(rows_));
    for (std::int64_t r = 0; r < rows_; ++r) {
      const float* const w = dense_.data() + r * cols_;
      double sum = 0;
      for (std::int64_t c = 0; c < cols_; ++c) sum += w[c] * x[static_cast<std::size_t>(c)];
      y[static_cast<std::size_t>(r)] = sum;
    }
    return y;
  }

 private:
  void fill_nvfp4(bool nan_scale) {
    std::vector<std::uint8_t> scales(static_cast<std::size_t>(rows_ * cols_ / kNvfp4Block));
    for (auto& scale : scales) {
      const unsigned r = random_source()();
      scale = static_cast<std::uint8_t>((r & 255U) < 8U ? r >> 8 & 7U : 0x28U + (r >> 8 & 31U));
    }
    if (nan_scale) scales[scales.size() / 2] = 0x7F;
    const float tensor_scale = 0.2F / std::sqrt(static_cast<float>(cols_));
    const Nvfp4View host{codes_.data(), scales.data(), nullptr, tensor_scale, rows_, cols_};
    dequantize_nvfp4(host, {0, rows_}, dense_.data());
    const DeviceArray<std::uint8_t> codes(codes_), device_scales(scales);
    EXPECT_EQ(
        cuda::pack_stream({codes.get(), device_scales.get(), nullptr, tensor_scale, rows_, cols_},
                          chunks_->get(), nullptr),
        cudaSuccess);
    matrix_ = {chunks_->get(), tensor_scale};
  }
  void fill_nf4(bool nan_scale) {
    auto absmax = random_floats(rows_ * cols_ / kNf4Block);
    for (float& scale : absmax) scale = (2.0F + scale) / std::sqrt(static_cast<float>(cols_));
    absmax.front() = 0;
    absmax.back() = 1e-40F;
    if (nan_scale) absmax[absmax.size() / 2] = NAN;
    const auto book = nf4_book();
    const Nf4View host{codes_.data(), absmax.data(), book.data(), kNf4Block, rows_, cols_};
    dequantize_nf4(host, {0, rows_}, dense_.data());
    const DeviceArray<std::uint8_t> codes(codes_);
    const DeviceArray<float> device_absmax(absmax), device_book({book.begin(), book.end()});
    EXPECT_EQ(cuda::pack_stream(Nf4View{codes.get(), device_absmax.get(), device_book.get(),
                                        kNf4Block, rows_, cols_},
                                papers_nf4_table(), chunks_->get(), nullptr),
              cudaSuccess);
    matrix_ = {chunks_->get(), 1};
  }

  std::int64_t rows_, cols_;
  std::vector<std::uint8_t> codes_;
  std::vector<float> dense_;
  std::unique_ptr<DeviceArray<std::uint8_t>> chunks_;
  cuda::DecodeMatrix matrix_{};
};

struct RandomNorm {
  explicit RandomNorm(std::int64_t count) : host(random_floats(count)) {
    for (float& value : host) value = 1.0F + 0.3F * value;
    device = std::make_unique<DeviceArray<float>>(host);
  }
  std::vector<float> host;
  std::unique_ptr<DeviceArray<float>> device;
};

struct RandomLayer {
  RandomLayer(RandomFormat format, const DecodeShape& s, bool nan_scale)
      : q(format, s.heads * s.head_dim, s.hidden),
        k(format, s.kv_heads * s.head_dim, s.hidden),
        v(format, s.kv_heads * s.head_dim, s.hidden),
        o(format, s.hidden, s.heads * s.head_dim),
        gate(format, s.intermediate, s.hidden, nan_scale),
        up(format, s.intermediate, s.hidden),
        down(format, s.hidden, s.intermediate),
        input_norm(s.hidden),
        post_norm(s.hidden),
        q_norm(s.head_dim),
        k_norm(s.head_dim) {}
  RandomMatrix q, k, v, o, gate, up, down;
  RandomNorm input_norm, post_norm, q_norm, k_norm;
};

inline std::vector<double> rms_normed(const std::vector<double>& x, const float* weight,
                                      double eps) {
  double squares = 0;
  for (const double value : x) squares += value * value;
  const double inverse = 1 / std::sqrt(squares / static_cast<double>(x.size()) + eps);
  std::vector<double> y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] * inverse * weight[i];
  return y;
}

// Keys or values of all layers on the device, of random numbers: fp16, or FP8.
class RandomCache {
 public:
  RandomCache(const DecodeShape& s, bool fp8)
      : width_(s.head_dim), heads_(s.layers * s.kv_heads), context_(s.context) {
    const std::int64_t rows = heads_ * context_;
    const auto values = random_floats(rows * width_);
    if (!fp8) {
      halves_ = std::make_unique<DeviceArray<Bits16>>(narrowed<HalfType>(values));
      return;
    }
    std::vector<std::uint8_t> codes(values.size());
    scales_host_ = poison(heads_ * kv_scale_stride(context_));
    for (std::int64_t row = 0; row < rows; ++row) {
      quantize_kv_row(values.data() + row * width_, width_, codes.data() + row * width_,
                      &scales_host_[scale_at(row)]);
    }
    codes_ = std::make_unique<DeviceArray<std::uint8_t>>(codes);
    scales_ = std::make_unique<DeviceArray<float>>(scales_host_);
  }
  void* get() const {
    return codes_ != nullptr ? static_cast<void*>(codes_->get()) : halves_->get();
  }
  float* scales() const { return scales_ != nullptr ? scales_->get() : nullptr; }
  // What nobody may read from `position` on becomes NaN; fp8 only.
  void hide_from(std::int64_t position) const {
    auto hidden = scales_host_;
    for (std::size_t i = 0; i < hidden.size(); ++i) {
      if (static_cast<std::int64_t>(i) % kv_scale_stride(context_) >= position) hidden[i] = NAN;
    }
    EXPECT_EQ(cudaMemcpy(scales_->get(), hidden.data(), hidden.size() * sizeof(float),
                         cudaMemcpyHostToDevice),
              cudaSuccess);
  }
  // As numbers [layers, kv_heads, context, head_dim].
  std::vector<float> host() const {
    if (codes_ == nullptr) return widened<HalfType>(halves_->host());
    const auto codes = codes_->host();
    const auto scales = scales_->host();
    std::vector<float> out(codes.size());
    for (std::int64_t row = 0; row < heads_ * context_; ++row) {
      dequantize_kv_rows(codes.data() + row * width_, &scales[scale_at(row)], 1, width_,
                         out.data() + row * width_);
    }
    return out;
  }

 private:
  std::size_t scale_at(std::int64_t row) const {
    return static_cast<std::size_t>(row / context_ * kv_scale_stride(context_) + row % context_);
  }
  std::int64_t width_, heads_, context_;
  std::vector<float> scales_host_;
  std::unique_ptr<DeviceArray<Bits16>> halves_;
  std::unique_ptr<DeviceArray<std::uint8_t>> codes_;
  std::unique_ptr<DeviceArray<float>> scales_;
};

// The model on the device, and the definition of its forward pass in double.
class RandomDecodeModel {
 public:
  static constexpr float kEps = 1e-6F;

  explicit RandomDecodeModel(const DecodeShape& s, RandomFormat weights = RandomFormat::kNvfp4,
                             bool fp8 = false, int nan_layer = -1)
      : shape(s),
        format(weights),
        fp8_cache(fp8),
        head_(weights, s.vocab, s.hidden),
        norm_(s.hidden) {
    for (int i = 0; i < s.layers; ++i) layers_.emplace_back(weights, s, i == nan_layer);
    embed_host_.resize(static_cast<std::size_t>(s.vocab) * static_cast<std::size_t>(s.hidden));
    std::normal_distribution<float> normal;
    for (auto& value : embed_host_) value = bf16_of_float(normal(random_source()));
    embed_ = std::make_unique<DeviceArray<std::uint16_t>>(embed_host_);
    const std::int64_t half = s.head_dim / 2;
    for (std::int64_t t = 0; t < s.context; ++t) {
      for (std::int64_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(t) *
                             std::pow(1e4, -static_cast<double>(i) / static_cast<double>(half));
        cos_host_.push_back(static_cast<float>(std::cos(angle)));
        sin_host_.push_back(static_cast<float>(std::sin(angle)));
      }
    }
    cos_ = std::make_unique<DeviceArray<float>>(cos_host_);
    sin_ = std::make_unique<DeviceArray<float>>(sin_host_);
    keys_ = std::make_unique<RandomCache>(s, fp8);
    values_ = std::make_unique<RandomCache>(s, fp8);
  }

  cuda::DecodeModel device() const {
    cuda::DecodeModel m{};
    m.layers = shape.layers;
    m.hidden = shape.hidden;
    m.intermediate = shape.intermediate;
    m.heads = shape.heads;
    m.kv_heads = shape.kv_heads;
    m.head_dim = shape.head_dim;
    m.vocab = shape.vocab;
    m.rms_norm_eps = kEps;
    m.embed_tokens = reinterpret_cast<const __nv_bfloat16*>(embed_->get());
    m.norm = norm_.device->get();
    m.lm_head = head_.matrix();
    m.rope_cos = cos_->get();
    m.rope_sin = sin_->get();
    m.keys = keys_->get();
    m.values = values_->get();
    m.key_scales = keys_->scales();
    m.value_scales = values_->scales();
    m.context = shape.context;
    m.nf4 = format == RandomFormat::kNf4;
    m.nf4_table = papers_nf4_table();
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const RandomLayer& l = layers_[i];
      m.layer[i] = {l.q.matrix(),
                    l.k.matrix(),
                    l.v.matrix(),
                    l.o.matrix(),
                    l.gate.matrix(),
                    l.up.matrix(),
                    l.down.matrix(),
                    l.input_norm.device->get(),
                    l.post_norm.device->get(),
                    shape.head_norms ? l.q_norm.device->get() : nullptr,
                    shape.head_norms ? l.k_norm.device->get() : nullptr};
    }
    return m;
  }

  std::vector<double> embedding(std::uint32_t token) const {
    std::vector<double> x;
    for (int i = 0; i < shape.hidden; ++i) {
      x.push_back(float_of_bf16(
          embed_host_[static_cast<std::size_t>(token) * static_cast<std::size_t>(shape.hidden) +
                      static_cast<std::size_t>(i)]));
    }
    return x;
  }

  struct Cache {
    std::vector<float> keys, values;
  };
  Cache cache() const { return {keys_->host(), values_->host()}; }
  // Before a step at `position`, in fp8: it must read nothing from there on.
  void hide_from(std::int64_t position) const {
    keys_->hide_from(position);
    values_->hide_from(position);
  }

  // Layer `index` of x at `position`, with the cache as the device left it after this step.
  // `newest`: largest difference of the newest key and value from this definition, relative to 1,
  // beyond what FP8 rounds.
  std::vector<double> layer(int index, const std::vector<double>& x, std::int64_t position,
                            const Cache& cache, double& newest) const {
    const RandomLayer& l = layers_[static_cast<std::size_t>(index)];
    const auto normed = rms_normed(x, l.input_norm.host.data(), kEps);
    auto q = l.q.times(normed);
    auto k = l.k.times(normed);
    const auto v = l.v.times(normed);
    rotate_heads(q, shape.head_norms ? l.q_norm.host.data() : nullptr, position);
    rotate_heads(k, shape.head_norms ? l.k_norm.host.data() : nullptr, position);
    const std::int64_t width = std::int64_t{shape.kv_heads} * shape.head_dim;
    const auto base = static_cast<std::size_t>(index * shape.context * width);
    for (std::int64_t head = 0; head < shape.kv_heads; ++head) {
      const auto at =
          base + static_cast<std::size_t>((head * shape.context + position) * shape.head_dim);
      const auto first = static_cast<std::size_t>(head * shape.head_dim);
      newest = std::max(newest, difference(&cache.keys[at], &k[first]));
      newest = std::max(newest, difference(&cache.values[at], &v[first]));
    }
    const auto attended = attention(q, position, cache, base);
    auto h = x;
    const auto o = l.o.times(attended);
    for (std::size_t i = 0; i < h.size(); ++i) h[i] += o[i];
    const auto normed_h = rms_normed(h, l.post_norm.host.data(), kEps);
    auto gate = l.gate.times(normed_h);
    const auto up = l.up.times(normed_h);
    for (std::size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1 + std::exp(-gate[i]));
    const auto down = l.down.times(gate);
    for (std::size_t i = 0; i < h.size(); ++i) h[i] += down[i];
    return h;
  }
  std::vector<double> logits(const std::vector<double>& x) const {
    return head_.times(rms_normed(x, norm_.host.data(), kEps));
  }

  const DecodeShape shape;
  const RandomFormat format;
  const bool fp8_cache;

 private:
  // Of a cached row from what it should be.
  double difference(const float* cached, const double* wanted) const {
    double largest = 0;
    for (int i = 0; i < shape.head_dim; ++i) largest = std::max(largest, std::abs(wanted[i]));
    double worst = 0;
    for (int i = 0; i < shape.head_dim; ++i) {
      // Half a step of three bits behind the point, or of the subnormals.
      const double rounding =
          fp8_cache ? std::max(std::abs(wanted[i]) * 0x1p-4, largest / 448 * 0x1p-10) : 0;
      worst =
          std::max(worst, (std::abs(cached[i] - wanted[i]) - rounding) / (1 + std::abs(wanted[i])));
    }
    return worst;
  }
  void rotate_heads(std::vector<double>& x, const float* norm, std::int64_t position) const {
    const auto width = static_cast<std::size_t>(shape.head_dim);
    const std::size_t half = width / 2;
    for (std::size_t first = 0; first < x.size(); first += width) {
      std::vector<double> head(x.begin() + static_cast<std::ptrdiff_t>(first),
                               x.begin() + static_cast<std::ptrdiff_t>(first + width));
      if (norm != nullptr) head = rms_normed(head, norm, kEps);
      for (std::size_t i = 0; i < half; ++i) {
        const auto at = static_cast<std::size_t>(position) * half + i;
        x[first + i] = head[i] * cos_host_[at] - head[i + half] * sin_host_[at];
        x[first + i + half] = head[i + half] * cos_host_[at] + head[i] * sin_host_[at];
      }
    }
  }
  std::vector<double> attention(const std::vector<double>& q, std::int64_t position,
                                const Cache& cache, std::size_t base) const {
    const auto width = static_cast<std::size_t>(shape.head_dim);
    const auto per_head = static_cast<std::size_t>(shape.context) * width;
    std::vector<double> out(q.size());
    for (std::size_t h = 0; h < static_cast<std::size_t>(shape.heads); ++h) {
      const std::size_t kv =
          base + h / static_cast<std::size_t>(shape.heads / shape.kv_heads) * per_head;
      std::vector<double> score;
      double largest = -INFINITY;
      for (std::size_t t = 0; t <= static_cast<std::size_t>(position); ++t) {
        double dot = 0;
        for (std::size_t i = 0; i < width; ++i) {
          dot += q[h * width + i] * cache.keys[kv + t * width + i];
        }
        score.push_back(dot / std::sqrt(static_cast<double>(width)));
        largest = std::max(largest, score.back());
      }
      double total = 0;
      for (double& s : score) total += s = std::exp(s - largest);
      for (std::size_t t = 0; t < score.size(); ++t) {
        for (std::size_t i = 0; i < width; ++i) {
          out[h * width + i] += score[t] / total * cache.values[kv + t * width + i];
        }
      }
    }
    return out;
  }

  std::vector<RandomLayer> layers_;
  RandomMatrix head_;
  RandomNorm norm_;
  std::vector<std::uint16_t> embed_host_;
  std::vector<float> cos_host_, sin_host_;
  std::unique_ptr<DeviceArray<std::uint16_t>> embed_;
  std::unique_ptr<RandomCache> keys_, values_;
  std::unique_ptr<DeviceArray<float>> cos_, sin_;
};

}  // namespace qf
