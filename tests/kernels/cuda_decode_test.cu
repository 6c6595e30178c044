// The decode step against its definition in double, layer by layer on the device's own inputs.
// Needs a GPU of compute capability 9.0 (label gpu).
#include <iostream>
#include <numeric>

#include "cuda_decode_model.h"
#include "qwen3fp4/kernels/cuda/dequantize.h"

namespace qf {
namespace {

bool on_hopper() {
  int major = 0;
  EXPECT_EQ(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), cudaSuccess);
  return major == 9;
}
#define QF_NEEDS_HOPPER() \
  if (!on_hopper()) GTEST_SKIP() << "the decode step is for compute capability 9.0"

constexpr std::int64_t kPatience = 1'000'000'000;  // cycles

// A model with what a step needs around it.
class Stepper {
 public:
  Stepper(const cuda::DecodeModel& model, bool keep_hidden)
      : model_(model),
        logits_(poison(model.vocab)),
        hidden_(std::vector<float>(
            static_cast<std::size_t>(keep_hidden ? model.layers * model.hidden : 1))),
        token_(std::vector<std::uint32_t>(1)),
        status_(std::vector<cuda::DecodeStatus>(1)) {
    EXPECT_EQ(cuda::decode_plan(model, plan_), cudaSuccess);
    workspace_ = std::make_unique<DeviceArray<std::uint8_t>>(
        std::vector<std::uint8_t>(static_cast<std::size_t>(plan_.workspace_bytes)));
    step_.token = token_.get();
    step_.logits = logits_.get();
    step_.hidden = keep_hidden ? hidden_.get() : nullptr;
    step_.status = status_.get();
    step_.workspace = workspace_->get();
    step_.spin_limit_cycles = kPatience;
  }
  cudaError_t run(std::int64_t position) {
    step_.position = position;
    const auto error = cuda::decode_step(model_, plan_, step_, nullptr);
    ++step_.number;
    return error;
  }
  void fill_workspace(const std::vector<std::uint8_t>& bytes) {
    EXPECT_EQ(cudaMemcpy(workspace_->get(), bytes.data(), bytes.size(), cudaMemcpyHostToDevice),
              cudaSuccess);
  }
  void set_token(std::uint32_t token) {
    EXPECT_EQ(cudaMemcpy(token_.get(), &token, sizeof token, cudaMemcpyHostToDevice), cudaSuccess);
  }
  cuda::DecodeStatus status() const { return status_.host().front(); }
  std::vector<float> logits() const { return logits_.host(); }
  std::vector<float> hidden() const { return hidden_.host(); }
  cuda::DecodeStep& step() { return step_; }
  const cuda::DecodePlan& plan() const { return plan_; }

 private:
  cuda::DecodeModel model_;
  cuda::DecodePlan plan_;
  cuda::DecodeStep step_{};
  DeviceArray<float> logits_;
  DeviceArray<float> hidden_;
  DeviceArray<std::uint32_t> token_;
  DeviceArray<cuda::DecodeStatus> status_;
  std::unique_ptr<DeviceArray<std::uint8_t>> workspace_;
};

double relative_l2(const std::vector<double>& got, const std::vector<double>& want,
                   const std::vector<double>& base) {
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    difference += (got[i] - want[i]) * (got[i] - want[i]);
    size += (want[i] - base[i]) * (want[i] - base[i]);
  }
  return std::sqrt(difference / size);
}

// Every x is off by at most 2^-12 of itself (three E4M3 terms round to 4 bits each), a product by
// as much of its sum of magnitudes, and four products follow each other in a layer: independent
// errors of relative size 2^-12 / sqrt(3) each, which norms and softmax at most double.
constexpr double kLayerBound = 4 * 2 * 0x1p-12;
// With NF4 x is within 2^-21 of its chunk's largest, which is some deviations, and levels are off
// by at most 2^-13.3 of the largest (Nf4Table.HoldsThePapersLevels): 2^-12.3 of what they are in
// the root mean square. So the same bound holds. The RMS of their errors is 2^-13.6 of theirs.
constexpr double kNf4Error = 0x1p-13;

void expect_step(const RandomDecodeModel& model, Stepper& stepper, std::uint32_t token,
                 std::int64_t position) {
  const DecodeShape& s = model.shape;
  stepper.set_token(token);
  if (model.fp8_cache) model.hide_from(position);
  ASSERT_EQ(stepper.run(position), cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  const auto status = stepper.status();
  ASSERT_EQ(status.hung, 0U);
  ASSERT_EQ(status.non_finite, 0U);
  const auto steps = stepper.hidden();
  const auto cache = model.cache();
  auto x = model.embedding(token);
  double worst = 0, newest = 0;
  for (int i = 0; i < s.layers; ++i) {
    const auto want = model.layer(i, x, position, cache, newest);
    std::vector<double> got;
    for (int j = 0; j < s.hidden; ++j) {
      got.push_back(steps[static_cast<std::size_t>(i * s.hidden + j)]);
    }
    const double error = relative_l2(got, want, x);
    worst = std::max(worst, error);
    ASSERT_LE(error, kLayerBound) << "layer " << i << " position " << position;
    x = got;  // the next layer is judged on what the device gave it
  }
  // A newest key or value: fp16's rounding and the product's error, of values of size 1. Among some
  // thousand values of NF4 there are some of five deviations.
  const double product = model.format == RandomFormat::kNf4 ? 5 * kNf4Error : 0x1p-12;
  EXPECT_LE(newest, 0x1p-11 + product) << "position " << position;
  const auto want = model.logits(x);
  const auto logits = stepper.logits();
  const double error = relative_l2(std::vector<double>(logits.begin(), logits.end()), want,
                                   std::vector<double>(want.size()));
  EXPECT_LE(error, 0x1p-11) << "logits, position " << position;
  EXPECT_EQ(status.token, std::max_element(logits.begin(), logits.end()) - logits.begin());
  std::cout << "hidden " << s.hidden << " position " << position << ": layer " << worst
            << ", newest " << newest << ", logits " << error << "\n";
}

const DecodeShape kSmollm{2, 576, 1536, 9, 3, 64, 1003, false, 300};
const DecodeShape kTiny{3, 256, 512, 4, 2, 128, 77, true, 2200};
const DecodeShape kRagged{2, 272, 752, 3, 3, 64, 130, true, 200};
const DecodeShape kWideGroup{1, 5120, 2048, 64, 8, 128, 500, true, 200};
const DecodeShape kOneLayer4B{1, 2560, 9728, 32, 8, 128, 4096, true, 5000};
const DecodeShape kOneLayer06B{2, 1024, 3072, 16, 8, 128, 2000, true, 200};
const DecodeShape kOneLayer32B{1, 5120, 25600, 64, 8, 128, 300, true, 70};
const DecodeShape kRaggedNf4{2, 320, 704, 3, 3, 64, 130, true, 200};

void expect_steps(RandomFormat format, const std::vector<DecodeShape>& shapes) {
  for (const DecodeShape& shape : shapes) {
    const RandomDecodeModel model(shape, format);
    Stepper stepper(model.device(), true);
    for (const std::int64_t position : {0, 1, 2, 63, 64, 129, 1700, 4999}) {
      if (position >= shape.context) continue;
      const std::uint32_t token = random_source()() % static_cast<unsigned>(shape.vocab);
      ASSERT_NO_FATAL_FAILURE(expect_step(model, stepper, token, position));
    }
  }
}

TEST(CudaDecode, EqualsTheDefinition) {
  QF_NEEDS_HOPPER();
  expect_steps(RandomFormat::kNvfp4,
               {kTiny, kSmollm, kRagged, kOneLayer06B, kOneLayer4B, kWideGroup, kOneLayer32B});
}

TEST(CudaDecode, EqualsTheDefinitionOfNf4) {
  QF_NEEDS_HOPPER();
  expect_steps(RandomFormat::kNf4,
               {kTiny, kSmollm, kRaggedNf4, kOneLayer06B, kOneLayer4B, kWideGroup, kOneLayer32B});
}

// What the definition reads of the newest token is what the step left in the cache: at position 0
// attention is that value alone, so that a step which attended to more exact numbers would show.
TEST(CudaDecode, EqualsTheDefinitionWithKeysAndValuesInFp8) {
  QF_NEEDS_HOPPER();
  for (const DecodeShape& shape :
       {kTiny, kSmollm, kRagged, kOneLayer06B, kOneLayer4B, kWideGroup}) {
    const RandomDecodeModel model(shape, RandomFormat::kNvfp4, true);
    Stepper stepper(model.device(), true);
    // Slots hold 32 or 64 tokens, batches half of them, scales come by four.
    for (const std::int64_t position :
         {0, 1, 2, 3, 5, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 97, 129, 1700, 2199, 4999}) {
      if (position >= shape.context) continue;
      const std::uint32_t token = random_source()() % static_cast<unsigned>(shape.vocab);
      ASSERT_NO_FATAL_FAILURE(expect_step(model, stepper, token, position));
    }
  }
}

TEST(CudaDecode, GivesTheSameBitsInEveryRun) {
  QF_NEEDS_HOPPER();
  for (const auto& [format, fp8] :
       {std::pair{RandomFormat::kNvfp4, false}, std::pair{RandomFormat::kNvfp4, true},
        std::pair{RandomFormat::kNf4, true}}) {
    const RandomDecodeModel model(kTiny, format, fp8);
    std::vector<float> first;
    for (int run = 0; run < 20; ++run) {
      Stepper stepper(model.device(), false);
      for (const std::int64_t position : {0, 1, 2, 3, 1000}) {
        stepper.set_token(static_cast<std::uint32_t>(position % 77));
        ASSERT_EQ(stepper.run(position), cudaSuccess);
      }
      const auto logits = stepper.logits();
      if (run == 0) first = logits;
      ASSERT_TRUE(same_bits(first, logits)) << run;
    }
  }
}

TEST(CudaDecode, ACachedRowThatIsNotFiniteStopsTheRun) {
  QF_NEEDS_HOPPER();
  const RandomDecodeModel model(kTiny, RandomFormat::kNvfp4, true);
  Stepper stepper(model.device(), false);
  stepper.set_token(1);
  model.hide_from(0);  // NaN, and the step reads the first token
  ASSERT_EQ(stepper.run(1), cudaSuccess);
  EXPECT_EQ(stepper.status().non_finite, 1U + 2) << "o reads what layer 0 attended to";
}

TEST(CudaDecode, ChoosesAmongAllowedIdsOnly) {
  QF_NEEDS_HOPPER();
  const RandomDecodeModel model(kTiny);
  Stepper stepper(model.device(), false);
  std::vector<std::uint32_t> mask(3, 0);
  for (const unsigned id : {5U, 40U, 76U}) mask[id / 32] |= 1U << (id % 32);
  const DeviceArray<std::uint32_t> allowed(mask);
  stepper.step().allowed = allowed.get();
  stepper.set_token(3);
  ASSERT_EQ(stepper.run(0), cudaSuccess);
  const auto logits = stepper.logits();
  std::uint32_t want = 5;
  for (const std::uint32_t id : {40U, 76U}) {
    if (logits[id] > logits[want]) want = id;
  }
  EXPECT_EQ(stepper.status().token, want);
}

TEST(CudaDecode, NamesThePhaseWhereValuesStopBeingFinite) {
  QF_NEEDS_HOPPER();
  for (const auto format : {RandomFormat::kNvfp4, RandomFormat::kNf4}) {
    const RandomDecodeModel model(kTiny, format, false, 1);
    Stepper stepper(model.device(), false);
    stepper.set_token(1);
    ASSERT_EQ(stepper.run(0), cudaSuccess);
    // The NaN scale is in layer 1's gate_proj; the down phase reads the product.
    EXPECT_EQ(stepper.status().non_finite, 1U + 5 * 1 + 4);
  }
}

TEST(CudaDecode, EndsWithAReportWhereAValueNeverComes) {
  QF_NEEDS_HOPPER();
  const RandomDecodeModel model(kTiny);
  Stepper stepper(model.device(), false);
  stepper.step().spin_limit_cycles = 100'000'000;
  // The stream has an addition too many, so that no word ever has the count that is waited for.
  std::vector<std::uint8_t> ones(static_cast<std::size_t>(stepper.plan().workspace_bytes), 1);
  stepper.fill_workspace(ones);
  ASSERT_EQ(stepper.run(0), cudaSuccess);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_NE(stepper.status().hung, 0U);
}

TEST(CudaDecode, RefusesWhatItCannotDo) {
  QF_NEEDS_HOPPER();
  const RandomDecodeModel model(kTiny);
  cuda::DecodePlan plan;
  const auto refused = [&](const auto& change) {
    cuda::DecodeModel m = model.device();
    change(m);
    return cuda::decode_plan(m, plan) == cudaErrorInvalidValue;
  };
  EXPECT_FALSE(refused([](cuda::DecodeModel&) {}));
  EXPECT_TRUE(refused([](cuda::DecodeModel& m) { m.head_dim = 96; }));
  EXPECT_TRUE(refused([](cuda::DecodeModel& m) { m.heads = 3; }));
  EXPECT_TRUE(refused([](cuda::DecodeModel& m) { m.hidden = 40; }));
  EXPECT_TRUE(refused([](cuda::DecodeModel& m) { m.hidden = 8192; }));
  EXPECT_TRUE(refused([](cuda::DecodeModel& m) { m.layers = 65; }));
  EXPECT_TRUE(refused([](cuda::DecodeModel& m) {
    m.nf4 = true;
    m.hidden = 272;
  }));
  float scale = 0;
  EXPECT_TRUE(refused([&](cuda::DecodeModel& m) { m.key_scales = &scale; }));
  Stepper stepper(model.device(), false);
  EXPECT_EQ(stepper.run(kTiny.context), cudaErrorInvalidValue);
  EXPECT_EQ(stepper.run(-1), cudaErrorInvalidValue);
}

// A range of rows in a 16-bit type: `all` rounded.
template <class Type, class View>
void expect_rows(const View& stream, const std::vector<float>& all) {
  const std::int64_t first = stream.rows / 3;
  const std::int64_t count = stream.rows - first - (stream.rows > 5 ? 2 : 0);
  const DeviceArray<Bits16> rows(poison_bits(count * stream.cols));
  ASSERT_EQ(cuda::dequantize_stream(stream, {first, count}, device_values<Type>(rows), nullptr),
            cudaSuccess);
  const auto begin = all.begin() + first * stream.cols;
  const std::vector<float> expected(begin, begin + count * stream.cols);
  EXPECT_EQ(rows.host(), narrowed<Type>(expected)) << Type::kName;
}

TEST(CudaStreamLayout, HoldsTheSameWeights) {
  for (const Shape& shape : {Shape{1, 16}, Shape{64, 256}, Shape{65, 272}, Shape{200, 576},
                             Shape{257, 1008}, Shape{1024, 2560}}) {
    const auto codes = random_bytes(shape.rows * shape.cols / 2);
    const auto scales = random_bytes(shape.rows * shape.cols / 16, true);
    const DeviceArray<std::uint8_t> device_codes(codes), device_scales(scales);
    const Nvfp4View view{device_codes.get(), device_scales.get(), nullptr, 0.0123F,
                         shape.rows,         shape.cols};
    const DeviceArray<std::uint8_t> chunks(std::vector<std::uint8_t>(
        static_cast<std::size_t>(cuda::stream_bytes(shape.rows, shape.cols)), 0xA5));
    const DeviceArray<float> want(poison(shape.rows * shape.cols)),
        got(poison(shape.rows * shape.cols));
    ASSERT_EQ(cuda::pack_stream(view, chunks.get(), nullptr), cudaSuccess);
    ASSERT_EQ(cuda::dequantize_nvfp4(view, want.get(), nullptr), cudaSuccess);
    const cuda::StreamView stream{chunks.get(), 0.0123F, shape.rows, shape.cols};
    ASSERT_EQ(cuda::dequantize_stream(stream, {0, shape.rows}, got.get(), nullptr), cudaSuccess);
    EXPECT_TRUE(same_bits(want.host(), got.host())) << shape.rows << " x " << shape.cols;
    expect_rows<HalfType>(stream, want.host());
    expect_rows<Bf16Type>(stream, want.host());
  }
}

TEST(CudaStreamLayout, HoldsTheSameNf4Weights) {
  const auto book = nf4_book();
  const DeviceArray<float> device_book({book.begin(), book.end()}), stream_book(nf4_stream_book());
  for (const Shape& shape : {Shape{1, 64}, Shape{64, 256}, Shape{65, 320}, Shape{200, 576},
                             Shape{257, 1088}, Shape{1024, 2560}}) {
    const DeviceArray<std::uint8_t> codes(random_bytes(shape.rows * shape.cols / 2));
    const DeviceArray<float> absmax(random_floats(shape.rows * shape.cols / kNf4Block));
    const Nf4View view{codes.get(), absmax.get(), device_book.get(),
                       kNf4Block,   shape.rows,   shape.cols};
    const DeviceArray<std::uint8_t> chunks(std::vector<std::uint8_t>(
        static_cast<std::size_t>(cuda::stream_bytes(shape.rows, shape.cols)), 0xA5));
    const DeviceArray<float> want(poison(shape.rows * shape.cols)),
        got(poison(shape.rows * shape.cols));
    ASSERT_EQ(cuda::pack_stream(view, papers_nf4_table(), chunks.get(), nullptr), cudaSuccess);
    ASSERT_EQ(cuda::dequantize_nf4(view, want.get(), nullptr), cudaSuccess);
    const cuda::StreamNf4View stream{chunks.get(), stream_book.get(), shape.rows, shape.cols};
    ASSERT_EQ(cuda::dequantize_stream(stream, {0, shape.rows}, got.get(), nullptr), cudaSuccess);
    EXPECT_TRUE(same_bits(want.host(), got.host())) << shape.rows << " x " << shape.cols;
    expect_rows<HalfType>(stream, want.host());
    expect_rows<Bf16Type>(stream, want.host());
  }
  Nf4View other{nullptr, nullptr, nullptr, 32, 64, 256};
  EXPECT_EQ(cuda::pack_stream(other, papers_nf4_table(), nullptr, nullptr), cudaErrorInvalidValue);
}

__device__ unsigned hashed(std::int64_t i, unsigned seed) {
  unsigned r = static_cast<unsigned>(i) * 0x9E3779B1U + seed;
  r = (r ^ r >> 16) * 0x7FEB352DU;
  return r ^ r >> 15;
}

// Random in the bits of `mask`, the others those of `rest`.
struct Pattern {
  unsigned mask, rest;
};
// Values between 0.5 and 1, of either sign; E4M3 two at a time.
constexpr Pattern kBf16Values{0x807F, 0x3F00}, kHalfValues{0x807F, 0x3800},
    kCodeValues{0x8787, 0x3030};
__global__ void fill_values(std::uint16_t* values, std::int64_t count, unsigned seed,
                            Pattern pattern) {
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count;
       i += stride) {
    values[i] = static_cast<std::uint16_t>((hashed(i, seed) & pattern.mask) | pattern.rest);
  }
}

// Scales, E4M3 or f32, of ordinary sizes.
__global__ void fill_chunks(std::uint8_t* bytes, std::int64_t count, unsigned seed, bool nf4) {
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count;
       i += stride) {
    const unsigned r = hashed(i, seed);
    const bool code = i % 2304 < 2048;
    if (nf4) {
      const unsigned of_float[] = {r & 0xFFU, r & 0xFFU, r & 0x7FU, 0x3FU};
      bytes[i] = static_cast<std::uint8_t>(code ? r : of_float[i % 4]);
    } else {
      bytes[i] = static_cast<std::uint8_t>(code ? r : 0x28U + (r & 31U));
    }
  }
}

// Weights of a model's shape made on the device; norms are 1.
class SpeedModel {
 public:
  SpeedModel(int layers, int hidden, int intermediate, int heads, std::int64_t context,
             bool nf4 = false, bool fp8 = false) {
    m_.nf4 = nf4;
    m_.nf4_table = papers_nf4_table();
    m_.layers = layers;
    m_.hidden = hidden;
    m_.intermediate = intermediate;
    m_.heads = heads;
    m_.kv_heads = 8;
    m_.head_dim = 128;
    m_.vocab = 151936;
    m_.rms_norm_eps = 1e-6F;
    m_.context = context;
    const int q = heads * 128;
    for (int i = 0; i < layers; ++i) {
      m_.layer[i] = {matrix(q, hidden),
                     matrix(1024, hidden),
                     matrix(1024, hidden),
                     matrix(hidden, q),
                     matrix(intermediate, hidden),
                     matrix(intermediate, hidden),
                     matrix(hidden, intermediate),
                     norm(),
                     norm(),
                     norm(),
                     norm()};
    }
    m_.lm_head = matrix(m_.vocab, hidden);
    m_.norm = norm();
    m_.embed_tokens =
        static_cast<const __nv_bfloat16*>(values(std::int64_t{m_.vocab} * hidden, kBf16Values));
    const std::int64_t words = layers * context * 1024 / (fp8 ? 2 : 1);
    m_.keys = values(words, fp8 ? kCodeValues : kHalfValues);
    m_.values = values(words, fp8 ? kCodeValues : kHalfValues);
    if (fp8) {
      const std::vector<float> ones(static_cast<std::size_t>(layers * 8 * kv_scale_stride(context)),
                                    1.0F);
      m_.key_scales = upload<float>(ones);
      m_.value_scales = upload<float>(ones);
    }
    const std::vector<float> turns(static_cast<std::size_t>(context) * 64, 0.7071F);
    m_.rope_cos = upload<float>(turns);
    m_.rope_sin = upload<float>(turns);
  }
  ~SpeedModel() {
    for (void* p : owned_) cudaFree(p);
  }
  const cuda::DecodeModel& model() const { return m_; }
  double weight_bytes() const { return weight_bytes_; }

 private:
  template <class T, class Host>
  T* upload(const std::vector<Host>& host) {
    void* p = nullptr;
    EXPECT_EQ(cudaMalloc(&p, host.size() * sizeof(Host)), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(p, host.data(), host.size() * sizeof(Host), cudaMemcpyHostToDevice),
              cudaSuccess);
    owned_.push_back(p);
    return static_cast<T*>(p);
  }
  void* values(std::int64_t count, const Pattern& pattern) {
    void* p = nullptr;
    EXPECT_EQ(cudaMalloc(&p, static_cast<std::size_t>(count) * 2), cudaSuccess);
    owned_.push_back(p);
    fill_values<<<1024, 256>>>(static_cast<std::uint16_t*>(p), count, random_source()(), pattern);
    return p;
  }
  const float* norm() {
    if (ones_ == nullptr) ones_ = upload<float>(std::vector<float>(8192, 1.0F));
    return ones_;
  }
  cuda::DecodeMatrix matrix(int rows, int cols) {
    const std::int64_t bytes = cuda::stream_bytes(rows, cols);
    void* p = nullptr;
    EXPECT_EQ(cudaMalloc(&p, static_cast<std::size_t>(bytes)), cudaSuccess);
    owned_.push_back(p);
    fill_chunks<<<1024, 256>>>(static_cast<std::uint8_t*>(p), bytes, random_source()(), m_.nf4);
    weight_bytes_ += static_cast<double>(bytes);
    return {static_cast<std::uint8_t*>(p),
            (m_.nf4 ? 2.4F : 0.2F) / std::sqrt(static_cast<float>(cols))};
  }

  cuda::DecodeModel m_{};
  std::vector<void*> owned_;
  float* ones_ = nullptr;
  double weight_bytes_ = 0;
};

// Median of 5 runs of `tokens` steps one after the other, the chosen token fed back.
void report_decode(const char* name, const SpeedModel& model, std::int64_t depth, int tokens) {
  Stepper stepper(model.model(), false);
  stepper.step().token = &stepper.step().status->token;
  std::vector<float> times;
  cudaEvent_t start{}, stop{};
  cudaEventCreate(&start);
  cudaEventCreate(&stop);
  for (int run = 0; run < 6; ++run) {
    cudaEventRecord(start);
    for (int t = 0; t < tokens; ++t) ASSERT_EQ(stepper.run(depth + t), cudaSuccess);
    cudaEventRecord(stop);
    ASSERT_EQ(cudaEventSynchronize(stop), cudaSuccess);
    float ms = 0;
    cudaEventElapsedTime(&ms, start, stop);
    if (run > 0) times.push_back(ms);
  }
  ASSERT_EQ(stepper.status().hung, 0U);
  ASSERT_EQ(stepper.status().non_finite, 0U);
  std::sort(times.begin(), times.end());
  const double us = times[2] * 1e3 / tokens;
  const auto& m = model.model();
  const double row = m.key_scales != nullptr ? 128 + 4 : 2 * 128;
  const double kv = static_cast<double>(depth + tokens / 2) * m.layers * 2 * 8 * row;
  const double bytes = model.weight_bytes() + kv;
  std::printf("| %s, %d tokens at %lld | %.0f MB | %.1f us | %.1f tok/s | %.0f GB/s |\n", name,
              tokens, static_cast<long long>(depth), bytes / 1e6, us, 1e6 / us, bytes / us / 1e3);
  cudaEventDestroy(start);
  cudaEventDestroy(stop);
}

TEST(CudaDecode, Speed) {
  QF_NEEDS_HOPPER();
  std::printf("| shape | bytes a token | median | rate | |\n|---|---|---|---|---|\n");
  {
    const SpeedModel model(36, 2560, 9728, 32, 33024);
    for (const std::int64_t depth : {0, 1024, 4096, 16384, 32768}) {
      report_decode("Qwen3-4B", model, depth, 128);
    }
  }
  {
    const SpeedModel model(36, 2560, 9728, 32, 16640, true);
    for (const std::int64_t depth : {0, 4096}) {
      report_decode("Qwen3-4B, NF4", model, depth, 128);
    }
  }
  {
    const SpeedModel model(36, 2560, 9728, 32, 33024, false, true);
    for (const std::int64_t depth : {0, 1024, 4096, 16384, 32768}) {
      report_decode("Qwen3-4B, fp8 cache", model, depth, 128);
    }
  }
  const SpeedModel model(36, 4096, 12288, 32, 1024);
  report_decode("Qwen3-8B", model, 0, 128);
}

}  // namespace
}  // namespace qf
