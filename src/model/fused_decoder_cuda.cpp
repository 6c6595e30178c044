#include <ATen/ATen.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <array>
#include <chrono>
#include <thread>
#include <utility>

#include "graph_decoder.h"
#include "qwen3fp4/backend/cuda_support.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/kernels/cuda/decode_step.h"
#include "qwen3fp4/kernels/nf4_table.h"
#include "qwen3fp4/model/fused_decoder.h"
#include "qwen3fp4/model/rope.h"
#include "token_chooser.h"

namespace qf {
namespace {

// Half a second at a GPU's clock: a step takes a hundredth of that.
constexpr std::int64_t kSpinLimitCycles = 1'000'000'000;

cuda::DecodeMatrix matrix(const WeightMatrix& weight) {
  return {weight.codes().const_data_ptr<std::uint8_t>(), weight.global_scale()};
}

const float* norm_data(const at::Tensor& norm) {
  return norm.defined() ? norm.const_data_ptr<float>() : nullptr;
}

// Why the kernel cannot run this model, or nothing.
std::string obstacle(const Qwen3Model& model, const KvCache& cache) {
  if (!model.backend().device().is_cuda()) return "the backend is not cuda";
  const at::ScalarType cached = cache.keys().scalar_type();
  if (cached != at::kHalf && cached != at::kFloat8_e4m3fn) {
    return fmt::format("keys and values are cached in {}, neither fp16 nor fp8",
                       kv_type_name(cached));
  }
  // Its activations are closer than fp16, but not fp32.
  if (cache.read_type() == at::kFloat) return "--dtype is fp32";
  if (model.layers().size() > static_cast<std::size_t>(cuda::kDecodeMaxLayers)) {
    return fmt::format("the model has more than {} layers", cuda::kDecodeMaxLayers);
  }
  const auto not_streamed = [&](const WeightMatrix& weight, std::string_view name) {
    if (!weight.streamed()) {
      return fmt::format("{} is {}, not NVFP4 or NF4 in the stream layout", name,
                         weight_format_name(weight.format()));
    }
    return weight.format() == model.lm_head().format()
               ? std::string()
               : fmt::format("{} is packed otherwise than lm_head", name);
  };
  for (const DecoderLayer& layer : model.layers()) {
    for (const std::string_view name : kLayerLinears) {
      const std::string reason = not_streamed(weight_of(layer, name), name);
      if (!reason.empty()) return reason;
    }
  }
  if (model.embed_tokens().format() != WeightFormat::kBF16) {
    return fmt::format("the embedding is {}, not bf16",
                       weight_format_name(model.embed_tokens().format()));
  }
  return not_streamed(model.lm_head(), "lm_head");
}

cuda::DecodeModel decode_model(const Qwen3Model& model, const KvCache& cache,
                               const at::Tensor& cos_SE, const at::Tensor& sin_SE) {
  const ModelConfig& config = model.config();
  cuda::DecodeModel m{};
  m.layers = static_cast<std::int32_t>(config.num_hidden_layers);
  m.hidden = static_cast<std::int32_t>(config.hidden_size);
  m.intermediate = static_cast<std::int32_t>(config.intermediate_size);
  m.heads = static_cast<std::int32_t>(config.num_attention_heads);
  m.kv_heads = static_cast<std::int32_t>(config.num_key_value_heads);
  m.head_dim = static_cast<std::int32_t>(config.head_dim);
  m.vocab = static_cast<std::int32_t>(config.vocab_size);
  m.rms_norm_eps = static_cast<float>(config.rms_norm_eps);
  m.embed_tokens = device_data<const __nv_bfloat16>(model.embed_tokens().dense_values());
  m.norm = norm_data(model.norm());
  m.lm_head = matrix(model.lm_head());
  m.rope_cos = norm_data(cos_SE);
  m.rope_sin = norm_data(sin_SE);
  m.keys = cache.keys().data_ptr();
  m.values = cache.values().data_ptr();
  if (cache.key_scales().defined()) {
    m.key_scales = cache.key_scales().data_ptr<float>();
    m.value_scales = cache.value_scales().data_ptr<float>();
  }
  m.context = cache.context();
  m.nf4 = model.lm_head().format() == WeightFormat::kNf4;
  if (m.nf4) m.nf4_table = papers_nf4_table();  // the one that the weights are packed with
  for (std::size_t i = 0; i < model.layers().size(); ++i) {
    const DecoderLayer& layer = model.layers()[i];
    m.layer[i] = {matrix(layer.q_proj),
                  matrix(layer.k_proj),
                  matrix(layer.v_proj),
                  matrix(layer.o_proj),
                  matrix(layer.gate_proj),
                  matrix(layer.up_proj),
                  matrix(layer.down_proj),
                  norm_data(layer.input_layernorm),
                  norm_data(layer.post_attention_layernorm),
                  norm_data(layer.q_norm),
                  norm_data(layer.k_norm)};
  }
  return m;
}

class CudaFusedDecoder final : public FusedDecoder {
 public:
  CudaFusedDecoder(const Qwen3Model& model, KvCache& cache, const std::vector<bool>& allowed)
      : cache_(cache),
        chooser_(allowed, cache.context(), model.backend().device()),
        reports_(2),
        done_{make_event(), make_event()} {
    const ModelConfig& config = model.config();
    const auto device = model.backend().device();
    const auto tables = rope_tables(config, rope_inverse_frequencies(config), 0, cache.context());
    const auto half = [&](const at::Tensor& table_SE) {
      return table_SE.narrow(1, 0, config.head_dim / 2).contiguous().to(device);
    };
    cos_ = half(tables.first);
    sin_ = half(tables.second);
    model_ = decode_model(model, cache, cos_, sin_);
    allowed_ = device_id_set(allowed, device);
    logits_ = at::empty({2, 1, config.vocab_size}, at::device(device).dtype(at::kFloat));
    tokens_ = at::zeros({2}, at::device(device).dtype(at::kInt));
    status_ = at::zeros({4}, at::device(device).dtype(at::kInt));
  }

  // The plan's status, for make() to explain.
  [[nodiscard]] cudaError_t plan() {
    const cudaError_t status = cuda::decode_plan(model_, plan_);
    if (status == cudaSuccess) {
      workspace_ = at::zeros({plan_.workspace_bytes}, status_.options().dtype(at::kByte));
    }
    return status;
  }

  CudaFusedDecoder(const CudaFusedDecoder&) = delete;
  CudaFusedDecoder& operator=(const CudaFusedDecoder&) = delete;
  // A step that runs ahead may still be under way.
  ~CudaFusedDecoder() override { (void)cudaStreamSynchronize(current_stream()); }

  [[nodiscard]] std::string_view description() const override { return "one kernel a token"; }

  void begin_sampling(const SampleRule& rule, std::span<const double> draws,
                      std::span<const std::int64_t> repeated) override {
    chooser_.begin(rule, draws, repeated);
    ahead_ = false;
  }

  [[nodiscard]] Result step(std::int64_t token, bool ahead) override {
    const std::int64_t position = cache_.length();
    cache_.check_room(1);
    if (!ahead_ || ahead_position_ != position || ahead_token_ != token) {
      set_token(token);
      launch(position, device_data<const std::uint32_t>(tokens_));
    }
    const std::uint32_t number = next_number_ - 1;
    ahead_ = ahead && position + 1 < cache_.context();
    // The step's own choice, where the device leaves it.
    if (ahead_) {
      launch(position + 1, greedy() ? device_data<const std::uint32_t>(status_) : chooser_.token());
    }
    const cuda::DecodeReport report = wait_for(number);
    if (report.hung != 0) {
      fail(ExitCode::kUnreadable,
           "CUDA: the decode step made no progress in phase {} of {} (5 a layer) and gave up",
           report.hung - 1, 5 * model_.layers + 1);
    }
    cache_.advance(1);
    shown_ = number % 2;
    Result result{static_cast<std::int64_t>(report.token), report.non_finite == 0, 0};
    if (!greedy()) {
      check_cuda(cudaEventSynchronize(done_[number % 2].get()), "choice of a token");
      const cuda::SampleState chosen = chooser_.report(number % 2);
      result.token = static_cast<std::int64_t>(chosen.token);
      result.finite = result.finite && chosen.status == SampleStatus::kChosen;
      result.draws_used = chosen.draws_used;
    }
    ahead_position_ = position + 1;
    ahead_token_ = result.token;
    return result;
  }

  [[nodiscard]] at::Tensor logits() const override { return logits_[shown_]; }

 private:
  // The kernel's own choice is enough.
  [[nodiscard]] bool greedy() const { return chooser_.rule() == kGreedyRule; }
  void set_token(std::int64_t token) { tokens_.fill_(static_cast<std::int32_t>(token)); }

  void launch(std::int64_t position, const std::uint32_t* token) {
    const std::uint32_t slot = next_number_ % 2;
    cuda::DecodeStep step{};
    step.token = token;
    step.position = position;
    step.logits = logits_[slot].mutable_data_ptr<float>();
    step.allowed = device_data<const std::uint32_t>(allowed_);
    step.status = device_data<cuda::DecodeStatus>(status_);
    step.report = reports_.get() + slot;
    step.workspace = workspace_.mutable_data_ptr<std::uint8_t>();
    step.number = next_number_++;
    step.spin_limit_cycles = kSpinLimitCycles;
    check_cuda(cuda::decode_step(model_, plan_, step, current_stream()), "decode step");
    if (greedy()) return;
    chooser_.choose(step.logits, slot, current_stream());
    check_cuda(cudaEventRecord(done_[slot].get(), current_stream()), "choice of a token");
  }

  // The report of a step, which the device writes while the host watches.
  [[nodiscard]] cuda::DecodeReport wait_for(std::uint32_t number) const {
    const volatile cuda::DecodeReport* const report = reports_.get() + number % 2;
    for (std::int64_t reads = 1; report->done != number + 1; ++reads) {
      // A kernel that failed writes nothing more.
      if (reads % 4096 == 0) {
        const cudaError_t status = cudaStreamQuery(current_stream());
        if (status != cudaSuccess && status != cudaErrorNotReady) check_cuda(status, "decode step");
      }
    }
    return {report->token, report->non_finite, report->hung, report->done};
  }

  KvCache& cache_;
  TokenChooser chooser_;
  cuda::DecodeModel model_{};
  cuda::DecodePlan plan_;
  at::Tensor cos_, sin_;  // [context, head_dim / 2]
  at::Tensor allowed_;    // bit per id
  at::Tensor logits_;     // [2, 1, vocab], by the step's number
  at::Tensor tokens_;     // the token that the host gives
  at::Tensor status_;     // cuda::DecodeStatus
  at::Tensor workspace_;
  Pinned<cuda::DecodeReport> reports_;  // 2, by the step's number
  std::array<Event, 2> done_;           // of sampled steps, by their number
  std::uint32_t next_number_ = 0;
  std::uint32_t shown_ = 0;
  bool ahead_ = false;  // the last launch runs `ahead_token_` at `ahead_position_`
  std::int64_t ahead_position_ = 0;
  std::int64_t ahead_token_ = 0;
};

std::unique_ptr<FusedDecoder> make_kernel_decoder(const Qwen3Model& model, KvCache& cache,
                                                  const std::vector<bool>& allowed,
                                                  std::string& why_not) {
  why_not = obstacle(model, cache);
  if (!why_not.empty()) return nullptr;
  auto decoder = std::make_unique<CudaFusedDecoder>(model, cache, allowed);
  const cudaError_t status = decoder->plan();
  if (status == cudaSuccess) return decoder;
  (void)cudaGetLastError();
  if (status == cudaErrorInvalidValue) {
    why_not = "the kernel does not take this model's shape";
    return nullptr;
  }
  check_cuda(status, "plan of the decode step");
  return nullptr;
}

}  // namespace

std::unique_ptr<FusedDecoder> FusedDecoder::make(const Qwen3Model& model, KvCache& cache,
                                                 const std::vector<bool>& allowed,
                                                 std::string& why_not) {
  const Backend& backend = model.backend();
  if (backend.device().is_cuda() && backend.linear_mode() != LinearMode::kW4A16) {
    why_not = fmt::format("decode kernel and graph multiply as w4a16, not as {}",
                          linear_mode_name(backend.linear_mode()));
    return nullptr;
  }
  auto decoder = make_kernel_decoder(model, cache, allowed, why_not);
  if (decoder == nullptr) decoder = make_graph_decoder(model, cache, allowed, why_not);
  return decoder;
}

}  // namespace qf
