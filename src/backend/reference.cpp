#include "qwen3fp4/backend/reference.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "check_linear.h"

namespace qf {

std::string ReferenceBackend::description() const {
  return fmt::format("reference: libtorch fp32 on {} threads, weights unpacked for every product",
                     at::get_num_threads());
}

at::Tensor ReferenceBackend::linear(const at::Tensor& x_TI, const WeightMatrix& weight) const {
  check_linear(x_TI, weight);
  return at::mm(x_TI, weight.dequantize().t());
}

}  // namespace qf
