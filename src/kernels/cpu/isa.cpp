#include "qwen3fp4/kernels/cpu/isa.h"

namespace qf {

bool cpu_supports(CpuIsa isa) noexcept {
#if defined(__x86_64__)
  switch (isa) {
    case CpuIsa::kPortable:
      return true;
    case CpuIsa::kAvx2:
      // F16C came before AVX2; clang 16 cannot ask for it.
      return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0;
    case CpuIsa::kAvx512:
      return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
             __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
             cpu_supports(CpuIsa::kAvx2);
  }
  return false;
#else
  return isa == CpuIsa::kPortable;
#endif
}

CpuIsa best_cpu_isa() noexcept {
  static const CpuIsa kBest = cpu_supports(CpuIsa::kAvx512) ? CpuIsa::kAvx512
                              : cpu_supports(CpuIsa::kAvx2) ? CpuIsa::kAvx2
                                                            : CpuIsa::kPortable;
  return kBest;
}

const char* cpu_isa_name(CpuIsa isa) noexcept {
  switch (isa) {
    case CpuIsa::kPortable:
      return "portable";
    case CpuIsa::kAvx2:
      return "AVX2";
    case CpuIsa::kAvx512:
      return "AVX-512";
  }
  return "unknown";
}

}  // namespace qf
