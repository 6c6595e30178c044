#include "qwen3fp4/run/linear_mode.h"

#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/model/packed_entries.h"
#include "qwen3fp4/model/weights.h"
#include "qwen3fp4/quant/quantize.h"
#include "tiny_model.h"

namespace qf {
namespace {

using test::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

ModelConfig small_config(bool tied = false) {
  ModelConfig config;
  config.vocab_size = 40;
  config.hidden_size = 32;
  config.intermediate_size = 48;
  config.num_hidden_layers = 1;
  config.num_attention_heads = 2;
  config.num_key_value_heads = 1;
  config.head_dim = 16;
  config.qk_norm = true;
  config.tie_word_embeddings = tied;
  return config;
}

// As a device with FP4 tensor cores would be, for what is decided without one.
class DeviceBackend final : public Backend {
 public:
  [[nodiscard]] std::string_view name() const override { return "device"; }
  [[nodiscard]] std::string description() const override { return "device: none"; }
  [[nodiscard]] LinearMode linear_mode() const override { return LinearMode::kW4A4; }
  [[nodiscard]] at::Device device() const override { return {at::kCUDA, 0}; }
  [[nodiscard]] at::Tensor linear(const at::Tensor& x_TI, const WeightMatrix&) const override {
    return x_TI;
  }
};

using Format = std::function<WeightMatrix(const WeightSpec&, const at::Tensor&)>;

WeightMatrix nvfp4(const at::Tensor& values) { return quantize_nvfp4(values, {}); }
WeightMatrix nvfp4_f32_scales(const at::Tensor& values) {
  const auto packed = nvfp4(values);
  return WeightMatrix::nvfp4(packed.codes(), at::ones(packed.scales().sizes()), 1);
}

class CheckLinearMode : public testing::Test {
 protected:
  // What is said of a model whose matrices `format` stores; empty: nothing.
  std::string refusal(const Backend& backend, const ModelConfig& config, bool with_head,
                      const Format& format) {
    const auto path = folder_.path() / "model.dat";
    std::int64_t entries = 0;
    for_each_weight(config, with_head, [&](const WeightSpec& spec) {
      const bool norm = spec.kind == WeightKind::kNorm;
      entries += norm ? 1 : entries_of(format(spec, at::ones(spec.shape)).format(), true);
    });
    DatWriter out(path, entries);
    for_each_weight(config, with_head, [&](const WeightSpec& spec) {
      const auto values = at::ones(spec.shape);
      if (spec.kind == WeightKind::kNorm) {
        out.write(spec.name, DType::kF32, spec.shape,
                  {static_cast<const std::byte*>(values.const_data_ptr()), values.nbytes()});
      } else {
        (void)write_weight(out, spec.name, format(spec, values), true);
      }
    });
    out.finish();
    try {
      check_linear_mode(backend, config, DatReader(path));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUsage);
      return error.what();
    }
    return "";
  }

  TemporaryFolder folder_;
  std::unique_ptr<Backend> w4a4_ = make_backend("cpu", ComputeDtype::kF32, LinearMode::kW4A4);
};

bool is_layers(const WeightSpec& spec) { return spec.kind == WeightKind::kLinear; }

TEST_F(CheckLinearMode, W4A4TakesNvfp4ProjectionsAndAnyEmbeddingAndHead) {
  for (const bool with_head : {true, false}) {
    EXPECT_EQ(refusal(*w4a4_, small_config(!with_head), with_head,
                      [](const WeightSpec& spec, const at::Tensor& values) {
                        return is_layers(spec) ? nvfp4(values)
                                               : WeightMatrix::dense(values.to(at::kBFloat16));
                      }),
              "");
  }
  EXPECT_EQ(refusal(*w4a4_, small_config(), true,
                    [](const auto&, const at::Tensor& values) { return nvfp4(values); }),
            "");
}

TEST_F(CheckLinearMode, W4A4RefusesOtherProjectionsByName) {
  const auto refusal_of = [&](const Format& other) {
    return refusal(*w4a4_, small_config(), true,
                   [&](const WeightSpec& spec, const at::Tensor& values) {
                     const bool one = spec.name == "model.layers.0.mlp.up_proj.weight";
                     return one ? other(spec, values) : nvfp4(values);
                   });
  };
  const auto says = [](const char* found) {
    return AllOf(HasSubstr("--linear w4a4: expected NVFP4 weights"),
                 HasSubstr(std::string("found model.layers.0.mlp.up_proj.weight in ") + found),
                 HasSubstr("model.dat"));
  };
  EXPECT_THAT(refusal_of([](const auto&, const at::Tensor& v) { return quantize_nf4(v); }),
              says("nf4 of "));
  EXPECT_THAT(refusal_of([](const auto&, const at::Tensor& v) { return WeightMatrix::dense(v); }),
              says("f32 of "));
  EXPECT_THAT(refusal_of([](const auto&, const at::Tensor& v) { return nvfp4_f32_scales(v); }),
              says("nvfp4 with f32 block scales of "));
}

// A head that NVFP4 holds is multiplied as the projections are, and so is an embedding that is one.
TEST_F(CheckLinearMode, W4A4RefusesScalesOfAHeadThatItCannotUse) {
  for (const bool tied : {false, true}) {
    const std::string refused = refusal(
        *w4a4_, small_config(tied), !tied, [&](const WeightSpec& spec, const at::Tensor& values) {
          return is_layers(spec) ? nvfp4(values) : nvfp4_f32_scales(values);
        });
    EXPECT_THAT(refused, HasSubstr(tied ? "model.embed_tokens.weight" : "lm_head.weight"));
  }
}

TEST_F(CheckLinearMode, W4A4OnADeviceRefusesShapesThatCublasltDoesNotTake) {
  const DeviceBackend device;
  const Format all_nvfp4 = [](const auto&, const at::Tensor& values) { return nvfp4(values); };
  ModelConfig config = small_config();
  // down_proj has 48 inputs.
  EXPECT_THAT(refusal(device, config, true, all_nvfp4),
              AllOf(HasSubstr("down_proj"), HasSubstr("48 inputs and 32 outputs")));
  EXPECT_EQ(refusal(*w4a4_, config, true, all_nvfp4), "");
  config.intermediate_size = 64;
  EXPECT_EQ(refusal(device, config, true, all_nvfp4), "");
  config.vocab_size = 44;
  EXPECT_THAT(refusal(device, config, true, all_nvfp4),
              AllOf(HasSubstr("lm_head"), HasSubstr("44 outputs")));
}

TEST_F(CheckLinearMode, OtherModesTakeEverything) {
  const auto plain = make_backend("cpu");
  const auto reference = make_backend("cpu", ComputeDtype::kF32, LinearMode::kReference);
  for (const Backend* backend : {plain.get(), reference.get()}) {
    EXPECT_EQ(refusal(*backend, small_config(), true,
                      [](const auto&, const at::Tensor& values) { return quantize_nf4(values); }),
              "");
    EXPECT_NO_THROW(check_linear_mode(*backend, WeightFormat::kNf4));
  }
  EXPECT_NO_THROW(check_linear_mode(*w4a4_, WeightFormat::kNvfp4));
  try {
    check_linear_mode(*w4a4_, WeightFormat::kNf4);
    FAIL() << "took nf4";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    EXPECT_STREQ(error.what(), "--linear w4a4: expected NVFP4 weights, found --format nf4");
  }
}

}  // namespace
}  // namespace qf
