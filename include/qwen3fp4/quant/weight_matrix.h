#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string_view>

#include "qwen3fp4/kernels/cpu/fp4_gemm.h"
#include "qwen3fp4/kernels/views.h"

namespace qf {

enum class WeightFormat { kNvfp4, kNf4, kF32, kF16, kBF16 };
[[nodiscard]] std::string_view weight_format_name(WeightFormat format);

// A weight of shape [out_features, in_features], packed or dense. Immutable; the factories
// establish every shape and block invariant (throwing qf::Error with expected and found), nobody
// re-checks.
class WeightMatrix {
 public:
  // codes u8 [out, in/2]; scales u8 (E4M3 bits) or f32 [out, in/16]; global_scale finite and > 0.
  [[nodiscard]] static WeightMatrix nvfp4(at::Tensor codes, at::Tensor scales, float global_scale);
  // codes u8 with out*in/2 elements; absmax f32 [ceil(out*in/block)]; code_book f32 [16].
  [[nodiscard]] static WeightMatrix nf4(at::Tensor codes, at::Tensor absmax, at::Tensor code_book,
                                        std::int64_t out_features, std::int64_t in_features,
                                        std::int64_t block);
  // NVFP4 with E4M3 scales as Hopper's kernels stream it (kernels/cuda/stream_layout.h): chunks u8
  // [stream_bytes(out, in)] on a CUDA device, which only that device's backend reads.
  [[nodiscard]] static WeightMatrix nvfp4_stream(at::Tensor chunks, float global_scale,
                                                 std::int64_t out_features,
                                                 std::int64_t in_features);
  // The same of NF4 with blocks of 64. code_book: f32 [16] on that device, the levels of the
  // layout's codes (StreamNf4View).
  [[nodiscard]] static WeightMatrix nf4_stream(at::Tensor chunks, at::Tensor code_book,
                                               std::int64_t out_features, std::int64_t in_features);
  // NVFP4 with E4M3 scales as block-scaled FP4 products take it: codes u8 [out, in/2], and the
  // scales in tiles (quant/scale_tiles.h). On any device; dequantize_rows() does not read it.
  [[nodiscard]] static WeightMatrix nvfp4_tiled(at::Tensor codes, at::Tensor tiles,
                                                float global_scale);
  // f32, f16 or bf16 [out, in].
  [[nodiscard]] static WeightMatrix dense(at::Tensor values);
  // All tensors of a weight are on one device; this one's copied to another (shared when they are
  // there already). Not for the stream layout.
  [[nodiscard]] WeightMatrix to(at::Device device) const;
  [[nodiscard]] at::Device device() const { return values_.device(); }
  [[nodiscard]] bool streamed() const { return layout_ == Layout::kStream; }
  [[nodiscard]] bool tiled() const { return layout_ == Layout::kScaleTiles; }

  [[nodiscard]] WeightFormat format() const { return format_; }
  [[nodiscard]] std::int64_t out_features() const { return out_features_; }
  [[nodiscard]] std::int64_t in_features() const { return in_features_; }
  // Bytes a forward reads: codes, scales, tables.
  [[nodiscard]] std::int64_t bytes() const;

  // Only for the matching format and layout: as in the file, or scale tiles (an assert otherwise).
  // The pointers are device().
  [[nodiscard]] Nvfp4View nvfp4_view() const;
  [[nodiscard]] Nf4View nf4_view() const;
  [[nodiscard]] ScaledFp4View scaled_fp4_view() const;
  [[nodiscard]] const at::Tensor& dense_values() const { return values_; }
  // The stored tensors, for writers: codes; block scales, their tiles or absmax; NF4's code book.
  [[nodiscard]] const at::Tensor& codes() const { return values_; }
  [[nodiscard]] const at::Tensor& scales() const { return scales_; }
  [[nodiscard]] const at::Tensor& code_book() const { return code_book_; }
  [[nodiscard]] float global_scale() const { return global_scale_; }

  // f32 [count, in]: rows [first, first + count) as the formula of the format gives them. Not to be
  // written into: of an f32 weight it is the weight itself. In main memory only, as gather_rows().
  [[nodiscard]] at::Tensor dequantize_rows(std::int64_t first, std::int64_t count) const;
  [[nodiscard]] at::Tensor dequantize() const { return dequantize_rows(0, out_features_); }
  // f32 [n, in]: the rows that `ids` (i64 [n]) name, for embeddings.
  [[nodiscard]] at::Tensor gather_rows(const at::Tensor& ids) const;

 private:
  enum class Layout : std::uint8_t { kFile, kStream, kScaleTiles };

  WeightMatrix() = default;
  [[nodiscard]] static WeightMatrix stream(WeightFormat format, at::Tensor chunks,
                                           std::int64_t out_features, std::int64_t in_features);
  WeightFormat format_ = WeightFormat::kF32;
  std::int64_t out_features_ = 0;
  std::int64_t in_features_ = 0;
  at::Tensor values_;     // dense values, or packed codes
  at::Tensor scales_;     // NVFP4 block scales, or NF4 absmax
  at::Tensor code_book_;  // NF4
  std::int64_t block_ = 0;
  float global_scale_ = 1.0F;
  Layout layout_ = Layout::kFile;
};

}  // namespace qf
