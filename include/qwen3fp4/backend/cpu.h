#pragma once

#include "qwen3fp4/backend/backend.h"
#include "qwen3fp4/kernels/cpu/isa.h"

namespace qf {

// Products straight from the packed weights, with no unpacked copy: up to kFusedTokens tokens in
// one pass over the codes, more tokens by unpacking a tile of rows at a time. Threads share the
// work by parallel_chunks(). The same bits for every number of threads, but not for every `isa`.
class CpuBackend final : public Backend {
 public:
  static constexpr std::int64_t kFusedTokens = 4;
  static constexpr std::int64_t kTileRows = 128;

  // `linear_mode`: kW4A16, or kReference for the reference backend's products. (kW4A4 is
  // EmulatedBackend's.)
  explicit CpuBackend(CpuIsa isa = best_cpu_isa(), LinearMode linear_mode = LinearMode::kW4A16);
  [[nodiscard]] std::string_view name() const override { return "cpu"; }
  [[nodiscard]] std::string description() const override;
  [[nodiscard]] LinearMode linear_mode() const override { return linear_mode_; }
  [[nodiscard]] at::Tensor linear(const at::Tensor& x_TI,
                                  const WeightMatrix& weight) const override;
  [[nodiscard]] at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight,
                                    double eps) const override;
  [[nodiscard]] at::Tensor apply_rope(const at::Tensor& x_THE, const at::Tensor& cos_TE,
                                      const at::Tensor& sin_TE) const override;
  [[nodiscard]] at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) const override;

 private:
  CpuIsa isa_;
  LinearMode linear_mode_;
};

}  // namespace qf
