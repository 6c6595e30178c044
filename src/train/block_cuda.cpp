#include <ATen/ATen.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include "block_kernels.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/kernels/cuda/attention.h"
#include "qwen3fp4/kernels/cuda/loss.h"
#include "qwen3fp4/kernels/cuda/operations.h"

namespace qf::on_cuda {
namespace {

void check(cudaError_t status, std::string_view what) {
  if (status == cudaSuccess) return;
  fail(status == cudaErrorMemoryAllocation ? ExitCode::kOutOfMemory : ExitCode::kUnreadable,
       "CUDA: {}: {}", what, cudaGetErrorString(status));
}

cudaStream_t current_stream() { return c10::cuda::getCurrentCUDAStream().stream(); }

const __nv_bfloat16* values(const at::Tensor& t) {
  return reinterpret_cast<const __nv_bfloat16*>(t.const_data_ptr<at::BFloat16>());
}
__nv_bfloat16* values_out(const at::Tensor& t) {
  return reinterpret_cast<__nv_bfloat16*>(t.mutable_data_ptr<at::BFloat16>());
}

cuda::RotationTables tables_of(const at::Tensor& weight, const PackedRows& rows) {
  return {weight.defined() ? weight.const_data_ptr<float>() : nullptr,
          rows.cos.const_data_ptr<float>(), rows.sin.const_data_ptr<float>()};
}

cuda::RopeShape shape_of(const at::Tensor& x_NHE) {
  return {x_NHE.size(0), x_NHE.size(1), x_NHE.size(2)};
}

cuda::LogitChunk chunk_of(const Logits& logits) {
  const at::Tensor& values = logits.values_mc;
  return {values.const_data_ptr<float>(), values.size(0), values.size(1), logits.first};
}

// run(pointer to the values), f32 or bf16.
template <class Run>
void with_stream(const at::Tensor& h, const Run& run) {
  if (h.scalar_type() == at::kFloat) {
    run(h.const_data_ptr<float>());
  } else {
    run(values(h));
  }
}

// run(pointer to the gradient of the logits), f32 or bf16.
template <class Run>
void with_gradient(const at::Tensor& out, const Run& run) {
  if (out.scalar_type() == at::kFloat) {
    run(out.mutable_data_ptr<float>());
  } else {
    run(values_out(out));
  }
}

}  // namespace

bool has_prompt_attention(std::int64_t head_dim) {
  static const bool kHopper = [] {
    int major = 0;
    int minor = 0;
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "device 0");
    check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0), "device 0");
    return major == 9 && minor == 0;
  }();
  return kHopper && (head_dim == 64 || head_dim == 128);
}

void prompt_attention(const AttentionRows& rows) {
  const auto part = [&](const at::Tensor& x) { return x.narrow(0, rows.first, rows.count); };
  const auto q = part(rows.q_NHE);
  const auto k = part(rows.k_NKE);
  const std::int64_t width = q.size(2);
  const cuda::AttentionShape shape{rows.count, rows.count,        q.size(1), k.size(1),
                                   width,      k.size(1) * width, width};
  auto logsumexp = rows.logsumexp_HN;
  const cuda::AttentionOperands<__nv_bfloat16> operands{
      values(q),
      values(k),
      values(part(rows.v_NKE)),
      values_out(part(rows.out_NHE)),
      logsumexp.mutable_data_ptr<float>() + rows.first,
      logsumexp.size(1)};
  check(cuda::prompt_attention(operands, shape, current_stream()), "attention");
}

at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) {
  auto hidden = at::empty_like(gate);
  check(cuda::swiglu(values(gate), values(up), gate.numel(), values_out(hidden), current_stream()),
        "SwiGLU");
  return hidden;
}

SwigluGradient swiglu_backward(const at::Tensor& dhidden, const at::Tensor& gate,
                               const at::Tensor& up) {
  SwigluGradient gradient{at::empty_like(gate), at::empty_like(up)};
  check(cuda::swiglu_backward<__nv_bfloat16>({values(gate), values(up), values(dhidden)},
                                             gate.numel(), values_out(gradient.gate),
                                             values_out(gradient.up), current_stream()),
        "gradient of SwiGLU");
  return gradient;
}

bool has_stream_norm(std::int64_t width) { return width % 4 == 0 && width <= cuda::kMostNormCols; }

StreamNorm add_norm(const at::Tensor& x, const at::Tensor& added, const at::Tensor& weight,
                    double eps) {
  const auto floats = x.options().dtype(at::kFloat);
  StreamNorm norm{added.defined() ? at::empty(x.sizes(), floats) : x, at::empty_like(x),
                  at::empty({x.size(0)}, floats)};
  const cuda::AddedNorm<__nv_bfloat16, __nv_bfloat16> operands{
      values(x),
      added.defined() ? values(added) : nullptr,
      weight.const_data_ptr<float>(),
      static_cast<float>(eps),
      added.defined() ? norm.h.mutable_data_ptr<float>() : nullptr,
      values_out(norm.y),
      norm.rstd.mutable_data_ptr<float>()};
  check(cuda::add_norm(operands, {x.size(0), x.size(1)}, current_stream()), "norm");
  return norm;
}

StreamGradient norm_backward(const at::Tensor& dy, const StreamNorm& norm, const at::Tensor& weight,
                             const at::Tensor& dresidual) {
  auto parts = at::empty({cuda::kNormParts, dy.size(1)}, dy.options());
  StreamGradient gradient{at::empty_like(dy), at::empty_like(norm.y), {}};
  with_stream(norm.h, [&]<class In>(const In* h) {
    const cuda::NormGradient<In, __nv_bfloat16> operands{
        dy.const_data_ptr<float>(),        h,
        norm.rstd.const_data_ptr<float>(), weight.const_data_ptr<float>(),
        dresidual.const_data_ptr<float>(), gradient.x.mutable_data_ptr<float>(),
        values_out(gradient.narrow),       parts.mutable_data_ptr<float>()};
    check(cuda::norm_backward(operands, {dy.size(0), dy.size(1)}, current_stream()),
          "gradient of a norm");
  });
  gradient.weight = parts.sum(0);
  return gradient;
}

bool has_rotation(std::int64_t head_dim) {
  return head_dim == 64 || head_dim == 128 || head_dim == 256;
}

Rotated rotate_heads(const at::Tensor& x_NHE, const at::Tensor& weight, double eps,
                     const PackedRows& rows) {
  Rotated result{.rotated = at::empty_like(x_NHE)};
  float* rstd = nullptr;
  if (weight.defined()) {
    result.raw = x_NHE;
    result.rstd = at::empty({x_NHE.size(0), x_NHE.size(1)}, x_NHE.options().dtype(at::kFloat));
    rstd = result.rstd.mutable_data_ptr<float>();
  }
  check(cuda::rotate_heads(values(x_NHE), tables_of(weight, rows), static_cast<float>(eps),
                           shape_of(x_NHE), values_out(result.rotated), rstd, current_stream()),
        "norm and RoPE of heads");
  return result;
}

RotationGradient rotate_heads_backward(const at::Tensor& dy_NHE, const Rotated& forward,
                                       const at::Tensor& weight, const PackedRows& rows) {
  const auto dy = dy_NHE.contiguous();
  RotationGradient result{.x = at::empty_like(dy)};
  cuda::RotationGradient<__nv_bfloat16> gradient{values(dy), values(dy), nullptr,
                                                 values_out(result.x), nullptr};
  at::Tensor parts;
  if (weight.defined()) {
    parts = at::empty({cuda::kRotationParts, dy.size(2)}, dy.options().dtype(at::kFloat));
    gradient.x = values(forward.raw);
    gradient.rstd = forward.rstd.const_data_ptr<float>();
    gradient.dweight_parts = parts.mutable_data_ptr<float>();
  }
  check(cuda::rotate_heads_backward(gradient, tables_of(weight, rows), shape_of(dy),
                                    current_stream()),
        "gradient of norm and RoPE of heads");
  if (parts.defined()) result.weight = parts.sum(0);
  return result;
}

void cross_entropy(const Logits& logits, const at::Tensor& next_m, const at::Tensor& logsumexp_m,
                   const at::Tensor& value_m) {
  check(cuda::cross_entropy(chunk_of(logits), next_m.const_data_ptr<std::int64_t>(),
                            logsumexp_m.mutable_data_ptr<float>(),
                            value_m.mutable_data_ptr<float>(), current_stream()),
        "cross-entropy");
}

void divergence(const Logits& logits, const at::Tensor& teacher_mc, const Divergence& out) {
  check(cuda::divergence(chunk_of(logits), teacher_mc.const_data_ptr<float>(),
                         out.logsumexp_m.mutable_data_ptr<float>(),
                         out.teacher_logsumexp_m.mutable_data_ptr<float>(),
                         out.value_m.mutable_data_ptr<float>(), current_stream()),
        "KL divergence");
}

void cross_entropy_gradient(const Logits& logits, const at::Tensor& next_m,
                            const at::Tensor& logsumexp_m, double weight,
                            const at::Tensor& out_mc) {
  with_gradient(out_mc, [&](auto* out) {
    check(cuda::cross_entropy_gradient(chunk_of(logits), next_m.const_data_ptr<std::int64_t>(),
                                       logsumexp_m.const_data_ptr<float>(),
                                       static_cast<float>(weight), out, current_stream()),
          "gradient of cross-entropy");
  });
}

void divergence_gradient(const Logits& logits, const at::Tensor& teacher_mc,
                         const at::Tensor& logsumexp_m, const at::Tensor& teacher_logsumexp_m,
                         double weight, const at::Tensor& out_mc) {
  with_gradient(out_mc, [&](auto* out) {
    check(cuda::divergence_gradient(chunk_of(logits), teacher_mc.const_data_ptr<float>(),
                                    logsumexp_m.const_data_ptr<float>(),
                                    teacher_logsumexp_m.const_data_ptr<float>(),
                                    static_cast<float>(weight), out, current_stream()),
          "gradient of KL divergence");
  });
}

}  // namespace qf::on_cuda
