#include "qwen3fp4/backend/hosted.h"

#include <ATen/ATen.h>

namespace qf {

at::Tensor HostedBackend::embed(const at::Tensor& ids_T, const WeightMatrix& weight) const {
  return here(inner_->embed(ids_T, inner_->place(weight)));
}

at::Tensor HostedBackend::linear(const at::Tensor& x_TI, const WeightMatrix& weight) const {
  return here(inner_->linear(there(x_TI), inner_->place(weight)));
}

at::Tensor HostedBackend::logits(const at::Tensor& hidden_TD, const WeightMatrix& weight) const {
  return here(inner_->logits(there(hidden_TD), inner_->place(weight)));
}

at::Tensor HostedBackend::rms_norm(const at::Tensor& x, const at::Tensor& weight,
                                   double eps) const {
  return here(inner_->rms_norm(there(x), there(weight), eps));
}

at::Tensor HostedBackend::apply_rope(const at::Tensor& x_THE, const at::Tensor& cos_TE,
                                     const at::Tensor& sin_TE) const {
  return here(inner_->apply_rope(there(x_THE), there(cos_TE), there(sin_TE)));
}

at::Tensor HostedBackend::attention(const at::Tensor& q_THE, const at::Tensor& k_SKE,
                                    const at::Tensor& v_SKE) const {
  const auto cached = [&](const at::Tensor& x) { return x.to(inner_->cache_options()); };
  return here(inner_->attention(there(q_THE), cached(k_SKE), cached(v_SKE)));
}

at::Tensor HostedBackend::swiglu(const at::Tensor& gate, const at::Tensor& up) const {
  return here(inner_->swiglu(there(gate), there(up)));
}

at::Tensor HostedBackend::add(const at::Tensor& a, const at::Tensor& b) const {
  return here(inner_->add(there(a), there(b)));
}

}  // namespace qf
