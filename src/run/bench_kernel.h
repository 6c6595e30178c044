#pragma once

#include <ATen/core/Tensor.h>
#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

namespace qf {

// A row of `bench --kernels` that is still to be measured.
struct BenchKernel {
  std::string name;
  std::string shape;  // of the weight or cache; may be empty
  std::string isa;
  std::int64_t tokens = 0;
  std::int64_t bytes = 0;  // operands read and results written by one call
  std::int64_t flops = 0;  // of one call; 0 where arithmetic is not what bounds it
  std::function<void()> call;
  std::function<void()> prepare = nullptr;  // before each call, off the clock
};
// Makes the operands of a few kernels, which live no longer than the kernels do.
using BenchKernelGroup = std::function<std::vector<BenchKernel>()>;

inline std::int64_t bytes_of(std::initializer_list<at::Tensor> tensors) {
  std::int64_t bytes = 0;
  for (const at::Tensor& tensor : tensors) bytes += static_cast<std::int64_t>(tensor.nbytes());
  return bytes;
}
inline std::string shape_text(std::int64_t rows, std::int64_t cols) {
  return fmt::format("{}x{}", rows, cols);
}

}  // namespace qf
