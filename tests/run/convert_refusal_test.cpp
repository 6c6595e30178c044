// What convert refuses, and that a refusal leaves nothing behind.
#include <gtest/gtest.h>

#include <limits>

#include "checkpoint_fixture.h"
#include "qwen3fp4/run/convert.h"

namespace qf::test {
namespace {

constexpr const char* kDown = "model.layers.1.mlp.down_proj.weight";

class ConvertRefusalTest : public FolderTest {
 protected:
  // Converts the llama fixture after `change`.
  void convert(const std::function<void(Tensors&)>& change,
               const ConvertOptions& options = nvfp4()) {
    auto tensors = llama_tensors();
    change(tensors);
    write_checkpoint(folder_ / "source", config_, tensors);
    convert_checkpoint(*open_checkpoint(folder_ / "source"), folder_ / "out", options);
  }
  void expect_refused(const std::string& words, const std::function<void(Tensors&)>& change,
                      const ConvertOptions& options = nvfp4()) {
    expect_error(ExitCode::kUnreadable, words, [&] { convert(change, options); });
    EXPECT_THAT(listing(), testing::ElementsAre("source"));
  }
  static ConvertOptions nvfp4() { return {.format = WeightFormat::kNvfp4, .keep = ""}; }

  std::string config_ = llama_config();
};

TEST_F(ConvertRefusalTest, MissingTensor) {
  expect_refused("model.layers.1.mlp.down_proj.weight [32, 64]: expected",
                 [](Tensors& tensors) { tensors.erase(kDown); });
}

TEST_F(ConvertRefusalTest, LeftoverTensor) {
  expect_refused("model.layers.0.self_attn.q_proj.bias", [](Tensors& tensors) {
    tensors["model.layers.0.self_attn.q_proj.bias"] = at::zeros({64});
  });
}

TEST_F(ConvertRefusalTest, WrongShape) {
  expect_refused("model.layers.1.mlp.down_proj.weight: expected shape [32, 64]",
                 [](Tensors& tensors) {
                   tensors[kDown] = at::zeros({64, 32});
                 });
}

TEST_F(ConvertRefusalTest, IntegerWeight) {
  expect_refused(
      "model.layers.1.mlp.down_proj.weight: expected a weight of f32, f16 or bf16, found i64",
      [](Tensors& tensors) {
        tensors[kDown] = at::zeros({32, 64}, at::kLong);
      });
}

TEST_F(ConvertRefusalTest, NonFiniteWeight) {
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const auto format : {WeightFormat::kNvfp4, WeightFormat::kNf4, WeightFormat::kF32}) {
      expect_refused("model.layers.1.mlp.down_proj.weight: expected finite values",
                     [&](Tensors& tensors) {
                       tensors[kDown].index_put_({at::tensor(3), at::tensor(5)}, value);
                     },
                     {.format = format, .keep = ""});
    }
  }
}

TEST_F(ConvertRefusalTest, ValueTooLargeForTheFormat) {
  expect_refused("holds values too large for bf16",
                 [](Tensors& tensors) { tensors[kDown].fill_(std::numeric_limits<float>::max()); },
                 {.format = WeightFormat::kBF16, .keep = ""});
}

TEST_F(ConvertRefusalTest, WidthThatNvfp4CannotHold) {
  config_.replace(config_.find("\"intermediate_size\": 64"), 23, "\"intermediate_size\": 40");
  const auto narrow = [](Tensors& tensors) {
    for (auto& [name, tensor] : tensors) {
      if (name.find("mlp.") == std::string::npos) continue;
      tensor = tensor.narrow(name.ends_with("down_proj.weight") ? 1 : 0, 0, 40).contiguous();
    }
  };
  expect_refused("model.layers.0.mlp.down_proj.weight: expected rows of a multiple of 16", narrow);
  convert(narrow, {.format = WeightFormat::kNvfp4, .keep = "down_proj"});
}

TEST_F(ConvertRefusalTest, RotaryTablesAreIgnored) {
  convert([](Tensors& tensors) {
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = at::ones({8});
  });
}

TEST_F(ConvertRefusalTest, TiedCheckpointWithAHead) {
  config_.replace(config_.find("\"tie_word_embeddings\": false"), 28,
                  "\"tie_word_embeddings\": true ");
  expect_refused("lm_head.weight: expected the embedding's values", [](Tensors&) {});
  convert(
      [](Tensors& tensors) { tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]; });
}

TEST_F(ConvertRefusalTest, KeepMustBeARegexThatFindsSomething) {
  for (const auto* keep : {"(", "[a", "no_such_projection"}) {
    expect_error(ExitCode::kUsage, "--keep",
                 [&] { convert([](Tensors&) {}, {.format = WeightFormat::kNvfp4, .keep = keep}); });
    EXPECT_THAT(listing(), testing::ElementsAre("source")) << keep;
  }
}

TEST_F(ConvertRefusalTest, DestinationThatExists) {
  convert([](Tensors&) {});
  const auto before = read_text_file(folder_ / "out" / "model.dat");
  expect_error(ExitCode::kUsage, "--force", [&] { convert([](Tensors&) {}); });
  EXPECT_EQ(read_text_file(folder_ / "out" / "model.dat"), before);

  // A failing replacement leaves the old model intact, byte for byte.
  auto replace = nvfp4();
  replace.replace = true;
  expect_error(ExitCode::kUnreadable, "expected finite values", [&] {
    convert([](Tensors& tensors) { tensors["lm_head.weight"].fill_(NAN); }, replace);
  });
  EXPECT_EQ(read_text_file(folder_ / "out" / "model.dat"), before);
  EXPECT_THAT(listing(), testing::ElementsAre("out", "source"));

  replace.format = WeightFormat::kF32;
  convert([](Tensors&) {}, replace);
  EXPECT_NE(read_text_file(folder_ / "out" / "model.dat"), before);
  EXPECT_THAT(listing(), testing::ElementsAre("out", "source"));
}

TEST_F(ConvertRefusalTest, ReplacesOnlyModelFolders) {
  auto replace = nvfp4();
  replace.replace = true;
  fs::create_directories(folder_ / "out");
  write_text_file(folder_ / "out" / "thesis.txt", "years of work");
  expect_error(ExitCode::kUsage, "without model.dat", [&] { convert([](Tensors&) {}, replace); });
  EXPECT_EQ(read_text_file(folder_ / "out" / "thesis.txt"), "years of work");
}

TEST_F(ConvertRefusalTest, DestinationThatHoldsTheSource) {
  write_checkpoint(folder_ / "source", config_, llama_tensors());
  const auto source = open_checkpoint(folder_ / "source");
  auto replace = nvfp4();
  replace.replace = true;
  for (const auto& destination : {folder_ / "source", folder_, folder_ / "x" / ".." / "source"}) {
    expect_error(ExitCode::kUsage, "does not hold the source",
                 [&] { convert_checkpoint(*source, destination, replace); });
  }
  EXPECT_TRUE(fs::exists(folder_ / "source" / "model.safetensors"));
}

TEST_F(ConvertRefusalTest, DestinationThatIsAFile) {
  write_text_file(folder_ / "out", "a file");
  expect_error(ExitCode::kUsage, "found a file", [&] { convert([](Tensors&) {}); });
  EXPECT_EQ(read_text_file(folder_ / "out"), "a file");
}

// Progress may throw (an interrupt): nothing is left then either.
TEST_F(ConvertRefusalTest, InterruptedConversion) {
  write_checkpoint(folder_ / "source", config_, llama_tensors());
  expect_error(ExitCode::kInterrupted, "interrupted", [&] {
    convert_checkpoint(*open_checkpoint(folder_ / "source"), folder_ / "out", nvfp4(),
                       [](std::int64_t done, std::int64_t total, std::string_view) {
                         if (done > total / 2) fail(ExitCode::kInterrupted, "interrupted");
                       });
  });
  EXPECT_THAT(listing(), testing::ElementsAre("source"));
}

}  // namespace
}  // namespace qf::test
