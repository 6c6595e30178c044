#pragma once

#include <gtest/gtest.h>

#include <vector>

#include "qwen3fp4/kernels/cpu/isa.h"

namespace qf {

// Every instruction set that this machine has; a test over them lists what it covered by name.
inline std::vector<CpuIsa> supported_isas() {
  std::vector<CpuIsa> isas;
  for (const auto isa : {CpuIsa::kPortable, CpuIsa::kAvx2, CpuIsa::kAvx512}) {
    if (cpu_supports(isa)) isas.push_back(isa);
  }
  return isas;
}

inline std::string isa_test_name(const testing::TestParamInfo<CpuIsa>& info) {
  switch (info.param) {
    case CpuIsa::kPortable:
      return "Portable";
    case CpuIsa::kAvx2:
      return "Avx2";
    case CpuIsa::kAvx512:
      return "Avx512";
  }
  return "Unknown";
}

}  // namespace qf
