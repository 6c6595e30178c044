#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <filesystem>
#include <span>
#include <vector>

#include "../model/golden.h"
#include "../run/tiny_model.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/check/ab_check.h"
#include "qwen3fp4/formats/safetensors.h"
#include "qwen3fp4/run/dump.h"
#include "random_model.h"

namespace qf {
namespace {

using ::testing::HasSubstr;

// Against what transformers computed (tools/make_model_fixtures.py).
class ActivationFiles : public ::testing::TestWithParam<std::string> {
 protected:
  [[nodiscard]] std::filesystem::path taps() const {
    return kGoldenModels / GetParam() / "taps.safetensors";
  }
  [[nodiscard]] Qwen3Model load() const {
    const auto folder = kGoldenModels / GetParam();
    return Qwen3Model::load(ModelConfig::from_file(folder / "config.json"),
                            DatReader(folder / "model.dat"), test::reference_backend());
  }
};

TEST_P(ActivationFiles, OfTransformersCompareClean) {
  const Qwen3Model model = load();
  for (const PathSpec& path : shipped_paths()) {
    const AbReport report = ab_check_file({.model = &model, .path = path}, taps(), {});
    EXPECT_FALSE(report.finding) << path_text(path) << report.finding->module;
    EXPECT_GE(report.isolated.size(), 2U * 14 + 3);
    EXPECT_EQ(report.isolated.size(), report.chained.size());
    EXPECT_EQ(report.chained.back().module, "lm_head");
  }
}

TEST_P(ActivationFiles, NameTheLayerOfOneChangedWeight) {
  for (const std::int64_t layer : {0, 1}) {
    for (const std::string_view module : kLayerLinears) {
      Qwen3Model model = load();
      auto values = model.weight(layer, module).dequantize().clone();
      values[5][3] += 0.1;
      model.replace_weight(layer, module, WeightMatrix::dense(values));
      const AbReport report =
          ab_check_file({.model = &model, .path = {.backend = "cpu"}}, taps(), {});
      ASSERT_TRUE(report.finding);
      EXPECT_EQ(report.finding->module, fmt::format("model.layers.{}.{}", layer, module));
      EXPECT_EQ(report.finding->layer, layer);
      EXPECT_EQ(report.finding->fault_class, FaultClass::kWeights);
      EXPECT_THAT(report.finding->evidence, HasSubstr("output features of the file deviate (5)"));
    }
  }
}

TEST_P(ActivationFiles, ThatLackTapsServeTheChainedModeOnly) {
  test::TemporaryFolder folder;
  const Qwen3Model model = load();
  const std::vector<std::int64_t> ids{1, 2, 3};
  NameFilter outputs("--taps", "module", R"(layers\.\d+$)");
  dump(model, ids, outputs, folder.path() / "outputs.safetensors");
  const AbSide side{.model = &model, .path = {.backend = "cpu", .schedule = Schedule::kToken}};
  const auto file = folder.path() / "outputs.safetensors";
  const AbReport report = ab_check_file(side, file, {.mode = AbMode::kChained});
  EXPECT_FALSE(report.finding);
  EXPECT_EQ(report.chained.size(), 3U);  // two layers and the logits
  try {
    (void)ab_check_file(side, file, {});
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("model.embed_tokens"));
    EXPECT_THAT(error.what(), HasSubstr("--mode chained"));
  }
}

// What the file holds is explained, not what path a would have had to do to be like it.
TEST_P(ActivationFiles, WithAFaultInThemAreExplained) {
  test::TemporaryFolder folder;
  Qwen3Model faulty = load();
  const auto weight = faulty.weight(1, "mlp.up_proj").dequantize();
  faulty.replace_weight(1, "mlp.up_proj", WeightMatrix::dense(weight * 3));
  NameFilter all("--taps", "module", ".");
  const auto file = folder.path() / "faulty.safetensors";
  dump(faulty, std::vector<std::int64_t>{1, 2, 3}, all, file);
  const Qwen3Model model = load();
  const AbReport report = ab_check_file({.model = &model, .path = {.backend = "cpu"}}, file, {});
  ASSERT_TRUE(report.finding);
  EXPECT_EQ(report.finding->module, "model.layers.1.mlp.up_proj");
  EXPECT_EQ(report.finding->fault_class, FaultClass::kScaleFactor);
  EXPECT_THAT(report.finding->evidence, HasSubstr("the file is 3 times what it should be"));
}

// Every tap of `from` whose name `picked` takes, rounded to bf16.
template <class Picked>
void round_taps(const std::filesystem::path& from, const std::filesystem::path& to,
                const Picked& picked) {
  const SafetensorsFile file(from);
  std::vector<std::vector<std::byte>> held;
  std::vector<NamedBytes> taps;
  for (const TensorInfo& entry : file.entries()) {
    auto& bytes = held.emplace_back(static_cast<std::size_t>(entry.bytes));
    file.read(entry, bytes);
    if (entry.type == DType::kF32 && picked(entry.name)) {
      auto values = at::from_blob(bytes.data(), {entry.bytes / 4}, at::kFloat);
      values.copy_(values.to(at::kBFloat16));
    }
    taps.push_back({entry.name, entry.type, entry.shape, bytes});
  }
  write_safetensors(to, taps);
}

TEST_P(ActivationFiles, OfANarrowerTypeAreToldFromThoseOfOtherWeights) {
  test::TemporaryFolder folder;
  const Qwen3Model model = load();
  const auto rounded = folder.path() / "rounded.safetensors";
  const AbSide side{.model = &model, .path = {.backend = "cpu"}};
  const auto is_table = [](const std::string& name) { return name == "model.embed_tokens"; };
  round_taps(taps(), rounded, is_table);
  const AbReport of_others = ab_check_file(side, rounded, {.mode = AbMode::kIsolated});
  ASSERT_TRUE(of_others.finding);
  EXPECT_EQ(of_others.finding->module, "model.embed_tokens");
  EXPECT_EQ(fault_class_name(of_others.finding->fault_class), "weights");
  EXPECT_THAT(of_others.finding->evidence, HasSubstr("every value of the file is a bf16 number"));
  round_taps(taps(), rounded, [&](const std::string& name) { return !is_table(name); });
  const AbReport narrow = ab_check_file(side, rounded, {.mode = AbMode::kIsolated});
  ASSERT_TRUE(narrow.finding);
  EXPECT_EQ(narrow.finding->module, "model.layers.0.input_layernorm");
  EXPECT_EQ(fault_class_name(narrow.finding->fault_class), "dtype");
  EXPECT_THAT(narrow.finding->evidence, HasSubstr("every value of the file is a bf16 number"));
}

// `taps` as a file of one tensor beside the ids.
void write_taps(const std::filesystem::path& path, const NamedBytes& ids, const NamedBytes& tap) {
  write_safetensors(path, std::vector<NamedBytes>{ids, tap});
}

TEST_P(ActivationFiles, ThatAreNoneAreRefused) {
  test::TemporaryFolder folder;
  const Qwen3Model model = load();
  const auto path = folder.path() / "taps.safetensors";
  const auto refused = [&](const char* sentence, ExitCode code = ExitCode::kUnreadable) {
    try {
      (void)ab_check_file({.model = &model}, path, {.mode = AbMode::kChained});
      ADD_FAILURE() << sentence;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr(sentence));
      EXPECT_EQ(error.code(), code) << sentence;
    }
  };
  refused("cannot be opened");  // absent
  const std::vector<std::int64_t> numbers{1, 2};
  const std::vector<std::int64_t> outside{1, model.config().vocab_size};
  const std::vector<std::int64_t> negative{-1, 2};
  const std::int64_t hidden = model.config().hidden_size;
  const std::vector<float> floats(static_cast<std::size_t>(2 * hidden), 0.5F);
  const auto bytes = [](const auto& values) { return std::as_bytes(std::span(values)); };
  const NamedBytes ids{"ids", DType::kI64, {2}, bytes(numbers)};
  const NamedBytes embedding{"model.embed_tokens", DType::kF32, {2, hidden}, bytes(floats)};
  for (const NamedBytes& wrong : {NamedBytes{"identity", DType::kI64, {2}, bytes(numbers)},
                                  NamedBytes{"ids", DType::kI32, {4}, bytes(numbers)},
                                  NamedBytes{"ids", DType::kI64, {1, 2}, bytes(numbers)}}) {
    write_taps(path, wrong, embedding);
    refused("expected activations with `ids` i64 [T]");
  }
  write_taps(path, {"ids", DType::kI64, {2}, bytes(outside)}, embedding);
  refused("expected token ids from 0 to", ExitCode::kUsage);
  write_taps(path, {"ids", DType::kI64, {2}, bytes(negative)}, embedding);
  refused("found -1", ExitCode::kUsage);
  write_taps(path, ids, {"model.embed_tokens", DType::kF32, {hidden, 2}, bytes(floats)});
  refused("model.embed_tokens: expected f32 [2, ");
  write_taps(path, ids, {"model.embed_tokens", DType::kBF16, {2, 2 * hidden}, bytes(floats)});
  refused("found bf16");
  const std::int64_t heads = model.config().num_attention_heads;
  const std::int64_t head_dim = model.config().head_dim;
  const std::vector<float> queries(static_cast<std::size_t>(2 * heads * head_dim), 0.5F);
  const char* const rope = "model.layers.0.self_attn.q_rope";
  write_taps(path, ids, {rope, DType::kF32, {2, head_dim, heads}, bytes(queries)});
  refused(fmt::format("q_rope: expected f32 [2, {}, {}], found f32 [2, {}, {}]", heads, head_dim,
                      head_dim, heads)
              .c_str());
}

TEST_P(ActivationFiles, OfWhichNothingIsComparedAreRefused) {
  test::TemporaryFolder folder;
  const Qwen3Model model = load();
  const auto path = folder.path() / "taps.safetensors";
  const auto refused = [&](const AbOptions& options, const std::string& sentence) {
    try {
      (void)ab_check_file({.model = &model}, path, options);
      ADD_FAILURE() << sentence;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("no tap was compared: expected names like " + sentence));
      EXPECT_EQ(error.code(), ExitCode::kUnreadable);
    }
  };
  const std::vector<std::int64_t> numbers{1, 2};
  const NamedBytes ids{"ids", DType::kI64, {2}, std::as_bytes(std::span(numbers))};
  const std::vector<float> floats(static_cast<std::size_t>(2 * model.config().hidden_size), 0.5F);
  const auto write = [&](const std::string& name) {
    write_taps(
        path, ids,
        {name, DType::kF32, {2, model.config().hidden_size}, std::as_bytes(std::span(floats))});
  };
  write("model.layers.0");
  refused({.mode = AbMode::kChained, .layers = {1}},
          "model.layers.1.input_layernorm, found model.layers.0");
  write("transformer.h.0");
  refused({.mode = AbMode::kChained}, "model.embed_tokens, found transformer.h.0");
  write_safetensors(path, std::vector<NamedBytes>{ids});
  refused({.mode = AbMode::kChained}, "model.embed_tokens, found nothing but ids");
}

INSTANTIATE_TEST_SUITE_P(Golden, ActivationFiles,
                         ::testing::Values("qwen3_tied_gqa4", "llama_tied_gqa3"));

}  // namespace
}  // namespace qf
