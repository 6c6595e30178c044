#include "qwen3fp4/quant/quantize.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/tensor_info.h"
#include "qwen3fp4/kernels/cpu/quantize.h"
#include "qwen3fp4/kernels/fp4.h"
#include "qwen3fp4/quant/parallel.h"

namespace qf {
namespace {

// A thread's share of elements: enough work to pay for waking it.
constexpr std::int64_t kElementsPerTask = std::int64_t{1} << 16;

at::Tensor checked(const at::Tensor& weight, const char* format) {
  QF_CHECK(weight.defined() && weight.dim() == 2 && weight.numel() > 0 &&
               weight.scalar_type() == at::kFloat && weight.device().is_cpu(),
           "{}: expected an f32 [out, in] weight in main memory, got {}", format,
           weight.defined() ? shape_text(weight.sizes().vec()) : "none");
  return weight.detach().contiguous();
}

float finite_absolute_max(const at::Tensor& weight, const char* format) {
  const auto* const values = weight.const_data_ptr<float>();
  const std::int64_t count = weight.numel();
  std::vector<float> maxima(static_cast<std::size_t>((count - 1) / kElementsPerTask + 1));
  parallel_chunks(count, kElementsPerTask, [&](std::int64_t begin, std::int64_t end) {
    maxima[static_cast<std::size_t>(begin / kElementsPerTask)] =
        absolute_max(values + begin, end - begin);
  });
  // Compared as bits, so that a NaN survives.
  const float amax = *std::max_element(
      maxima.begin(), maxima.end(), [](float a, float b) { return float_bits(a) < float_bits(b); });
  QF_CHECK(is_finite(amax), "{}: expected finite weights, found infinity or NaN", format);
  return amax;
}

// Undefined stays undefined.
at::Tensor checked_column_weights(const Nvfp4Options& options, std::int64_t cols) {
  const at::Tensor& weights = options.column_weights;
  if (!weights.defined()) return weights;
  QF_CHECK(options.search, "NVFP4: column weights are only for searched scales");
  QF_CHECK(weights.dim() == 1 && weights.size(0) == cols && weights.scalar_type() == at::kFloat &&
               weights.device().is_cpu() && at::isfinite(weights).all().item<bool>() &&
               weights.ge(0).all().item<bool>(),
           "NVFP4: expected {} finite column weights of at least 0, got others or {}", cols,
           shape_text(weights.sizes().vec()));
  return weights.contiguous();
}

}  // namespace

WeightMatrix quantize_nvfp4(const at::Tensor& weight, const Nvfp4Options& options) {
  const auto w = checked(weight, "NVFP4");
  const std::int64_t rows = w.size(0);
  const std::int64_t cols = w.size(1);
  QF_CHECK(cols % kNvfp4Block == 0,
           "NVFP4: expected a multiple of {} columns, got {} (--keep leaves a weight as it is)",
           kNvfp4Block, shape_text(w.sizes().vec()));
  const float amax = finite_absolute_max(w, "NVFP4");
  const auto column_weights = checked_column_weights(options, cols);
  const auto codes = at::empty({rows, cols / 2}, at::kByte);
  const auto scales = at::empty({rows, cols / kNvfp4Block}, at::kByte);
  const Nvfp4Rule rule{.global_scale = options.two_level ? nvfp4_global_scale(amax) : 1.0F,
                       .search = options.search,
                       .column_weights = column_weights.defined()
                                             ? column_weights.const_data_ptr<float>()
                                             : nullptr};
  const auto* const values = w.const_data_ptr<float>();
  auto* const code_bytes = codes.mutable_data_ptr<std::uint8_t>();
  auto* const scale_bytes = scales.mutable_data_ptr<std::uint8_t>();
  const std::int64_t grain = std::max<std::int64_t>(1, kElementsPerTask / cols);
  parallel_chunks(rows, grain, [&](std::int64_t begin, std::int64_t end) {
    quantize_nvfp4(
        DenseView{values + begin * cols, end - begin, cols}, rule,
        Nvfp4Output{code_bytes + begin * (cols / 2), scale_bytes + begin * (cols / kNvfp4Block)});
  });
  return WeightMatrix::nvfp4(codes, scales, rule.global_scale);
}

WeightMatrix quantize_nf4(const at::Tensor& weight) {
  const auto w = checked(weight, "NF4");
  const std::int64_t count = w.numel();
  QF_CHECK(count % 2 == 0, "NF4: expected an even number of elements, got {}",
           shape_text(w.sizes().vec()));
  static_cast<void>(finite_absolute_max(w, "NF4"));
  const std::int64_t blocks = (count + kNf4Block - 1) / kNf4Block;
  const auto codes = at::empty({count / 2, 1}, at::kByte);
  const auto absmax = at::empty({blocks}, at::kFloat);
  const auto* const values = w.const_data_ptr<float>();
  auto* const code_bytes = codes.mutable_data_ptr<std::uint8_t>();
  auto* const maxima = absmax.mutable_data_ptr<float>();
  parallel_chunks(blocks, kElementsPerTask / kNf4Block, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t first = begin * kNf4Block;
    const std::int64_t last = std::min(count, end * kNf4Block);
    quantize_nf4(values + first, last - first, code_bytes + first / 2, maxima + begin);
  });
  const auto code_book = at::empty({16}, at::kFloat);
  auto* const book = code_book.mutable_data_ptr<float>();
  for (unsigned i = 0; i < 16; ++i) book[i] = nf4_to_float(i);
  return WeightMatrix::nf4(codes, absmax, code_book, w.size(0), w.size(1), kNf4Block);
}

double relative_rms_error(const WeightMatrix& quantised, const at::Tensor& weight) {
  const auto w = checked(weight, "relative RMS error");
  QF_CHECK(w.size(0) == quantised.out_features() && w.size(1) == quantised.in_features(),
           "relative RMS error: expected a weight of shape [{}, {}], got {}",
           quantised.out_features(), quantised.in_features(), shape_text(w.sizes().vec()));
  double error = 0.0;
  double size = 0.0;
  for (std::int64_t first = 0; first < w.size(0); first += kErrorChunkRows) {
    const std::int64_t count = std::min(kErrorChunkRows, w.size(0) - first);
    const auto exact = w.narrow(0, first, count).to(at::kDouble);
    const auto got = quantised.dequantize_rows(first, count).to(at::kDouble);
    error += (got - exact).square_().sum().item<double>();
    size += exact.square().sum().item<double>();
  }
  return size > 0.0 ? std::sqrt(error / size) : 0.0;
}

}  // namespace qf
