#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "checkpoint_fixture.h"
#include "qwen3fp4/formats/gguf.h"
#include "qwen3fp4/run/convert.h"
#include "qwen3fp4/run/export_checkpoint.h"
#include "tiny_model.h"

namespace qf::test {
namespace {

struct Exported {
  std::string model_type;
  ExportFormat format;
};

void PrintTo(const Exported& exported, std::ostream* out) {
  *out << exported.model_type << " as " << export_format_name(exported.format);
}

class ExportTest : public FolderTest {
 protected:
  // A model in NVFP4 but for one projection, as training writes it: norms in f32.
  void write_model(const TinyModel& tiny) {
    tiny.write(folder_ / "dense");
    convert_checkpoint(*open_checkpoint(folder_ / "dense"), model(),
                       {.keep = R"(layers\.1\.mlp\.up_proj)"});
  }
  [[nodiscard]] fs::path model() const { return folder_ / "model"; }
  [[nodiscard]] fs::path place(ExportFormat format) const {
    return folder_ / (format == ExportFormat::kGguf ? "out.gguf" : "out");
  }
  void write_export(ExportFormat format, bool replace = false) {
    export_checkpoint(*open_checkpoint(model()), place(format), format, replace);
  }
};

class ExportFormatTest : public ExportTest, public testing::WithParamInterface<Exported> {};

TEST_P(ExportFormatTest, ConvertsBackToTheSameBytes) {
  const auto& [model_type, format] = GetParam();
  write_model({.model_type = model_type, .intermediate_size = 192});
  write_export(format);
  convert_checkpoint(*open_checkpoint(place(format)), folder_ / "back",
                     {.keep = R"(layers\.1\.mlp\.up_proj)"});
  EXPECT_TRUE(read_text_file(folder_ / "back" / "model.dat") ==
              read_text_file(model() / "model.dat"));
  const auto config = ModelConfig::from_file(model() / "config.json");
  const auto back = ModelConfig::from_file(folder_ / "back" / "config.json");
  EXPECT_EQ(back.model_type, model_type);
  EXPECT_EQ(back.rope.theta, config.rope.theta);
  EXPECT_EQ(back.rms_norm_eps, config.rms_norm_eps);
  EXPECT_EQ(back.tie_word_embeddings, config.tie_word_embeddings);
  const auto before = ModelFolder::open(model());
  const auto after = ModelFolder::open(folder_ / "back");
  EXPECT_EQ(after.end_tokens(), before.end_tokens());
  for (const std::string text : {"Hello, UFO! 12\n", "你是誰？", "<|im_end|>x"}) {
    EXPECT_EQ(after.require_tokenizer().encode(text, SpecialTokens::kMatch),
              before.require_tokenizer().encode(text, SpecialTokens::kMatch));
  }
  // Rows without a token stay without.
  EXPECT_EQ(after.require_tokenizer().vocab_size(), before.require_tokenizer().vocab_size());
  const Message hello{"user", "Hi"};
  EXPECT_EQ(after.require_chat_template().render(std::span(&hello, 1), AnswerOpening::kAssistant),
            before.require_chat_template().render(std::span(&hello, 1), AnswerOpening::kAssistant));
}

TEST_P(ExportFormatTest, ReplacesOnlyItsOwnKindAndOnlyWhenAsked) {
  const auto& [model_type, format] = GetParam();
  write_model({.model_type = model_type, .intermediate_size = 192});
  write_export(format);
  expect_error(ExitCode::kUsage, "exists already", [&] { write_export(format); });
  write_export(format, /*replace=*/true);
  fs::remove_all(place(format));
  fs::create_directories(place(format) / "theirs");
  expect_error(ExitCode::kUsage, "to replace", [&] { write_export(format, true); });
  EXPECT_TRUE(fs::exists(place(format) / "theirs"));
  expect_error(ExitCode::kUsage, "apart from the source",
               [&] { export_checkpoint(*open_checkpoint(model()), model(), format, true); });
}

INSTANTIATE_TEST_SUITE_P(Formats, ExportFormatTest,
                         testing::Values(Exported{"llama", ExportFormat::kSafetensors},
                                         Exported{"qwen3", ExportFormat::kSafetensors},
                                         Exported{"llama", ExportFormat::kGguf},
                                         Exported{"qwen3", ExportFormat::kGguf}));

TEST_F(ExportTest, SafetensorsSayWhatIsPackedAndHow) {
  write_model({});
  write_export(ExportFormat::kSafetensors);
  const auto config = nlohmann::json::parse(
      read_text_file(place(ExportFormat::kSafetensors) / "config.json"))["quantization_config"];
  EXPECT_EQ(config["quant_method"], "compressed-tensors");
  EXPECT_EQ(config["format"], "nvfp4-pack-quantized");
  EXPECT_EQ(config["ignore"], nlohmann::json({"model.layers.1.mlp.up_proj"}));
  const auto& weights = config["config_groups"]["group_0"]["weights"];
  EXPECT_EQ(weights["group_size"], 16);
  EXPECT_EQ(weights["strategy"], "tensor_group");

  // The values as compressed-tensors has them: code * (scale / divisor).
  const SafetensorsFile file(place(ExportFormat::kSafetensors) / "model.safetensors");
  const auto source = open_checkpoint(model());
  const std::string module = "model.layers.0.mlp.down_proj";
  const auto read = [&](const std::string& name, at::ScalarType type) {
    const auto entry = *std::ranges::find(file.entries(), name, &TensorInfo::name);
    const auto values = at::empty(entry.shape, type);
    file.read(entry, {static_cast<std::byte*>(values.data_ptr()), values.nbytes()});
    return values;
  };
  const auto packed = read(module + ".weight_packed", at::kByte);
  const auto codes = at::stack({packed.bitwise_and(0xF), packed.div(16, "floor")}, -1).flatten(1);
  const auto e2m1 = at::tensor(
      {0.F, .5F, 1.F, 1.5F, 2.F, 3.F, 4.F, 6.F, -0.F, -.5F, -1.F, -1.5F, -2.F, -3.F, -4.F, -6.F});
  const auto scales = read(module + ".weight_scale", at::kFloat8_e4m3fn).to(at::kFloat) /
                      read(module + ".weight_global_scale", at::kFloat);
  const auto values = e2m1.index({codes.to(at::kLong)}) * scales.repeat_interleave(16, 1);
  EXPECT_TRUE(at::allclose(values, source->read_f32(*source->find(module + ".weight")), 1e-6, 0));
}

// Of other programs, which have the divisor alone.
TEST_F(ExportTest, SafetensorsWithoutOurMetadataAreReadByTheirDivisor) {
  write_model({});
  write_export(ExportFormat::kSafetensors);
  const auto folder = place(ExportFormat::kSafetensors);
  const auto ours = read_all(*open_checkpoint(folder));
  auto bytes = read_text_file(folder / "model.safetensors");
  const std::string mark = "qwen3fp4.";
  for (auto at = bytes.find(mark); at != std::string::npos; at = bytes.find(mark, at)) {
    bytes.replace(at, mark.size(), "another1.");
  }
  write_text_file(folder / "model.safetensors", bytes);
  const auto theirs = read_all(*open_checkpoint(folder));
  for (const auto& [name, values] : ours) {
    EXPECT_TRUE(at::allclose(theirs.at(name), values, 1e-6, 0)) << name;
  }
}

TEST_F(ExportTest, RefusesWhatAFormatCannotHold) {
  const auto refused = [&](ExportFormat format, const std::string& words) {
    expect_error(ExitCode::kUnreadable, words, [&] { write_export(format); });
    EXPECT_FALSE(fs::exists(place(format)));
  };
  write_model({});
  refused(ExportFormat::kGguf, "expected rows of a multiple of 64 values for NVFP4 in a GGUF");
  fs::remove(model() / "tokenizer.json");
  fs::remove_all(folder_ / "whole");
  convert_checkpoint(*open_checkpoint(folder_ / "dense"), folder_ / "f32",
                     {.format = WeightFormat::kF32, .keep = ""});
  fs::remove(folder_ / "f32" / "tokenizer.json");
  expect_error(ExitCode::kUnreadable, "expected a tokenizer.json", [&] {
    export_checkpoint(*open_checkpoint(folder_ / "f32"), folder_ / "x.gguf", ExportFormat::kGguf,
                      false);
  });
  convert_checkpoint(*open_checkpoint(folder_ / "dense"), folder_ / "nf4",
                     {.format = WeightFormat::kNf4, .keep = ""});
  expect_error(ExitCode::kUnreadable, "expected NVFP4, f32, f16 or bf16 to export, found nf4", [&] {
    export_checkpoint(*open_checkpoint(folder_ / "nf4"), folder_ / "x", ExportFormat::kSafetensors,
                      false);
  });
  EXPECT_FALSE(fs::exists(folder_ / "x"));
}

TEST_F(ExportTest, GgufKeepsYarnAndSampling) {
  TinyModel tiny{.generation_config = R"({"eos_token_id": [258, 256], "temperature": 0.7,
                                          "top_k": 20, "top_p": 0.8})",
                 .intermediate_size = 192};
  tiny.write(folder_ / "dense");
  const auto path = folder_ / "dense" / "config.json";
  auto config = nlohmann::json::parse(read_text_file(path));
  config["rope_scaling"] = {{"rope_type", "yarn"},
                            {"factor", 4.0},
                            {"original_max_position_embeddings", 128},
                            {"beta_fast", 16},
                            {"attention_factor", 1.25}};
  write_text_file(path, config.dump());
  convert_checkpoint(*open_checkpoint(folder_ / "dense"), model(), {});
  write_export(ExportFormat::kGguf);
  const auto back = open_checkpoint(place(ExportFormat::kGguf));
  const RopeConfig& rope = back->config().rope;
  EXPECT_EQ(rope.type, RopeType::kYarn);
  EXPECT_EQ(rope.factor, 4);
  EXPECT_EQ(rope.original_max_position_embeddings, 128);
  EXPECT_EQ(rope.beta_fast, 16);
  EXPECT_EQ(rope.beta_slow, 1);
  EXPECT_NEAR(rope.attention_factor, 1.25, 1e-6);  // f32 in the file
  const auto generation = nlohmann::json::parse(back->side_files().back().text);
  EXPECT_EQ(generation["temperature"], 0.7);
  EXPECT_EQ(generation["top_k"], 20);

  config["rope_scaling"]["truncate"] = false;
  write_text_file(model() / "config.json", config.dump());
  fs::remove(place(ExportFormat::kGguf));
  expect_error(ExitCode::kUnreadable, "a GGUF cannot say 'truncate' false",
               [&] { write_export(ExportFormat::kGguf); });
}

}  // namespace
}  // namespace qf::test
