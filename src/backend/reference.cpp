#include "qwen3fp4/backend/reference.h"

#include <ATen/ATen.h>

#include "check_linear.h"

namespace qf {

std::string ReferenceBackend::description() const {
  return "reference: libtorch fp32 on one thread, weights unpacked for every product";
}

at::Tensor ReferenceBackend::linear(const at::Tensor& x_TI, const WeightMatrix& weight) const {
  check_linear(x_TI, weight);
  return at::mm(x_TI, weight.dequantize().t());
}

}  // namespace qf
