#include "qwen3fp4/quant/weight_matrix.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cassert>
#include <cmath>
#include <utility>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/formats/tensor_info.h"
#include "qwen3fp4/kernels/cpu/dequantize.h"
#include "qwen3fp4/quant/parallel.h"

namespace qf {
namespace {

std::string describe(const at::Tensor& t) {
  return fmt::format("{} {}", at::toString(t.scalar_type()), shape_text(t.sizes().vec()));
}

// The contiguous tensor that the views point into.
at::Tensor stored(const at::Tensor& t, const char* what) {
  QF_CHECK(
      t.defined() && (t.device().is_cpu() || t.device().is_cuda()) && t.layout() == at::kStrided,
      "{}: expected a dense tensor in main memory or on a CUDA device, got another kind", what);
  return t.detach().contiguous();
}

void check_one_device(const at::Tensor& a, const at::Tensor& b) {
  QF_CHECK(a.device() == b.device(), "weight: expected all its tensors on {}, found one on {}",
           a.device().str(), b.device().str());
}

void check_code_book(const at::Tensor& code_book) {
  QF_CHECK(code_book.scalar_type() == at::kFloat && code_book.numel() == 16,
           "NF4 quant_map: expected 16 f32 numbers, got {}", describe(code_book));
}

void check_global_scale(float global_scale) {
  QF_CHECK(std::isfinite(global_scale) && global_scale > 0.0F,
           "NVFP4 tensor scale: expected a finite number above 0, got {}", global_scale);
}

// Rows threaded together: enough work to pay for waking a thread.
std::int64_t rows_per_task(std::int64_t cols) {
  return std::max<std::int64_t>(1, (std::int64_t{1} << 16) / std::max<std::int64_t>(1, cols));
}

}  // namespace

std::string_view weight_format_name(WeightFormat format) {
  switch (format) {
    case WeightFormat::kNvfp4:
      return "nvfp4";
    case WeightFormat::kNf4:
      return "nf4";
    case WeightFormat::kF32:
      return "f32";
    case WeightFormat::kF16:
      return "f16";
    case WeightFormat::kBF16:
      return "bf16";
  }
  return "unknown";
}

WeightMatrix WeightMatrix::nvfp4(at::Tensor codes, at::Tensor scales, float global_scale) {
  WeightMatrix w;
  w.format_ = WeightFormat::kNvfp4;
  w.values_ = stored(codes, "NVFP4 codes");
  w.scales_ = stored(scales, "NVFP4 scales");
  QF_CHECK(w.values_.scalar_type() == at::kByte && w.values_.dim() == 2,
           "NVFP4 codes: expected u8 [out, in/2], got {}", describe(w.values_));
  w.out_features_ = w.values_.size(0);
  w.in_features_ = w.values_.size(1) * 2;
  QF_CHECK(w.out_features_ > 0 && w.in_features_ > 0 && w.in_features_ % kNvfp4Block == 0,
           "NVFP4 codes: expected [out, in/2] with in a positive multiple of {}, got {}",
           kNvfp4Block, describe(w.values_));
  const auto type = w.scales_.scalar_type();
  const std::int64_t blocks = w.in_features_ / kNvfp4Block;
  QF_CHECK((type == at::kByte || type == at::kFloat) && w.scales_.dim() == 2 &&
               w.scales_.size(0) == w.out_features_ && w.scales_.size(1) == blocks,
           "NVFP4 scales: expected u8 (E4M3) or f32 [{}, {}], got {}", w.out_features_, blocks,
           describe(w.scales_));
  check_global_scale(global_scale);
  check_one_device(w.values_, w.scales_);
  w.block_ = kNvfp4Block;
  w.global_scale_ = global_scale;
  return w;
}

WeightMatrix WeightMatrix::nf4(at::Tensor codes, at::Tensor absmax, at::Tensor code_book,
                               std::int64_t out_features, std::int64_t in_features,
                               std::int64_t block) {
  constexpr std::int64_t kLimit = std::int64_t{1} << 31;  // so that no product overflows
  QF_CHECK(out_features > 0 && in_features > 0 && out_features < kLimit && in_features < kLimit &&
               out_features * in_features % 2 == 0,
           "NF4 weight: expected a shape with an even number of elements, got [{}, {}]",
           out_features, in_features);
  QF_CHECK(block > 0 && block % 2 == 0, "NF4 block size: expected an even number above 0, got {}",
           block);
  WeightMatrix w;
  w.format_ = WeightFormat::kNf4;
  w.out_features_ = out_features;
  w.in_features_ = in_features;
  w.block_ = block;
  w.values_ = stored(codes, "NF4 codes");
  w.scales_ = stored(absmax, "NF4 absmax");
  w.code_book_ = stored(code_book, "NF4 quant_map");
  const std::int64_t count = out_features * in_features;
  QF_CHECK(w.values_.scalar_type() == at::kByte && w.values_.numel() == count / 2,
           "NF4 codes: expected {} bytes (u8) for a [{}, {}] weight, got {}", count / 2,
           out_features, in_features, describe(w.values_));
  const std::int64_t blocks = count / block + static_cast<std::int64_t>(count % block != 0);
  QF_CHECK(w.scales_.scalar_type() == at::kFloat && w.scales_.numel() == blocks,
           "NF4 absmax: expected {} f32 numbers (blocks of {}), got {}", blocks, block,
           describe(w.scales_));
  check_code_book(w.code_book_);
  check_one_device(w.values_, w.scales_);
  check_one_device(w.values_, w.code_book_);
  return w;
}

WeightMatrix WeightMatrix::nvfp4_stream(at::Tensor chunks, float global_scale,
                                        std::int64_t out_features, std::int64_t in_features) {
  WeightMatrix w = stream(WeightFormat::kNvfp4, std::move(chunks), out_features, in_features);
  check_global_scale(global_scale);
  w.global_scale_ = global_scale;
  return w;
}

WeightMatrix WeightMatrix::nf4_stream(at::Tensor chunks, at::Tensor code_book,
                                      std::int64_t out_features, std::int64_t in_features) {
  WeightMatrix w = stream(WeightFormat::kNf4, std::move(chunks), out_features, in_features);
  w.code_book_ = stored(code_book, "NF4 quant_map");
  check_code_book(w.code_book_);
  check_one_device(w.values_, w.code_book_);
  return w;
}

WeightMatrix WeightMatrix::stream(WeightFormat format, at::Tensor chunks, std::int64_t out_features,
                                  std::int64_t in_features) {
  WeightMatrix w;
  w.format_ = format;
  w.block_ = format == WeightFormat::kNf4 ? kNf4Block : kNvfp4Block;
  w.values_ = stored(chunks, "chunks");
  QF_CHECK(w.values_.scalar_type() == at::kByte && w.values_.device().is_cuda() &&
               out_features > 0 && in_features > 0 && in_features % w.block_ == 0,
           "{} chunks: expected u8 on a CUDA device for a weight whose width is a multiple of {}, "
           "got {} for [{}, {}]",
           weight_format_name(format), w.block_, describe(w.values_), out_features, in_features);
  w.out_features_ = out_features;
  w.in_features_ = in_features;
  w.layout_ = Layout::kStream;
  return w;
}

WeightMatrix WeightMatrix::nvfp4_tiled(at::Tensor codes, at::Tensor tiles, float global_scale) {
  WeightMatrix w;
  w.format_ = WeightFormat::kNvfp4;
  w.values_ = stored(codes, "NVFP4 codes");
  w.scales_ = stored(tiles, "NVFP4 scale tiles");
  QF_CHECK(w.values_.scalar_type() == at::kByte && w.values_.dim() == 2 && w.values_.numel() > 0 &&
               w.values_.size(1) * 2 % kNvfp4Block == 0,
           "NVFP4 codes: expected u8 [out, in/2] with in a positive multiple of {}, got {}",
           kNvfp4Block, describe(w.values_));
  w.out_features_ = w.values_.size(0);
  w.in_features_ = w.values_.size(1) * 2;
  const std::int64_t bytes = scale_tiles_bytes(w.out_features_, w.in_features_ / kNvfp4Block);
  QF_CHECK(w.scales_.scalar_type() == at::kByte && w.scales_.numel() == bytes,
           "NVFP4 scale tiles: expected {} bytes (u8), got {}", bytes, describe(w.scales_));
  check_global_scale(global_scale);
  check_one_device(w.values_, w.scales_);
  w.block_ = kNvfp4Block;
  w.global_scale_ = global_scale;
  w.layout_ = Layout::kScaleTiles;
  return w;
}

WeightMatrix WeightMatrix::to(at::Device device) const {
  if (this->device() == device) return *this;
  QF_CHECK(!streamed(), "a weight in the stream layout stays on {}", this->device().str());
  WeightMatrix w = *this;
  w.values_ = values_.to(device);
  if (scales_.defined()) w.scales_ = scales_.to(device);
  if (code_book_.defined()) w.code_book_ = code_book_.to(device);
  return w;
}

WeightMatrix WeightMatrix::dense(at::Tensor values) {
  WeightMatrix w;
  w.values_ = stored(values, "weight");
  QF_CHECK(w.values_.dim() == 2 && w.values_.numel() > 0,
           "weight: expected two dimensions above 0, got {}", describe(w.values_));
  const auto type = w.values_.scalar_type();
  QF_CHECK(type == at::kFloat || type == at::kHalf || type == at::kBFloat16,
           "weight: expected f32, f16 or bf16, got {}", describe(w.values_));
  w.format_ = type == at::kFloat  ? WeightFormat::kF32
              : type == at::kHalf ? WeightFormat::kF16
                                  : WeightFormat::kBF16;
  w.out_features_ = w.values_.size(0);
  w.in_features_ = w.values_.size(1);
  return w;
}

std::int64_t WeightMatrix::bytes() const {
  std::int64_t total = static_cast<std::int64_t>(values_.nbytes());
  if (scales_.defined()) total += static_cast<std::int64_t>(scales_.nbytes());
  if (code_book_.defined()) total += static_cast<std::int64_t>(code_book_.nbytes());
  if (format_ == WeightFormat::kNvfp4) total += static_cast<std::int64_t>(sizeof(global_scale_));
  return total;
}

Nvfp4View WeightMatrix::nvfp4_view() const {
  assert(format_ == WeightFormat::kNvfp4 && layout_ == Layout::kFile);
  const bool e4m3 = scales_.scalar_type() == at::kByte;
  return {.codes = values_.const_data_ptr<std::uint8_t>(),
          .scales_e4m3 = e4m3 ? scales_.const_data_ptr<std::uint8_t>() : nullptr,
          .scales_f32 = e4m3 ? nullptr : scales_.const_data_ptr<float>(),
          .global_scale = global_scale_,
          .rows = out_features_,
          .cols = in_features_};
}

ScaledFp4View WeightMatrix::scaled_fp4_view() const {
  assert(tiled());
  return {.codes = values_.const_data_ptr<std::uint8_t>(),
          .scale_tiles = scales_.const_data_ptr<std::uint8_t>(),
          .rows = out_features_,
          .cols = in_features_};
}

Nf4View WeightMatrix::nf4_view() const {
  assert(format_ == WeightFormat::kNf4 && !streamed());
  return {.codes = values_.const_data_ptr<std::uint8_t>(),
          .absmax = scales_.const_data_ptr<float>(),
          .code_book = code_book_.const_data_ptr<float>(),
          .block = block_,
          .rows = out_features_,
          .cols = in_features_};
}

at::Tensor WeightMatrix::dequantize_rows(std::int64_t first, std::int64_t count) const {
  QF_CHECK(first >= 0 && count >= 0 && first <= out_features_ - count,
           "rows: expected a range within {}, got {} from {}", out_features_, count, first);
  QF_CHECK(device().is_cpu() && layout_ == Layout::kFile,
           "rows: expected a weight in main memory as files have it, found it on {} or rearranged",
           device().str());
  if (format_ != WeightFormat::kNvfp4 && format_ != WeightFormat::kNf4) {
    return values_.narrow(0, first, count).to(at::kFloat);
  }
  auto out = at::empty({count, in_features_}, at::kFloat);
  auto* const data = out.mutable_data_ptr<float>();
  parallel_chunks(count, rows_per_task(in_features_), [&](std::int64_t begin, std::int64_t end) {
    const RowRange rows{first + begin, end - begin};
    if (format_ == WeightFormat::kNvfp4) {
      dequantize_nvfp4(nvfp4_view(), rows, data + begin * in_features_);
    } else {
      dequantize_nf4(nf4_view(), rows, data + begin * in_features_);
    }
  });
  return out;
}

at::Tensor WeightMatrix::gather_rows(const at::Tensor& ids) const {
  QF_CHECK(ids.dim() == 1 && ids.scalar_type() == at::kLong && ids.device().is_cpu(),
           "ids: expected i64 [n] in main memory, got {}", describe(ids));
  const auto indices = ids.contiguous();
  const auto* const rows = indices.const_data_ptr<std::int64_t>();
  const std::int64_t count = indices.numel();
  auto out = at::empty({count, in_features_}, at::kFloat);
  for (std::int64_t i = 0; i < count; ++i) {
    QF_CHECK(rows[i] >= 0 && rows[i] < out_features_, "id: expected one of {} rows, got {}",
             out_features_, rows[i]);
    out.select(0, i).copy_(dequantize_rows(rows[i], 1).select(0, 0));
  }
  return out;
}

}  // namespace qf
