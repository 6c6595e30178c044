#pragma once

#include <cstdint>

namespace qf {

// Which instructions the CPU kernels may use. The quantisers give the same bits on each; the linear
// kernels sum in another order on each, within the same bound.
enum class CpuIsa : std::uint8_t {
  kPortable,  // what the compiler was told to assume: SSE2, NEON
  kAvx2,      // with FMA and F16C
  kAvx512,    // F, BW, DQ, VL
};

[[nodiscard]] bool cpu_supports(CpuIsa isa) noexcept;
// The widest that cpu_supports().
[[nodiscard]] CpuIsa best_cpu_isa() noexcept;
[[nodiscard]] const char* cpu_isa_name(CpuIsa isa) noexcept;

}  // namespace qf
