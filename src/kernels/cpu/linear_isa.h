#pragma once

#include "lanes.h"
#include "qwen3fp4/kernels/cpu/linear.h"

// The same three products for each instruction set; linear.cpp chooses.
namespace qf {

namespace portable {
void linear_nvfp4(const Nvfp4View& w, const LinearInput& in, RowRange rows,
                  const LinearOutput& out);
void linear_nf4(const Nf4View& w, const LinearInput& in, RowRange rows, const LinearOutput& out);
void linear_dense(const DenseRows& w, const LinearInput& in, RowRange rows,
                  const LinearOutput& out);
}  // namespace portable

#if QF_X86
namespace avx2 {
void linear_nvfp4(const Nvfp4View& w, const LinearInput& in, RowRange rows,
                  const LinearOutput& out);
void linear_nf4(const Nf4View& w, const LinearInput& in, RowRange rows, const LinearOutput& out);
void linear_dense(const DenseRows& w, const LinearInput& in, RowRange rows,
                  const LinearOutput& out);
}  // namespace avx2

namespace avx512 {
void linear_nvfp4(const Nvfp4View& w, const LinearInput& in, RowRange rows,
                  const LinearOutput& out);
void linear_nf4(const Nf4View& w, const LinearInput& in, RowRange rows, const LinearOutput& out);
void linear_dense(const DenseRows& w, const LinearInput& in, RowRange rows,
                  const LinearOutput& out);
}  // namespace avx512
#endif

}  // namespace qf
