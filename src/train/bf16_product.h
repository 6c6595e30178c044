#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

// Products of bf16 with f32 sums on the CPU, by oneDNN's kernels within libtorch: AMX tiles or
// AVX512-BF16. libtorch keeps a generated kernel for every combination of sizes and strides that it
// meets, for good, and a step has any number of tokens: so nothing here that a kernel depends on
// does. Rows are multiplied 32 or 64 at a time and inner columns in multiples of 64, with zeros
// where there are none.
namespace qf {

// Whether the processor has such instructions and libtorch takes them. Without them its bf16
// products are slower than fp32's.
[[nodiscard]] bool has_bf16_products();

// A right operand b [K, N], bf16, as these instructions take it: [K/2, N, 2], pairs of its rows
// side by side.
class RowPairs {
 public:
  RowPairs() = default;
  explicit RowPairs(const at::Tensor& b);
  [[nodiscard]] bool defined() const { return pairs_.defined(); }
  [[nodiscard]] std::int64_t columns() const { return pairs_.size(1); }

  // out [M, N] = a [M, K] b, or += it, by all threads. a: bf16. out: f32, its rows contiguous.
  void multiply(const at::Tensor& a, bool add, const at::Tensor& out) const;
  // The same for at most kTaskRows rows, by the calling thread.
  void multiply_rows(const at::Tensor& a, bool add, const at::Tensor& out) const;

 private:
  at::Tensor pairs_;
};

}  // namespace qf
