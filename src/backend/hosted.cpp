#include "qwen3fp4/backend/hosted.h"

#include <ATen/ATen.h>

namespace qf {

at::Tensor HostedBackend::embed(const at::Tensor& ids_T, const WeightMatrix& weight) const {
  return inner_->embed(ids_T, inner_->place(weight)).cpu();
}

at::Tensor HostedBackend::linear(const at::Tensor& x_TI, const WeightMatrix& weight) const {
  return inner_->linear(there(x_TI), inner_->place(weight)).cpu();
}

at::Tensor HostedBackend::rms_norm(const at::Tensor& x, const at::Tensor& weight,
                                   double eps) const {
  return inner_->rms_norm(there(x), there(weight), eps).cpu();
}

at::Tensor HostedBackend::apply_rope(const at::Tensor& x_THE, const at::Tensor& cos_TE,
                                     const at::Tensor& sin_TE) const {
  return inner_->apply_rope(there(x_THE), there(cos_TE), there(sin_TE)).cpu();
}

at::Tensor HostedBackend::attention(const at::Tensor& q_THE, const at::Tensor& k_SKE,
                                    const at::Tensor& v_SKE) const {
  const auto cached = [&](const at::Tensor& x) { return x.to(inner_->cache_options()); };
  return inner_->attention(there(q_THE), cached(k_SKE), cached(v_SKE)).cpu();
}

at::Tensor HostedBackend::swiglu(const at::Tensor& gate, const at::Tensor& up) const {
  return inner_->swiglu(there(gate), there(up)).cpu();
}

at::Tensor HostedBackend::add(const at::Tensor& a, const at::Tensor& b) const {
  return inner_->add(there(a), there(b)).cpu();
}

}  // namespace qf
