#include "qwen3fp4/backend/backend.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "qwen3fp4/backend/cpu.h"
#include "qwen3fp4/backend/cuda.h"
#include "qwen3fp4/backend/emulated.h"
#include "qwen3fp4/backend/reference.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/memory/guard.h"
#include "qwen3fp4/quant/parallel.h"

// Shapes in this file: T new tokens, S cached tokens (S >= T), H query heads, K key/value heads,
// G = H/K query heads that share one, E head_dim; t tokens of one tile, s positions they may see.
namespace qf {
namespace {

// Tokens of one attention task: bounds its scores to this many rows a query head.
constexpr std::int64_t kAttentionTile = 128;

std::string text(const at::Tensor& t) {
  return t.defined() ? c10::str(t.scalar_type(), " ", t.sizes()) : "none";
}

struct AttentionTile {
  std::int64_t head;          // key/value head
  std::int64_t first, count;  // of the T tokens
};

// Attention of one tile for the G query heads of one key/value head: f32 [t, G, E].
at::Tensor attend(const at::Tensor& q_THE, const at::Tensor& k_SKE, const at::Tensor& v_SKE,
                  const AttentionTile& tile) {
  const std::int64_t group = q_THE.size(1) / k_SKE.size(1);
  const std::int64_t width = q_THE.size(2);
  const std::int64_t before = k_SKE.size(0) - q_THE.size(0) + tile.first;
  const std::int64_t visible = before + tile.count;
  const auto q_tGE = q_THE.narrow(0, tile.first, tile.count).narrow(1, tile.head * group, group) *
                     (1.0 / std::sqrt(static_cast<double>(width)));
  const auto k_sE = k_SKE.select(1, tile.head).narrow(0, 0, visible);
  const auto v_sE = v_SKE.select(1, tile.head).narrow(0, 0, visible);
  auto scores = at::mm(q_tGE.reshape({tile.count * group, width}), k_sE.t())
                    .view({tile.count, group, visible});
  if (tile.count > 1) {
    const auto future_ts = at::ones({tile.count, visible}, at::kBool).triu(before + 1);
    scores.masked_fill_(future_ts.unsqueeze(1), -std::numeric_limits<float>::infinity());
  }
  const auto weights = at::softmax(scores, -1).view({tile.count * group, visible});
  return at::mm(weights, v_sE).view({tile.count, group, width});
}

}  // namespace

std::vector<at::Tensor> Backend::linears(const at::Tensor& x_TI,
                                         std::initializer_list<const WeightMatrix*> weights) const {
  std::vector<at::Tensor> results;
  for (const WeightMatrix* weight : weights) results.push_back(linear(x_TI, *weight));
  return results;
}

at::Tensor Backend::rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps) const {
  return x * at::rsqrt(x.square().mean(-1, /*keepdim=*/true) + eps) * weight;
}

at::Tensor Backend::apply_rope(const at::Tensor& x_THE, const at::Tensor& cos_TE,
                               const at::Tensor& sin_TE) const {
  const std::int64_t half = x_THE.size(2) / 2;
  const auto rotated = at::cat({-x_THE.narrow(2, half, half), x_THE.narrow(2, 0, half)}, 2);
  return x_THE * cos_TE.unsqueeze(1) + rotated * sin_TE.unsqueeze(1);
}

at::Tensor Backend::attention(const at::Tensor& q_THE, const at::Tensor& k_SKE,
                              const at::Tensor& v_SKE) const {
  QF_CHECK(q_THE.dim() == 3 && k_SKE.dim() == 3 && v_SKE.sizes() == k_SKE.sizes() &&
               k_SKE.size(1) > 0 && q_THE.size(1) % k_SKE.size(1) == 0 &&
               q_THE.size(2) == k_SKE.size(2) && k_SKE.size(0) >= q_THE.size(0),
           "attention: expected q [T, H, E] and k, v [S, K, E] with S >= T and H a multiple of K, "
           "got {}, {} and {}",
           text(q_THE), text(k_SKE), text(v_SKE));
  const std::int64_t tokens = q_THE.size(0);
  const std::int64_t heads = k_SKE.size(1);
  const std::int64_t group = q_THE.size(1) / heads;
  const std::int64_t tiles = (tokens + kAttentionTile - 1) / kAttentionTile;
  auto out_THE = at::empty(q_THE.sizes(), at::kFloat);
  parallel_chunks(heads * tiles, 1, [&](std::int64_t task, std::int64_t) {
    const std::int64_t first = task / heads * kAttentionTile;
    const AttentionTile tile{task % heads, first, std::min(kAttentionTile, tokens - first)};
    out_THE.narrow(0, first, tile.count)
        .narrow(1, tile.head * group, group)
        .copy_(attend(q_THE, k_SKE, v_SKE, tile));
  });
  return out_THE;
}

at::Tensor Backend::swiglu(const at::Tensor& gate, const at::Tensor& up) const {
  return at::silu(gate) * up;
}

at::Tensor Backend::add(const at::Tensor& a, const at::Tensor& b) const { return a + b; }

at::Tensor Backend::embed(const at::Tensor& ids_T, const WeightMatrix& weight) const {
  return weight.gather_rows(ids_T);
}

const std::vector<std::string_view>& backend_names() {
  static const std::vector<std::string_view> kNames =
      no_cuda_reason().empty() ? std::vector<std::string_view>{"reference", "cpu", "cuda"}
                               : std::vector<std::string_view>{"reference", "cpu"};
  return kNames;
}

std::string_view default_backend_name() { return no_cuda_reason().empty() ? "cuda" : "cpu"; }

ComputeDtype default_dtype(std::string_view backend) {
  return backend == "cuda" ? ComputeDtype::kF16 : ComputeDtype::kF32;
}

std::string_view dtype_name(ComputeDtype dtype) {
  switch (dtype) {
    case ComputeDtype::kF32:
      return "fp32";
    case ComputeDtype::kF16:
      return "fp16";
    case ComputeDtype::kBF16:
      return "bf16";
  }
  return "";
}

at::ScalarType scalar_type(ComputeDtype dtype) {
  switch (dtype) {
    case ComputeDtype::kF32:
      return at::kFloat;
    case ComputeDtype::kF16:
      return at::kHalf;
    case ComputeDtype::kBF16:
      return at::kBFloat16;
  }
  return at::kFloat;
}

std::string_view linear_mode_name(LinearMode mode) {
  switch (mode) {
    case LinearMode::kW4A16:
      return "w4a16";
    case LinearMode::kW4A4:
      return "w4a4";
    case LinearMode::kReference:
      return "reference";
  }
  return "";
}

std::unique_ptr<Backend> make_backend(std::string_view name, ComputeDtype dtype,
                                      LinearMode linear) {
  if (name == "cuda") {
    if (!no_cuda_reason().empty()) {
      fail(ExitCode::kUsage, "backend 'cuda': {}; this machine has {} (--backend)",
           no_cuda_reason(), fmt::join(backend_names(), ", "));
    }
    auto backend = make_cuda_backend(dtype, linear);
    watch_device_memory();
    return backend;
  }
  // ReferenceBackend multiplies as kReference whatever is asked: its kW4A16 is the same.
  std::unique_ptr<Backend> backend;
  if (name == "reference") backend = std::make_unique<ReferenceBackend>();
  const bool emulated = linear == LinearMode::kW4A4;
  if (name == "cpu") {
    backend = std::make_unique<CpuBackend>(best_cpu_isa(), emulated ? LinearMode::kW4A16 : linear);
  }
  if (backend == nullptr) {
    fail(ExitCode::kUsage, "unknown backend '{}': this build has {} (--backend)", name,
         fmt::join(backend_names(), ", "));
  }
  if (dtype == ComputeDtype::kF32 && !emulated) return backend;
  return std::make_unique<EmulatedBackend>(std::move(backend), dtype,
                                           emulated ? linear : LinearMode::kW4A16);
}

std::unique_ptr<Backend> make_backend(std::string_view name) {
  return make_backend(name, default_dtype(name));
}

}  // namespace qf
