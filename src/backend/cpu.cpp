#include "qwen3fp4/backend/cpu.h"

#include <ATen/ATen.h>

#include "check_linear.h"
#include "qwen3fp4/quant/parallel.h"

// Shapes in this file: T tokens, I/O the linear's input and output features.
namespace qf {
namespace {

// Rows unpacked at a time by one thread: all that is ever dense.
constexpr std::int64_t kTileRows = 128;

}  // namespace

std::string CpuBackend::description() const {
  return fmt::format("cpu: packed weights unpacked {} rows at a time, libtorch fp32 products",
                     kTileRows);
}

at::Tensor CpuBackend::linear(const at::Tensor& x_TI, const WeightMatrix& weight) const {
  check_linear(x_TI, weight);
  const auto x = x_TI.contiguous();
  auto y_TO = at::empty({x.size(0), weight.out_features()}, at::kFloat);
  parallel_chunks(weight.out_features(), kTileRows, [&](std::int64_t begin, std::int64_t end) {
    // Tasks run on threads that know nothing of the caller's modes.
    const c10::InferenceMode inference;
    const auto tile = weight.dequantize_rows(begin, end - begin);
    y_TO.narrow(1, begin, end - begin).copy_(at::mm(x, tile.t()));
  });
  return y_TO;
}

}  // namespace qf
