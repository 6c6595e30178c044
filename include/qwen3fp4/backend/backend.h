#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/quant/weight_matrix.h"

namespace qf {

// What multiplies what in linear() and logits(). kW4A16: packed weights and activations as they
// are. kW4A4: NVFP4 weights and activations quantised to NVFP4 too, as FP4 tensor cores take them;
// weights of other formats as with kW4A16. kReference: each weight unpacked to f32, whole, and
// multiplied in fp32.
enum class LinearMode { kW4A16, kW4A4, kReference };
// As --linear spells it: "w4a16", "w4a4", "reference".
[[nodiscard]] std::string_view linear_mode_name(LinearMode mode);

// The operations of the forward pass. linear() is where backends differ; the others have composed
// defaults in plain libtorch (fp32) that a backend overrides where a fused version pays.
// Every backend equals `reference` within the bound that its operation's test derives.
//
// Shapes: T new tokens, S cached tokens (S >= T), H query heads, K key/value heads, E head_dim,
// I/O a linear's input and output features. Activations are on this backend's device and f32, or
// of whatever type its operations return: `cuda` with a 16-bit dtype passes that type from one to
// the next (the residual stream stays f32). Every operation takes f32 as well.
class Backend {
 public:
  Backend() = default;
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;
  virtual ~Backend() = default;

  [[nodiscard]] virtual std::string_view name() const = 0;
  // One line for --verbose: which kernels run here and why.
  [[nodiscard]] virtual std::string description() const = 0;
  // Of linear(), linears() and logits().
  [[nodiscard]] virtual LinearMode linear_mode() const { return LinearMode::kW4A16; }

  // Where activations and weights are.
  [[nodiscard]] virtual at::Device device() const { return at::kCPU; }
  // `weight` as this backend's linear() and embed() read it best: on device(), perhaps in another
  // layout. A weight that is there already comes back as it is.
  [[nodiscard]] virtual WeightMatrix place(WeightMatrix weight) const { return weight; }
  // Type and device of cached keys and values.
  [[nodiscard]] virtual at::TensorOptions cache_options() const { return at::kFloat; }

  // f32 [T, I]: the rows of `weight` that `ids` (i64 [T] in main memory) name.
  [[nodiscard]] virtual at::Tensor embed(const at::Tensor& ids_T, const WeightMatrix& weight) const;
  // x_TI times the transposed weight [O, I].
  [[nodiscard]] virtual at::Tensor linear(const at::Tensor& x_TI,
                                          const WeightMatrix& weight) const = 0;
  // linear() of x and each of the weights, which have the same I: at once where that is faster.
  [[nodiscard]] virtual std::vector<at::Tensor> linears(
      const at::Tensor& x_TI, std::initializer_list<const WeightMatrix*> weights) const;
  // linear() of the head, f32 whatever the type of the others' results.
  [[nodiscard]] virtual at::Tensor logits(const at::Tensor& hidden_TD,
                                          const WeightMatrix& weight) const {
    return linear(hidden_TD, weight);
  }
  // Over the last dimension: x / sqrt(mean(x^2) + eps) * weight.
  [[nodiscard]] virtual at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight,
                                            double eps) const;
  // Rotates feature i with i + E/2 ("rotate half", as the HF weights expect). cos/sin f32 [T, E].
  [[nodiscard]] virtual at::Tensor apply_rope(const at::Tensor& x_THE, const at::Tensor& cos_TE,
                                              const at::Tensor& sin_TE) const;
  // Causal attention of the last T of S positions, scaled by 1/sqrt(E); query head h reads
  // key/value head h / (H/K). k and v are of the cache's type. Returns [T, H, E].
  [[nodiscard]] virtual at::Tensor attention(const at::Tensor& q_THE, const at::Tensor& k_SKE,
                                             const at::Tensor& v_SKE) const;
  // silu(gate) * up
  [[nodiscard]] virtual at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up) const;
  // The residual stream: a + b.
  [[nodiscard]] virtual at::Tensor add(const at::Tensor& a, const at::Tensor& b) const;

  // What the weights of one token cannot be read faster than: bytes per second, measured now by
  // reading more than the caches hold with parallel_threads(). The memory is given back. Both throw
  // on a device whose backend does not override them.
  [[nodiscard]] virtual double measure_read_bandwidth() const;
  // The most bytes of this device's memory that the process has held at once so far.
  [[nodiscard]] virtual std::int64_t memory_peak() const;
};

// kF32: every result as exact as fp32 sums make it. kF16, kBF16: in the precision that 16-bit
// tensor cores have, for speed where the hardware has them (cuda), rounded to it elsewhere
// (emulated.h). fp16 has 11 bits and ends at 65,504, where a value becomes infinite; bf16 has 8
// bits and no end.
enum class ComputeDtype { kF32, kF16, kBF16 };
// As --dtype spells it: "fp32", "fp16", "bf16".
[[nodiscard]] std::string_view dtype_name(ComputeDtype dtype);
// f32, or the 16-bit type.
[[nodiscard]] at::ScalarType scalar_type(ComputeDtype dtype);
// kF16 on cuda, else kF32.
[[nodiscard]] ComputeDtype default_dtype(std::string_view backend);

// Throws (exit code 2), listing backend_names(), for an unknown name, and where the machine lacks
// what `linear` needs. kW4A4 is emulated (emulated.h) on backends without a device.
[[nodiscard]] std::unique_ptr<Backend> make_backend(std::string_view name, ComputeDtype dtype,
                                                    LinearMode linear = LinearMode::kW4A16);
[[nodiscard]] std::unique_ptr<Backend> make_backend(std::string_view name);
// What this build has on this machine: `cuda` only where a GPU can be used.
[[nodiscard]] const std::vector<std::string_view>& backend_names();
// The fastest that this machine supports.
[[nodiscard]] std::string_view default_backend_name();

}  // namespace qf
