#include "qwen3fp4/backend/cuda.h"

#include <ATen/ATen.h>
#include <c10/core/AllocatorConfig.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "fp4_linear.h"
#include "qwen3fp4/backend/bandwidth.h"
#include "qwen3fp4/backend/cuda_support.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/kernels/cuda/attention.h"
#include "qwen3fp4/kernels/cuda/bandwidth.h"
#include "qwen3fp4/kernels/cuda/dequantize.h"
#include "qwen3fp4/kernels/cuda/gemm_stream.h"
#include "qwen3fp4/kernels/cuda/linear.h"
#include "qwen3fp4/kernels/cuda/operations.h"
#include "qwen3fp4/kernels/cuda/stream_layout.h"
#include "qwen3fp4/kernels/fp4.h"
#include "qwen3fp4/kernels/nf4_table.h"
#include "qwen3fp4/quant/scale_tiles.h"

// Shapes in this file: T new tokens, S cached tokens with the new ones, H query heads, K key/value
// heads, E head_dim, I/O a linear's input and output features.
namespace qf {
namespace {

// Values of a weight that are dense at a time: 64 MB as bf16.
constexpr std::int64_t kTileValues = std::int64_t{1} << 25;
// From so many tokens on they are a tile of prompt_attention(), which has no parallelism over
// positions.
constexpr std::int64_t kPromptTokens = 128;
// Rows of scores of exact attention that exist at a time.
constexpr std::int64_t kScoreRows = 256;

struct DeviceInfo {
  std::string name;
  int major = 0, minor = 0;
  int multiprocessors = 0;
};

DeviceInfo device_info() {
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, 0), "properties of device 0");
  return {properties.name, properties.major, properties.minor, properties.multiProcessorCount};
}

const float* floats(const at::Tensor& t) { return t.const_data_ptr<float>(); }
float* floats_out(at::Tensor& t) { return t.mutable_data_ptr<float>(); }

bool has_e4m3_scales(const WeightMatrix& weight) {
  return weight.format() == WeightFormat::kNvfp4 && weight.scales().scalar_type() == at::kByte;
}
bool has_stream_layout(const WeightMatrix& weight) {
  if (weight.format() != WeightFormat::kNf4) return has_e4m3_scales(weight);
  // Weights are packed by the table of this code book.
  const auto levels = weight.code_book().cpu();
  const auto book = papers_nf4_book();
  if (!std::equal(book.begin(), book.end(), floats(levels))) return false;
  return weight.nf4_view().block == kNf4Block && weight.in_features() % kNf4Block == 0;
}
bool is_nf4(const WeightMatrix& weight) { return weight.format() == WeightFormat::kNf4; }
bool streams_nvfp4(const WeightMatrix& weight) { return weight.streamed() && !is_nf4(weight); }

bool is_f32(const at::Tensor& t) { return t.scalar_type() == at::kFloat; }

// use(tag) with a null pointer to CUDA's name for a type of activations.
template <class Use>
void with_type(at::ScalarType type, const Use& use) {
  switch (type) {
    case at::kFloat:
      return use(static_cast<float*>(nullptr));
    case at::kHalf:
      return use(static_cast<__half*>(nullptr));
    case at::kBFloat16:
      return use(static_cast<__nv_bfloat16*>(nullptr));
    default:
      TORCH_INTERNAL_ASSERT(false, "activations of type ", type);
  }
}
// The tensor's values by CUDA's name of their type, that of `tag`.
template <class T>
const T* values(const at::Tensor& t, T* /*tag*/) {
  return static_cast<const T*>(t.const_data_ptr());
}
template <class T>
T* values_out(at::Tensor& t, T* /*tag*/) {
  return static_cast<T*>(t.mutable_data_ptr());
}

cuda::StreamView stream_view(const WeightMatrix& weight, float global_scale) {
  return {weight.codes().const_data_ptr<std::uint8_t>(), global_scale, weight.out_features(),
          weight.in_features()};
}
cuda::StreamNf4View nf4_stream_view(const WeightMatrix& weight) {
  return {weight.codes().const_data_ptr<std::uint8_t>(), floats(weight.code_book()),
          weight.out_features(), weight.in_features()};
}
Nvfp4View nvfp4_rows(const WeightMatrix& weight, std::int64_t first, std::int64_t count) {
  Nvfp4View view = weight.nvfp4_view();
  view.codes += first * view.cols / 2;
  if (view.scales_e4m3 != nullptr) view.scales_e4m3 += first * view.cols / kNvfp4Block;
  if (view.scales_f32 != nullptr) view.scales_f32 += first * view.cols / kNvfp4Block;
  view.rows = count;
  return view;
}
// Blocks run through the rows: a range must begin with one.
Nf4View nf4_rows(const WeightMatrix& weight, std::int64_t first, std::int64_t count) {
  Nf4View view = weight.nf4_view();
  TORCH_INTERNAL_ASSERT(first * view.cols % view.block == 0 && first * view.cols % 2 == 0);
  view.codes += first * view.cols / 2;
  view.absmax += first * view.cols / view.block;
  view.rows = count;
  return view;
}

// f32 rows of a packed weight, from whichever layout.
at::Tensor dequantized_rows(const WeightMatrix& weight, std::int64_t first, std::int64_t count) {
  const std::int64_t inputs = weight.in_features();
  if (weight.format() != WeightFormat::kNvfp4 && weight.format() != WeightFormat::kNf4) {
    return weight.dense_values().narrow(0, first, count).to(at::kFloat);
  }
  auto out = at::empty({count, inputs}, at::device(at::kCUDA).dtype(at::kFloat));
  cudaStream_t stream = current_stream();
  if (streams_nvfp4(weight)) {
    check_cuda(cuda::dequantize_stream(stream_view(weight, weight.global_scale()), {first, count},
                                       floats_out(out), stream),
               "dequantise");
  } else if (weight.streamed()) {
    check_cuda(
        cuda::dequantize_stream(nf4_stream_view(weight), {first, count}, floats_out(out), stream),
        "dequantise");
  } else if (weight.tiled()) {
    const auto scales = scale_rows_of_tiles(weight.scales(), inputs / kNvfp4Block, first, count);
    const Nvfp4View rows{weight.codes().const_data_ptr<std::uint8_t>() + first * inputs / 2,
                         scales.const_data_ptr<std::uint8_t>(),
                         nullptr,
                         weight.global_scale(),
                         count,
                         inputs};
    check_cuda(cuda::dequantize_nvfp4(rows, floats_out(out), stream), "dequantise");
  } else if (weight.format() == WeightFormat::kNvfp4) {
    check_cuda(cuda::dequantize_nvfp4(nvfp4_rows(weight, first, count), floats_out(out), stream),
               "dequantise");
  } else {
    check_cuda(cuda::dequantize_nf4(nf4_rows(weight, first, count), floats_out(out), stream),
               "dequantise");
  }
  return out;
}

// Rows of a weight over `factor`, in a 16-bit type.
struct NarrowRows {
  at::Tensor values;
  float factor = 1;
};

// Codes times E4M3 scales are numbers of both types, exactly: the tensor scale is left to the
// product's sums. NF4's weights, and those with f32 scales, are rounded.
NarrowRows narrow_rows(const WeightMatrix& weight, const cuda::StreamRows& rows,
                       at::ScalarType type) {
  if (weight.codes().scalar_type() != at::kByte) {
    return {weight.dense_values().narrow(0, rows.first, rows.count).to(type)};
  }
  NarrowRows narrow{
      at::empty({rows.count, weight.in_features()}, at::device(at::kCUDA).dtype(type))};
  cudaStream_t stream = current_stream();
  with_type(type, [&](auto* tag) {
    auto* const out = values_out(narrow.values, tag);
    if (weight.streamed()) {
      // NVFP4 in this layout is multiplied straight from its codes.
      check_cuda(cuda::dequantize_stream(nf4_stream_view(weight), rows, out, stream), "dequantise");
    } else if (weight.format() == WeightFormat::kNvfp4) {
      Nvfp4View view = nvfp4_rows(weight, rows.first, rows.count);
      narrow.factor = std::exchange(view.global_scale, 1.0F);
      check_cuda(cuda::dequantize_nvfp4(view, out, stream), "dequantise");
    } else {
      check_cuda(cuda::dequantize_nf4(nf4_rows(weight, rows.first, rows.count), out, stream),
                 "dequantise");
    }
  });
  return narrow;
}

// Rows of a tile: as many as fit, and a multiple of what NF4's blocks need.
std::int64_t tile_rows(const WeightMatrix& weight) {
  const std::int64_t inputs = weight.in_features();
  const std::int64_t most = std::max<std::int64_t>(1, kTileValues / inputs);
  if (weight.streamed() || !is_nf4(weight)) return std::min(most, weight.out_features());
  // block rows always begin with a block.
  const std::int64_t step = weight.nf4_view().block;
  return std::min(std::max<std::int64_t>(1, most / step) * step, weight.out_features());
}

// compute(first, count) of tiles of a weight's rows into columns of y [T, O], of `type`.
template <class Compute>
at::Tensor by_tiles(const WeightMatrix& weight, std::int64_t tokens, at::ScalarType type,
                    const Compute& compute) {
  const std::int64_t outputs = weight.out_features();
  const std::int64_t step = tile_rows(weight);
  if (step >= outputs) return compute(0, outputs);
  auto y_TO = at::empty({tokens, outputs}, at::device(at::kCUDA).dtype(type));
  for (std::int64_t first = 0; first < outputs; first += step) {
    const std::int64_t count = std::min(step, outputs - first);
    y_TO.narrow(1, first, count).copy_(compute(first, count));
  }
  return y_TO;
}

// x as a sum of terms of a 16-bit type that together have all of fp32's bits, [terms * T, I].
at::Tensor terms_of(const at::Tensor& x_TI, at::ScalarType type) {
  std::vector<at::Tensor> terms;
  auto rest = x_TI;
  for (int i = 0; i < 3; ++i) {
    terms.push_back(rest.to(type));
    rest = rest - terms.back().to(at::kFloat);
  }
  return at::cat(terms, 0);
}

class CudaBackend final : public Backend {
 public:
  CudaBackend(ComputeDtype dtype, LinearMode linear_mode)
      : dtype_(dtype), linear_mode_(linear_mode), info_(device_info()) {
    if (linear_mode == LinearMode::kW4A4) {
      fp4_ = std::make_unique<Fp4Linear>(info_.name, info_.major, info_.minor);
    }
    // Freed memory of one size then serves others: without it training holds 1 GB more.
    c10::CachingAllocator::setAllocatorSettings("expandable_segments:True");
    // Products that cuBLAS splits add their parts in fp32.
    at::globalContext().setAllowFP16ReductionCuBLAS(false, /*allow_splitk=*/true);
    at::globalContext().setAllowBF16ReductionCuBLAS(false, /*allow_splitk=*/true);
    self_test();
    arrived_ = at::zeros({info_.multiprocessors}, at::device(device()).dtype(at::kInt));
  }

  [[nodiscard]] std::string_view name() const override { return "cuda"; }
  [[nodiscard]] std::string description() const override;
  [[nodiscard]] LinearMode linear_mode() const override { return linear_mode_; }
  [[nodiscard]] at::Device device() const override { return {at::kCUDA, 0}; }
  [[nodiscard]] WeightMatrix place(WeightMatrix weight) const override;
  [[nodiscard]] at::TensorOptions cache_options() const override {
    return at::device(device()).dtype(scalar_type(dtype_));
  }
  [[nodiscard]] at::Tensor embed(const at::Tensor& ids_T,
                                 const WeightMatrix& weight) const override;
  [[nodiscard]] at::Tensor linear(const at::Tensor& x_TI,
                                  const WeightMatrix& weight) const override;
  [[nodiscard]] std::vector<at::Tensor> linears(
      const at::Tensor& x_TI, std::initializer_list<const WeightMatrix*> weights) const override;
  [[nodiscard]] at::Tensor logits(const at::Tensor& hidden_TD,
                                  const WeightMatrix& weight) const override;
  [[nodiscard]] at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight,
                                    double eps) const override;
  [[nodiscard]] at::Tensor apply_rope(const at::Tensor& x_THE, const at::Tensor& cos_TE,
                                      const at::Tensor& sin_TE) const override;
  [[nodiscard]] at::Tensor attention(const at::Tensor& q_THE, const at::Tensor& k_SKE,
                                     const at::Tensor& v_SKE) const override;
  [[nodiscard]] at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) const override;
  [[nodiscard]] at::Tensor add(const at::Tensor& a, const at::Tensor& b) const override;
  [[nodiscard]] double measure_read_bandwidth() const override;
  // Of libtorch's allocator, which holds all tensors: without CUDA's own context.
  [[nodiscard]] std::int64_t memory_peak() const override;

 private:
  void self_test() const;
  [[nodiscard]] bool hopper() const { return info_.major == 9 && info_.minor == 0; }
  // Of an operation on x: f32 for few tokens, which memory traffic does not slow down.
  [[nodiscard]] at::ScalarType result_type(const at::Tensor& x) const {
    const bool narrow = !is_f32(x) || x.size(0) > cuda::kLinearMaxTokens;
    return narrow ? scalar_type(dtype_) : at::kFloat;
  }
  [[nodiscard]] at::Tensor product(const at::Tensor& x_TI, const WeightMatrix& weight,
                                   at::ScalarType type) const;
  // Tensor cores straight from codes: of weights in the stream layout.
  [[nodiscard]] std::vector<at::Tensor> streamed_products(
      const at::Tensor& x_TI, std::span<const WeightMatrix* const> weights,
      at::ScalarType type) const;

  ComputeDtype dtype_;
  LinearMode linear_mode_;
  DeviceInfo info_;
  std::unique_ptr<Fp4Linear> fp4_;  // kW4A4's
  at::Tensor arrived_;              // i32, zero between products
};

// One block through the first kernel: a binary without code for the device fails here, by name.
void CudaBackend::self_test() const {
  const auto codes = at::full({1, 8}, 0x22, at::device(device()).dtype(at::kByte));
  const auto scales = at::full({1, 1}, 0x40, at::device(device()).dtype(at::kByte));
  auto out = at::zeros({1, 16}, at::device(device()).dtype(at::kFloat));
  const Nvfp4View view{codes.const_data_ptr<std::uint8_t>(),
                       scales.const_data_ptr<std::uint8_t>(),
                       nullptr,
                       0.5F,
                       1,
                       16};
  const cudaError_t status = cuda::dequantize_nvfp4(view, floats_out(out), current_stream());
  if (status == cudaErrorNoKernelImageForDevice) {
    fail(ExitCode::kUsage,
         "backend 'cuda': {} has compute capability {}.{}; this build has code for {}", info_.name,
         info_.major, info_.minor, QF_CUDA_ARCHITECTURES);
  }
  check_cuda(status, "self-test");
  // Code 2 is 1, scale 0x40 is 2: 1 * 2 * 0.5.
  if (!at::equal(out.cpu(), at::ones({1, 16}))) {
    fail(ExitCode::kUnreadable, "backend 'cuda': {} computes wrong values in the self-test",
         info_.name);
  }
}

std::string CudaBackend::description() const {
  if (linear_mode_ != LinearMode::kW4A16) {
    return fmt::format(
        "cuda: {} (compute capability {}.{}), {}", info_.name, info_.major, info_.minor,
        linear_mode_ == LinearMode::kW4A4
            ? "NVFP4 products by cuBLASLt on FP4 tensor cores, activations quantised to NVFP4 "
              "(w4a4; written without such a device, see doc/cuda.md)"
            : "linears as the reference's (each weight unpacked whole, fp32)");
  }
  const std::string products = dtype_ == ComputeDtype::kF32
                                   ? std::string("fp32 of dequantised weights")
                                   : fmt::format("{} tensor cores", dtype_name(dtype_));
  return fmt::format(
      "cuda: {} (compute capability {}.{}), products by {}; up to {} tokens straight from the "
      "codes",
      info_.name, info_.major, info_.minor, products, cuda::kLinearMaxTokens);
}

// Rows of a weight in main memory into chunks on the device.
void pack_rows(const WeightMatrix& weight, std::int64_t first, std::int64_t count,
               std::uint8_t* chunks) {
  const at::Device device(at::kCUDA, 0);
  const std::int64_t inputs = weight.in_features();
  const auto part = [&](const at::Tensor& t, std::int64_t per_row) {
    return t.view({-1}).narrow(0, first * per_row, count * per_row).to(device);
  };
  const auto codes = part(weight.codes(), inputs / 2);
  if (is_nf4(weight)) {
    const auto absmax = part(weight.scales(), inputs / kNf4Block);
    const Nf4View rows{
        codes.const_data_ptr<std::uint8_t>(), floats(absmax), nullptr, kNf4Block, count, inputs};
    check_cuda(cuda::pack_stream(rows, papers_nf4_table(), chunks, current_stream()),
               "rearrange weights");
    return;
  }
  const auto scales = part(weight.scales(), inputs / kNvfp4Block);
  const Nvfp4View rows{codes.const_data_ptr<std::uint8_t>(),
                       scales.const_data_ptr<std::uint8_t>(),
                       nullptr,
                       weight.global_scale(),
                       count,
                       inputs};
  check_cuda(cuda::pack_stream(rows, chunks, current_stream()), "rearrange weights");
}

// NF4's levels in the order of the stream layout's codes.
at::Tensor stream_code_book(at::Device device) {
  const auto levels = levels_by_code(papers_nf4_book(), papers_nf4_table());
  auto out = at::empty({16}, at::kFloat);
  std::copy(levels.begin(), levels.end(), floats_out(out));
  return out.to(device);
}

// A weight on its way into the stream layout passes through the device a few rows at a time, so
// that it is never there twice.
WeightMatrix CudaBackend::place(WeightMatrix weight) const {
  if (weight.device() == device()) return weight;
  if (fp4_ != nullptr && has_e4m3_scales(weight)) return Fp4Linear::place(weight, device());
  if (!hopper() || !has_stream_layout(weight)) return weight.to(device());
  constexpr std::int64_t kRows = 64 * cuda::kStreamRows;
  const std::int64_t inputs = weight.in_features();
  const std::int64_t outputs = weight.out_features();
  auto chunks =
      at::empty({cuda::stream_bytes(outputs, inputs)}, at::device(device()).dtype(at::kByte));
  for (std::int64_t first = 0; first < outputs; first += kRows) {
    pack_rows(weight, first, std::min(kRows, outputs - first),
              chunks.mutable_data_ptr<std::uint8_t>() + cuda::stream_bytes(first, inputs));
  }
  if (!is_nf4(weight)) {
    return WeightMatrix::nvfp4_stream(chunks, weight.global_scale(), outputs, inputs);
  }
  return WeightMatrix::nf4_stream(chunks, stream_code_book(device()), outputs, inputs);
}

at::Tensor CudaBackend::embed(const at::Tensor& ids_T, const WeightMatrix& weight) const {
  const auto ids = ids_T.to(device());
  if (weight.format() != WeightFormat::kNvfp4 && weight.format() != WeightFormat::kNf4) {
    return weight.dense_values().index_select(0, ids).to(at::kFloat);
  }
  const auto* const rows = ids_T.const_data_ptr<std::int64_t>();
  const bool any_row =
      weight.streamed() || !is_nf4(weight) || weight.in_features() % weight.nf4_view().block == 0;
  if (!any_row) {
    fail(ExitCode::kUnreadable,
         "embedding: expected rows of whole NF4 blocks on a GPU, found rows of {} in blocks of {}",
         weight.in_features(), weight.nf4_view().block);
  }
  std::vector<at::Tensor> out;
  for (std::int64_t t = 0; t < ids_T.numel(); ++t)
    out.push_back(dequantized_rows(weight, rows[t], 1));
  return at::cat(out, 0);
}

// A few tokens times a packed weight, straight from its codes; undefined where no kernel fits.
at::Tensor few_tokens_product(const at::Tensor& x_TI, const WeightMatrix& weight) {
  const bool nf4_rows = is_nf4(weight) && !weight.streamed();
  if (nf4_rows && (weight.in_features() % 8 != 0 || weight.nf4_view().block % 8 != 0)) return {};
  auto y_TO = at::empty({x_TI.size(0), weight.out_features()}, x_TI.options());
  const cuda::LinearOperands operands{floats(x_TI), floats_out(y_TO), x_TI.size(0)};
  cudaStream_t stream = current_stream();
  if (streams_nvfp4(weight)) {
    check_cuda(cuda::linear_stream(stream_view(weight, weight.global_scale()), operands, stream),
               "product");
  } else if (weight.streamed()) {
    check_cuda(cuda::linear_stream(nf4_stream_view(weight), operands, stream), "product");
  } else if (nf4_rows) {
    check_cuda(cuda::linear_nf4(weight.nf4_view(), operands, stream), "product");
  } else {
    check_cuda(cuda::linear_nvfp4(weight.nvfp4_view(), operands, stream), "product");
  }
  return y_TO;
}

// Both operands in x's 16-bit type, sums in fp32.
at::Tensor tensor_core_product(const at::Tensor& x_TI, const WeightMatrix& weight,
                               at::ScalarType type) {
  return by_tiles(weight, x_TI.size(0), type, [&](std::int64_t first, std::int64_t count) {
    const NarrowRows w = narrow_rows(weight, {first, count}, x_TI.scalar_type());
    auto y_TO = at::empty({x_TI.size(0), count}, x_TI.options().dtype(type));
    if (type == at::kFloat) {
      at::addmm_out(y_TO, y_TO, x_TI, w.values.t(), at::kFloat, /*beta=*/0, /*alpha=*/w.factor);
    } else {
      at::addmm_out(y_TO, y_TO, x_TI, w.values.t(), /*beta=*/0, /*alpha=*/w.factor);
    }
    return y_TO;
  });
}

template <class In, class Out>
void streamed_products(const at::Tensor& x_TI, const cuda::GemmWeights& weights,
                       std::vector<at::Tensor>& y, const at::Tensor& arrived) {
  const std::int64_t tokens = x_TI.size(0);
  const auto multiprocessors = static_cast<int>(arrived.numel());
  const cuda::GemmPlan plan = cuda::plan_gemm_stream(weights, tokens, multiprocessors);
  TORCH_INTERNAL_ASSERT(plan.tiles - plan.whole <= multiprocessors);
  const auto partial = at::empty({plan.partial_floats()}, x_TI.options().dtype(at::kFloat));
  cuda::GemmOperands<In, Out> operands{static_cast<const In*>(x_TI.const_data_ptr()), tokens, {}};
  for (std::size_t i = 0; i < y.size(); ++i) {
    operands.y[i] = static_cast<Out*>(y[i].mutable_data_ptr());
  }
  const cuda::GemmWorkspace workspace{
      static_cast<float*>(partial.data_ptr()),
      reinterpret_cast<std::uint32_t*>(arrived.data_ptr<std::int32_t>())};
  check_cuda(cuda::gemm_stream(weights, operands, plan, workspace, current_stream()), "product");
}

std::vector<at::Tensor> CudaBackend::streamed_products(const at::Tensor& x_TI,
                                                       std::span<const WeightMatrix* const> weights,
                                                       at::ScalarType type) const {
  std::vector<cuda::StreamView> views;
  std::vector<at::Tensor> y;
  for (const WeightMatrix* weight : weights) {
    views.push_back(stream_view(*weight, weight->global_scale()));
    y.push_back(at::empty({x_TI.size(0), weight->out_features()}, x_TI.options().dtype(type)));
  }
  const cuda::GemmWeights group{views.data(), static_cast<int>(views.size())};
  with_type(x_TI.scalar_type(), [&](auto* in) {
    using In = std::remove_pointer_t<decltype(in)>;
    if constexpr (!std::is_same_v<In, float>) {
      if (type == at::kFloat) {
        qf::streamed_products<In, float>(x_TI, group, y, arrived_);
      } else {
        qf::streamed_products<In, In>(x_TI, group, y, arrived_);
      }
    }
  });
  return y;
}

at::Tensor CudaBackend::product(const at::Tensor& x_TI, const WeightMatrix& weight,
                                at::ScalarType type) const {
  TORCH_INTERNAL_ASSERT(x_TI.dim() == 2 && x_TI.size(1) == weight.in_features() && x_TI.is_cuda() &&
                            weight.device().is_cuda(),
                        "linear: expected [T, ", weight.in_features(), "] on the device, got ",
                        x_TI.sizes());
  if (fp4_ != nullptr && weight.format() == WeightFormat::kNvfp4) {
    const WeightMatrix* const only = &weight;
    return fp4_->products(x_TI, {&only, 1}, type).front();
  }
  const auto x = x_TI.contiguous();
  if (linear_mode_ == LinearMode::kReference) {
    return at::mm(x.to(at::kFloat), dequantized_rows(weight, 0, weight.out_features()).t())
        .to(type);
  }
  const std::int64_t tokens = x.size(0);
  const bool few = tokens <= cuda::kLinearMaxTokens;
  const bool packed = weight.codes().scalar_type() == at::kByte;
  if (packed && few) {
    const auto y_TO = few_tokens_product(x.to(at::kFloat), weight);
    if (y_TO.defined()) return y_TO.to(type);
  }
  const auto narrow = scalar_type(dtype_);
  const bool same_type = weight.codes().scalar_type() == narrow;
  if (dtype_ != ComputeDtype::kF32 && streams_nvfp4(weight)) {
    const WeightMatrix* const only = &weight;
    return streamed_products(x.to(narrow), {&only, 1}, type).front();
  }
  if (dtype_ != ComputeDtype::kF32 && (packed || (same_type && !few))) {
    return tensor_core_product(x.to(narrow), weight, type);
  }
  const auto exact = x.to(at::kFloat);
  if (weight.format() == WeightFormat::kBF16) {
    // Exact products on tensor cores: x is the sum of three bf16 terms.
    return at::mm(terms_of(exact, at::kBFloat16), weight.dense_values().t(), at::kFloat)
        .view({3, tokens, weight.out_features()})
        .sum(0)
        .to(type);
  }
  return by_tiles(weight, tokens, at::kFloat,
                  [&](std::int64_t first, std::int64_t count) {
                    return at::mm(exact, dequantized_rows(weight, first, count).t());
                  })
      .to(type);
}

at::Tensor CudaBackend::linear(const at::Tensor& x_TI, const WeightMatrix& weight) const {
  return product(x_TI, weight, result_type(x_TI));
}

std::vector<at::Tensor> CudaBackend::linears(
    const at::Tensor& x_TI, std::initializer_list<const WeightMatrix*> weights) const {
  const bool tiled =
      std::ranges::all_of(weights, [](const WeightMatrix* weight) { return weight->tiled(); });
  if (fp4_ != nullptr && tiled) {
    return fp4_->products(x_TI, {weights.begin(), weights.size()}, result_type(x_TI));
  }
  const bool streamed = std::ranges::all_of(
      weights, [](const WeightMatrix* weight) { return streams_nvfp4(*weight); });
  const bool together = linear_mode_ == LinearMode::kW4A16 && dtype_ != ComputeDtype::kF32 &&
                        streamed && x_TI.size(0) > cuda::kLinearMaxTokens &&
                        weights.size() <= std::size_t{cuda::kGemmMaxWeights};
  if (!together) return Backend::linears(x_TI, weights);
  return streamed_products(x_TI.contiguous().to(scalar_type(dtype_)),
                           {weights.begin(), weights.size()}, result_type(x_TI));
}

at::Tensor CudaBackend::logits(const at::Tensor& hidden_TD, const WeightMatrix& weight) const {
  return product(hidden_TD, weight, at::kFloat);
}

at::Tensor CudaBackend::rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) const {
  const auto in = x.contiguous();
  auto y = at::empty(in.sizes(), in.options().dtype(result_type(x)));
  const std::int64_t cols = in.size(-1);
  const cuda::NormShape shape{in.numel() / cols, cols};
  const auto run = [&](const auto* from, auto* to) {
    check_cuda(
        cuda::rms_norm(from, floats(weight), static_cast<float>(eps), shape, to, current_stream()),
        "RMS norm");
  };
  with_type(y.scalar_type(), [&](auto* tag) {
    if (is_f32(in)) {
      run(floats(in), values_out(y, tag));
    } else {
      run(values(in, tag), values_out(y, tag));
    }
  });
  return y;
}

at::Tensor CudaBackend::apply_rope(const at::Tensor& x_THE, const at::Tensor& cos_TE,
                                   const at::Tensor& sin_TE) const {
  const auto in = x_THE.contiguous();
  auto y = at::empty_like(in);
  const cuda::RopeShape shape{in.size(0), in.size(1), in.size(2)};
  with_type(in.scalar_type(), [&](auto* tag) {
    check_cuda(cuda::apply_rope(values(in, tag), floats(cos_TE), floats(sin_TE), shape,
                                values_out(y, tag), current_stream()),
               "RoPE");
  });
  return y;
}

at::Tensor prompt_attention(const at::Tensor& q_THE, const at::Tensor& k_SKE,
                            const at::Tensor& v_SKE) {
  auto out_THE = at::empty_like(q_THE);
  const cuda::AttentionShape shape{q_THE.size(0), k_SKE.size(0),   q_THE.size(1),  k_SKE.size(1),
                                   q_THE.size(2), k_SKE.stride(0), k_SKE.stride(1)};
  TORCH_INTERNAL_ASSERT(k_SKE.strides() == v_SKE.strides() && k_SKE.stride(2) == 1);
  with_type(q_THE.scalar_type(), [&](auto* tag) {
    using T = std::remove_pointer_t<decltype(tag)>;
    if constexpr (!std::is_same_v<T, float>) {
      const cuda::AttentionOperands<T> operands{values(q_THE, tag), values(k_SKE, tag),
                                                values(v_SKE, tag), values_out(out_THE, tag)};
      check_cuda(cuda::prompt_attention(operands, shape, current_stream()), "attention");
    }
  });
  return out_THE;
}

at::Tensor CudaBackend::attention(const at::Tensor& q_THE, const at::Tensor& k_SKE,
                                  const at::Tensor& v_SKE) const {
  const std::int64_t tokens = q_THE.size(0);
  const std::int64_t before = k_SKE.size(0) - tokens;
  const auto batched = [](const at::Tensor& x_THE) { return x_THE.transpose(0, 1).unsqueeze(0); };
  const auto k = batched(k_SKE);
  const auto v = batched(v_SKE);
  if (!is_f32(k)) {
    const std::int64_t width = q_THE.size(2);
    QF_CHECK(width % 8 == 0 && width <= 256,
             "attention in {}: expected a head_dim that is a multiple of 8 up to 256, got {} "
             "(--dtype fp32)",
             dtype_name(dtype_), width);
    const auto q = q_THE.to(k.scalar_type());
    if (hopper() && tokens >= kPromptTokens && (width == 64 || width == 128)) {
      return prompt_attention(q.contiguous(), k_SKE, v_SKE).to(result_type(q_THE));
    }
    // The mask is aligned to the last token, as flash attention's own interface has it.
    const auto attended = std::get<0>(at::_scaled_dot_product_flash_attention(
        batched(q), k, v, /*dropout_p=*/0.0, /*is_causal=*/tokens > 1));
    return attended.squeeze(0).transpose(0, 1).to(result_type(q_THE)).contiguous();
  }
  TORCH_INTERNAL_ASSERT(is_f32(q_THE), "attention in fp32: expected queries in f32");
  const std::int64_t group = q_THE.size(1) / k_SKE.size(1);
  const double scale = 1.0 / std::sqrt(static_cast<double>(q_THE.size(2)));
  std::vector<at::Tensor> out;
  for (std::int64_t first = 0; first < tokens; first += kScoreRows) {
    const std::int64_t count = std::min(kScoreRows, tokens - first);
    const std::int64_t visible = before + first + count;
    const auto q_HtE = (q_THE.narrow(0, first, count) * scale).transpose(0, 1);
    const auto heads = [&](const at::Tensor& x) {
      return x.squeeze(0).narrow(1, 0, visible).repeat_interleave(group, 0);
    };
    auto scores = at::bmm(q_HtE, heads(k).transpose(1, 2));
    if (count > 1) {
      const auto future = at::ones({count, visible}, at::device(device()).dtype(at::kBool))
                              .triu(before + first + 1);
      scores.masked_fill_(future.unsqueeze(0), -std::numeric_limits<float>::infinity());
    }
    out.push_back(at::bmm(at::softmax(scores, -1), heads(v)).transpose(0, 1));
  }
  return at::cat(out, 0).contiguous();
}

at::Tensor CudaBackend::swiglu(const at::Tensor& gate, const at::Tensor& up) const {
  const auto type = result_type(gate);
  const auto g = gate.to(type).contiguous();
  const auto u = up.to(type).contiguous();
  auto y = at::empty_like(g);
  with_type(type, [&](auto* tag) {
    check_cuda(cuda::swiglu(values(g, tag), values(u, tag), g.numel(), values_out(y, tag),
                            current_stream()),
               "SwiGLU");
  });
  return y;
}

// The residual stream is f32 throughout.
at::Tensor CudaBackend::add(const at::Tensor& a, const at::Tensor& b) const {
  const auto left = a.contiguous();
  const auto right = b.contiguous();
  auto y = at::empty_like(left);
  with_type(right.scalar_type(), [&](auto* tag) {
    check_cuda(
        cuda::add(floats(left), values(right, tag), left.numel(), floats_out(y), current_stream()),
        "addition");
  });
  return y;
}

double CudaBackend::measure_read_bandwidth() const {
  const std::int64_t bytes = bandwidth_buffer_bytes(/*on_device=*/true);
  constexpr int kPasses = 8;
  const auto words = at::zeros({bytes}, at::device(device()).dtype(at::kByte));
  auto result = at::empty({1}, at::device(device()).dtype(at::kInt));
  auto* const sum = reinterpret_cast<std::uint32_t*>(result.mutable_data_ptr<std::int32_t>());
  float best_ms = std::numeric_limits<float>::infinity();
  const Event start = make_timed_event();
  const Event stop = make_timed_event();
  for (int pass = 0; pass < kPasses; ++pass) {
    check_cuda(cudaEventRecord(start.get(), current_stream()), "event");
    check_cuda(cuda::read_all(words.const_data_ptr(), bytes / 16, sum, current_stream()), "read");
    check_cuda(cudaEventRecord(stop.get(), current_stream()), "event");
    check_cuda(cudaEventSynchronize(stop.get()), "read");
    float ms = 0;
    check_cuda(cudaEventElapsedTime(&ms, start.get(), stop.get()), "event");
    best_ms = std::min(best_ms, ms);
  }
  return static_cast<double>(bytes) / best_ms * 1e3;
}

std::int64_t CudaBackend::memory_peak() const {
  const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(0);
  return stats.reserved_bytes[static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE)]
      .peak;
}

}  // namespace

bool built_with_cuda() { return true; }

const std::string& no_cuda_reason() {
  static const std::string kReason = [] {
    int count = 0;
    const cudaError_t status = cudaGetDeviceCount(&count);
    if (status != cudaSuccess) return fmt::format("CUDA says '{}'", cudaGetErrorString(status));
    return count > 0 ? std::string() : std::string("no CUDA device");
  }();
  return kReason;
}

std::unique_ptr<Backend> make_cuda_backend(ComputeDtype dtype, LinearMode linear) {
  return std::make_unique<CudaBackend>(dtype, linear);
}

}  // namespace qf
