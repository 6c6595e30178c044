#include <ATen/ATen.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <array>
#include <memory>
#include <utility>

#include "graph_decoder.h"
#include "qwen3fp4/backend/cuda_support.h"
#include "qwen3fp4/kernels/cuda/linear.h"
#include "qwen3fp4/kernels/cuda/operations.h"
#include "qwen3fp4/kernels/cuda/token_step.h"
#include "qwen3fp4/model/rope.h"
#include "token_chooser.h"

namespace qf {
namespace {

using GraphExec =
    std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>,
                    decltype([](cudaGraphExec_t exec) { (void)cudaGraphExecDestroy(exec); })>;
bool is_packed(const WeightMatrix& weight) {
  return weight.format() == WeightFormat::kNvfp4 || weight.format() == WeightFormat::kNf4;
}

// Why kernels/cuda/token_step.h cannot take this weight, or nothing.
std::string obstacle(const WeightMatrix& weight, std::string_view name) {
  if (!is_packed(weight)) {
    return fmt::format("{} is {}, neither NVFP4 nor NF4", name,
                       weight_format_name(weight.format()));
  }
  if (weight.in_features() % 16 != 0) {
    return fmt::format("{} has {} columns, no multiple of 16", name, weight.in_features());
  }
  if (weight.format() == WeightFormat::kNf4 && !weight.streamed() &&
      weight.nf4_view().block % 16 != 0) {
    return fmt::format("{} has blocks of {}, no multiple of 16", name, weight.nf4_view().block);
  }
  return {};
}

// Kernels take matrices of one input together: they must be alike.
bool alike(const WeightMatrix& a, const WeightMatrix& b) {
  return a.format() == b.format() && a.streamed() == b.streamed() &&
         (a.format() != WeightFormat::kNf4 || at::equal(a.code_book(), b.code_book()));
}

std::string obstacle(const Qwen3Model& model) {
  const ModelConfig& config = model.config();
  if (!model.backend().device().is_cuda()) return "the backend is not cuda";
  constexpr std::array<std::int64_t, 5> kHeadDims{32, 64, 96, 128, 256};
  if (std::find(kHeadDims.begin(), kHeadDims.end(), config.head_dim) == kHeadDims.end() ||
      config.num_attention_heads > 8 * config.num_key_value_heads) {
    return "the attention kernel does not take this model's heads";
  }
  if (is_packed(model.embed_tokens())) return "the embedding is packed";
  for (const DecoderLayer& layer : model.layers()) {
    for (const std::string_view name : kLayerLinears) {
      const std::string reason = obstacle(weight_of(layer, name), name);
      if (!reason.empty()) return reason;
    }
    if (!alike(layer.q_proj, layer.k_proj) || !alike(layer.q_proj, layer.v_proj) ||
        !alike(layer.gate_proj, layer.up_proj)) {
      return "linears of one input are packed differently";
    }
  }
  return obstacle(model.lm_head(), "lm_head");
}

cuda::TokenMatrix token_matrix(const WeightMatrix& weight) {
  cuda::TokenMatrix matrix{};
  if (weight.format() == WeightFormat::kNf4) {
    matrix.nf4 = weight.nf4_view();
  } else {
    matrix.nvfp4 = weight.nvfp4_view();
  }
  return matrix;
}

struct Product {
  const WeightMatrix* weight;
  float* y;
};

// Everything a step reads and writes beside the model and the cache.
struct Buffers {
  Buffers(const ModelConfig& config, const at::TensorOptions& f32)
      : x(at::empty({config.hidden_size}, f32)),
        normed(at::empty({config.hidden_size}, f32)),
        q(at::empty({config.num_attention_heads * config.head_dim}, f32)),
        k(at::empty({config.num_key_value_heads * config.head_dim}, f32)),
        v(at::empty_like(k)),
        attended(at::empty_like(q)),
        branch(at::empty({config.hidden_size}, f32)),
        gate(at::empty({config.intermediate_size}, f32)),
        up(at::empty_like(gate)),
        partial(at::empty(
            {cuda::token_attention_floats(config.num_attention_heads, config.head_dim)}, f32)),
        logits(at::empty({2, 1, config.vocab_size}, f32)),
        token(at::zeros({static_cast<std::int64_t>(sizeof(cuda::TokenState))},
                        f32.dtype(at::kByte))) {}
  at::Tensor x, normed, q, k, v, attended, branch, gate, up, partial;
  at::Tensor logits;  // [2, 1, vocab], by the step's number
  at::Tensor token;   // cuda::TokenState
};

float* data(const at::Tensor& t) { return device_data<float>(t); }

// The launches of one step, in order. T: the cache's type.
template <class T>
class TokenPass {
 public:
  TokenPass(const Qwen3Model& model, const KvCache& cache, const Buffers& buffers,
            const at::Tensor& cos_SE, const at::Tensor& sin_SE, cudaStream_t stream)
      : model_(model), cache_(cache), b_(buffers), cos_(cos_SE), sin_(sin_SE), stream_(stream) {}

  void run(float* logits) const {
    embed();
    const float* addend = nullptr;
    for (std::int64_t i = 0; i < model_.config().num_hidden_layers; ++i) {
      const DecoderLayer& layer = model_.layers()[static_cast<std::size_t>(i)];
      norm(addend, layer.input_layernorm);
      linear(
          {{&layer.q_proj, data(b_.q)}, {&layer.k_proj, data(b_.k)}, {&layer.v_proj, data(b_.v)}},
          b_.normed);
      attention(layer, i);
      linear({{&layer.o_proj, data(b_.branch)}}, b_.attended);
      norm(data(b_.branch), layer.post_attention_layernorm);
      swiglu(layer);
      linear({{&layer.down_proj, data(b_.branch)}}, b_.gate);
      addend = data(b_.branch);
    }
    norm(addend, model_.norm());
    linear({{&model_.lm_head(), logits}}, b_.normed);
  }

 private:
  [[nodiscard]] const cuda::TokenState* state() const {
    return device_data<const cuda::TokenState>(b_.token);
  }

  void embed() const {
    const at::Tensor& table = model_.embed_tokens().dense_values();
    const std::int64_t hidden = model_.config().hidden_size;
    const auto run = [&](const auto* values) {
      check_cuda(cuda::embed_token(values, hidden, state(), data(b_.x), stream_), "embedding");
    };
    if (table.scalar_type() == at::kFloat) {
      run(device_data<const float>(table));
    } else if (table.scalar_type() == at::kHalf) {
      run(device_data<const __half>(table));
    } else {
      run(device_data<const __nv_bfloat16>(table));
    }
  }

  // x += addend; normed = RMSNorm(x).
  void norm(const float* addend, const at::Tensor& weight) const {
    const ModelConfig& config = model_.config();
    check_cuda(cuda::add_rms_norm(
                   {data(b_.x), addend, data(weight), static_cast<float>(config.rms_norm_eps),
                    config.hidden_size, data(b_.normed)},
                   stream_),
               "norm");
  }

  void linear(std::initializer_list<Product> products, const at::Tensor& x) const {
    if (products.begin()->weight->streamed()) {
      for (const Product& p : products) {
        check_cuda(linear_stream(*p.weight, {data(x), p.y, 1}), "product");
      }
      return;
    }
    check_cuda(cuda::linear_token(token_linear(products, x), stream_), "product");
  }

  cudaError_t linear_stream(const WeightMatrix& weight,
                            const cuda::LinearOperands& operands) const {
    const auto* const chunks = device_data<const std::uint8_t>(weight.codes());
    if (weight.format() == WeightFormat::kNf4) {
      return cuda::linear_stream(cuda::StreamNf4View{chunks, data(weight.code_book()),
                                                     weight.out_features(), weight.in_features()},
                                 operands, stream_);
    }
    return cuda::linear_stream(cuda::StreamView{chunks, weight.global_scale(),
                                                weight.out_features(), weight.in_features()},
                               operands, stream_);
  }

  static cuda::TokenLinear token_linear(std::initializer_list<Product> products,
                                        const at::Tensor& x) {
    cuda::TokenLinear linear{};
    for (const Product& p : products) {
      linear.matrix[linear.count] = token_matrix(*p.weight);
      linear.y[linear.count++] = p.y;
    }
    linear.x = data(x);
    return linear;
  }

  void attention(const DecoderLayer& layer, std::int64_t index) const {
    const ModelConfig& config = model_.config();
    cuda::TokenAttention<T> a{};
    a.heads = config.num_attention_heads;
    a.kv_heads = config.num_key_value_heads;
    a.head_dim = config.head_dim;
    a.context = cache_.context();
    a.keys = device_data<T>(cache_.keys().select(0, index));
    a.values = device_data<T>(cache_.values().select(0, index));
    if (cache_.key_scales().defined()) {
      a.key_scales = data(cache_.key_scales().select(0, index));
      a.value_scales = data(cache_.value_scales().select(0, index));
    }
    a.cos = data(cos_);
    a.sin = data(sin_);
    a.q_norm = layer.q_norm.defined() ? data(layer.q_norm) : nullptr;
    a.k_norm = layer.k_norm.defined() ? data(layer.k_norm) : nullptr;
    a.eps = static_cast<float>(config.rms_norm_eps);
    a.q = data(b_.q);
    a.k = data(b_.k);
    a.v = data(b_.v);
    a.partial = data(b_.partial);
    a.out = data(b_.attended);
    a.state = state();
    check_cuda(cuda::place_heads(a, stream_), "heads");
    check_cuda(cuda::attend_token(a, stream_), "attention");
  }

  // Leaves its result in `gate`.
  void swiglu(const DecoderLayer& layer) const {
    const std::initializer_list<Product> products{{&layer.gate_proj, data(b_.gate)},
                                                  {&layer.up_proj, data(b_.up)}};
    if (!layer.gate_proj.streamed()) {
      check_cuda(cuda::linear_swiglu_token(token_linear(products, b_.normed), stream_), "SwiGLU");
      return;
    }
    linear(products, b_.normed);
    check_cuda(cuda::swiglu(data(b_.gate), data(b_.up), model_.config().intermediate_size,
                            data(b_.gate), stream_),
               "SwiGLU");
  }

  const Qwen3Model& model_;
  const KvCache& cache_;
  const Buffers& b_;
  const at::Tensor &cos_, &sin_;
  cudaStream_t stream_;
};

class GraphDecoder final : public FusedDecoder {
 public:
  GraphDecoder(const Qwen3Model& model, KvCache& cache, const std::vector<bool>& allowed,
               const std::string& no_kernel)
      : description_(fmt::format("one graph a token ({})", no_kernel)),
        model_(model),
        cache_(cache),
        buffers_(model.config(), at::device(model.backend().device()).dtype(at::kFloat)),
        chooser_(allowed, cache.context(), model.backend().device()),
        given_(2),
        done_{make_event(), make_event()} {
    const ModelConfig& config = model.config();
    const auto tables = rope_tables(config, rope_inverse_frequencies(config), 0, cache.context());
    cos_ = tables.first.to(model.backend().device());
    sin_ = tables.second.to(model.backend().device());
  }

  GraphDecoder(const GraphDecoder&) = delete;
  GraphDecoder& operator=(const GraphDecoder&) = delete;
  // A step that runs ahead may still be under way.
  ~GraphDecoder() override { (void)cudaStreamSynchronize(current_stream()); }

  [[nodiscard]] std::string_view description() const override { return description_; }

  void begin_sampling(const SampleRule& rule, std::span<const double> draws,
                      std::span<const std::int64_t> repeated) override {
    if (rule != chooser_.rule()) graphs_ = {};
    chooser_.begin(rule, draws, repeated);
    ahead_ = false;
  }

  [[nodiscard]] Result step(std::int64_t token, bool ahead) override {
    const std::int64_t position = cache_.length();
    cache_.check_room(1);
    if (!ahead_ || ahead_position_ != position || ahead_token_ != token) {
      place(token, position);
      launch();
    }
    const std::uint32_t slot = (next_number_ - 1) % 2;
    ahead_ = ahead && position + 1 < cache_.context();
    if (ahead_) launch();
    check_cuda(cudaEventSynchronize(done_[slot].get()), "decode step");
    const cuda::SampleState report = chooser_.report(slot);
    cache_.advance(1);
    ahead_position_ = position + 1;
    ahead_token_ = report.token;
    shown_ = slot;
    return {static_cast<std::int64_t>(report.token), report.status == SampleStatus::kChosen,
            report.draws_used};
  }

  [[nodiscard]] at::Tensor logits() const override { return buffers_.logits[shown_]; }

 private:
  // Tells the device what to run; a step that runs ahead finds it there by itself.
  void place(std::int64_t token, std::int64_t position) {
    cuda::TokenState* const given = given_.get() + next_number_ % 2;
    *given = {position, static_cast<std::uint32_t>(token)};
    check_cuda(cudaMemcpyAsync(buffers_.token.data_ptr(), given, sizeof *given,
                               cudaMemcpyHostToDevice, current_stream()),
               "token");
  }

  void launch() {
    const std::uint32_t slot = next_number_++ % 2;
    if (graphs_[slot] == nullptr) graphs_[slot] = captured(slot);
    check_cuda(cudaGraphLaunch(graphs_[slot].get(), current_stream()), "decode step");
    check_cuda(cudaEventRecord(done_[slot].get(), current_stream()), "decode step");
  }

  [[nodiscard]] GraphExec captured(std::uint32_t slot) const {
    cudaStream_t stream = c10::cuda::getStreamFromPool().stream();
    check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
    cudaGraph_t graph{};
    try {
      record(slot, stream);
    } catch (...) {
      (void)cudaStreamEndCapture(stream, &graph);
      if (graph != nullptr) (void)cudaGraphDestroy(graph);
      throw;
    }
    check_cuda(cudaStreamEndCapture(stream, &graph), "capture");
    cudaGraphExec_t exec{};
    const cudaError_t status = cudaGraphInstantiate(&exec, graph, 0);
    (void)cudaGraphDestroy(graph);
    check_cuda(status, "decode graph");
    return GraphExec(exec);
  }

  void record(std::uint32_t slot, cudaStream_t stream) const {
    float* const logits = data(buffers_.logits[slot]);
    const auto run = [&](auto* tag) {
      using T = std::remove_pointer_t<decltype(tag)>;
      TokenPass<T>(model_, cache_, buffers_, cos_, sin_, stream).run(logits);
    };
    switch (cache_.keys().scalar_type()) {
      case at::kHalf:
        run(static_cast<__half*>(nullptr));
        break;
      case at::kBFloat16:
        run(static_cast<__nv_bfloat16*>(nullptr));
        break;
      case at::kFloat8_e4m3fn:
        run(static_cast<E4M3*>(nullptr));
        break;
      default:
        run(static_cast<float*>(nullptr));
    }
    chooser_.choose(logits, slot, stream);
    // The next step runs it unless the host gives it another token.
    check_cuda(cuda::advance_token(chooser_.token(), device_data<cuda::TokenState>(buffers_.token),
                                   stream),
               "choice of a token");
  }

  std::string description_;
  const Qwen3Model& model_;
  KvCache& cache_;
  Buffers buffers_;
  at::Tensor cos_, sin_;  // [context, head_dim]
  TokenChooser chooser_;
  Pinned<cuda::TokenState> given_;  // 2, by the step's number
  std::array<Event, 2> done_;
  std::array<GraphExec, 2> graphs_;  // captured when they are first launched
  std::uint32_t next_number_ = 0;
  std::uint32_t shown_ = 0;
  bool ahead_ = false;  // the last launch runs `ahead_token_` at `ahead_position_`
  std::int64_t ahead_position_ = 0;
  std::int64_t ahead_token_ = 0;
};

}  // namespace

std::unique_ptr<FusedDecoder> make_graph_decoder(const Qwen3Model& model, KvCache& cache,
                                                 const std::vector<bool>& allowed,
                                                 std::string& why_not) {
  const std::string no_kernel = std::exchange(why_not, obstacle(model));
  if (!why_not.empty()) return nullptr;
  return std::make_unique<GraphDecoder>(model, cache, allowed, no_kernel);
}

}  // namespace qf
