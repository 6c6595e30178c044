#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "checkpoint_fixture.h"
#include "qwen3fp4/text/tokenizer.h"

namespace qf::test {
namespace {

void expect_same_tensors(const Tensors& found, const Tensors& expected) {
  ASSERT_EQ(found.size(), expected.size());
  for (const auto& [name, tensor] : expected) {
    ASSERT_TRUE(found.contains(name)) << name;
    EXPECT_TRUE(same_bits(found.at(name), tensor)) << name;
  }
}

std::string side_file(const CheckpointSource& source, const std::string& name) {
  for (const auto& file : source.side_files()) {
    if (file.name == name) return file.text;
  }
  return "";
}

class CheckpointSourceTest : public FolderTest {};

TEST_F(CheckpointSourceTest, LlamaGgufHoldsTheHuggingFaceWeights) {
  const auto gguf = open_checkpoint(kGolden / "llama_f32.gguf");
  expect_same_tensors(read_all(*gguf), llama_tensors());
}

TEST_F(CheckpointSourceTest, LlamaGgufHasTheHuggingFaceConfiguration) {
  const auto found = open_checkpoint(kGolden / "llama_f32.gguf")->config();
  const auto expected = open_checkpoint(kGolden / "llama")->config();
  EXPECT_EQ(found.model_type, expected.model_type);
  EXPECT_EQ(found.vocab_size, expected.vocab_size);
  EXPECT_EQ(found.hidden_size, expected.hidden_size);
  EXPECT_EQ(found.intermediate_size, expected.intermediate_size);
  EXPECT_EQ(found.num_hidden_layers, expected.num_hidden_layers);
  EXPECT_EQ(found.num_attention_heads, expected.num_attention_heads);
  EXPECT_EQ(found.num_key_value_heads, expected.num_key_value_heads);
  EXPECT_EQ(found.head_dim, expected.head_dim);
  EXPECT_EQ(found.max_position_embeddings, expected.max_position_embeddings);
  EXPECT_EQ(found.rms_norm_eps, expected.rms_norm_eps);  // 1e-5, not its f32 neighbour
  EXPECT_EQ(found.rope.theta, expected.rope.theta);
  EXPECT_EQ(found.tie_word_embeddings, expected.tie_word_embeddings);
  EXPECT_EQ(found.qk_norm, expected.qk_norm);
  EXPECT_EQ(found.eos_token_ids, expected.eos_token_ids);
}

TEST_F(CheckpointSourceTest, BlockTypesAreWhatTheGgufPackageSays) {
  const auto gguf = open_checkpoint(kGolden / "llama_quantised.gguf");
  const SafetensorsFile file(kGolden / "llama_quantised.safetensors");
  Tensors expected;
  for (const auto& entry : file.entries()) {
    auto tensor = at::empty(entry.shape, at::kFloat);
    file.read(entry, {static_cast<std::byte*>(tensor.data_ptr()), tensor.nbytes()});
    expected[entry.name] = tensor;
  }
  expect_same_tensors(read_all(*gguf), expected);
  const auto* const q = gguf->find("model.layers.1.self_attn.q_proj.weight");
  ASSERT_NE(q, nullptr);
  EXPECT_EQ(q->name_in_file, "blk.1.attn_q.weight");
  EXPECT_EQ(q->stored_type, "Q4_0");
  EXPECT_FALSE(q->float_type.has_value());
  EXPECT_EQ(gguf->find("model.layers.1.mlp.down_proj.weight")->float_type, DType::kBF16);
}

TEST_F(CheckpointSourceTest, Qwen3GgufIsNotPermuted) {
  const auto gguf = open_checkpoint(kGolden / "qwen3_f16.gguf");
  auto expected = read_all(*open_checkpoint(kGolden / "qwen3"));
  for (auto& [name, tensor] : expected) {
    if (tensor.dim() == 2) tensor = tensor.to(at::kHalf).to(at::kFloat);
  }
  expect_same_tensors(read_all(*gguf), expected);
  EXPECT_TRUE(gguf->config().tie_word_embeddings);
  EXPECT_TRUE(gguf->config().qk_norm);
  EXPECT_EQ(gguf->config().rope.theta, 5e6);
}

TEST_F(CheckpointSourceTest, GgufTokenizerAndEndTokens) {
  const auto qwen3 = open_checkpoint(kGolden / "qwen3_f16.gguf");
  EXPECT_THAT(qwen3->notes(), testing::IsEmpty());
  EXPECT_EQ(side_file(*qwen3, "tokenizer.json"),
            tokenizer_json_from_gguf(GgufFile(kGolden / "qwen3_f16.gguf")));
  EXPECT_NE(side_file(*qwen3, "tokenizer_config.json"), "");
  // <|im_end|> from the metadata and <|endoftext|> by name, as Qwen3's own generation_config.json.
  EXPECT_EQ(nlohmann::json::parse(side_file(*qwen3, "generation_config.json")),
            nlohmann::json::parse(
                R"({"bos_token_id": 257, "eos_token_id": [259, 257], "pad_token_id": 257})"));

  const auto llama = open_checkpoint(kGolden / "llama_f32.gguf");
  EXPECT_THAT(llama->notes(), testing::ElementsAre(testing::HasSubstr("no tokenizer")));
  EXPECT_EQ(side_file(*llama, "tokenizer.json"), "");
  EXPECT_EQ(nlohmann::json::parse(side_file(*llama, "generation_config.json")),
            nlohmann::json::parse(R"({"eos_token_id": [2]})"));
}

TEST_F(CheckpointSourceTest, ShardsAreOneCheckpoint) {
  const auto source = open_checkpoint(kGolden / "qwen3");
  EXPECT_EQ(source->tensors().size(), 24U);
  EXPECT_EQ(source->find("model.norm.weight")->float_type, DType::kBF16);
  EXPECT_EQ(source->find("model.norm.weight")->stored_type, "bf16");
}

TEST_F(CheckpointSourceTest, FloatTypesAreWidenedExactly) {
  auto tensors = llama_tensors();
  auto& half = tensors["model.norm.weight"];
  half = half.to(at::kHalf);
  auto& bfloat = tensors["lm_head.weight"];
  bfloat = bfloat.to(at::kBFloat16);
  write_checkpoint(folder_, llama_config(), tensors);
  const auto source = open_checkpoint(folder_);
  for (const auto* name : {"model.norm.weight", "lm_head.weight"}) {
    EXPECT_TRUE(same_bits(source->read_f32(*source->find(name)), tensors[name].to(at::kFloat)));
  }
  EXPECT_EQ(source->find("model.norm.weight")->float_type, DType::kF16);
}

TEST_F(CheckpointSourceTest, SideFilesTravel) {
  write_checkpoint(folder_, llama_config(), llama_tensors());
  EXPECT_THAT(open_checkpoint(folder_)->notes(),
              testing::ElementsAre(testing::HasSubstr("no tokenizer.json")));
  write_text_file(folder_ / "tokenizer.json", "{\"a\": 1}");
  write_text_file(folder_ / "generation_config.json", "{}");
  write_text_file(folder_ / "README.md", "not ours to copy");
  const auto source = open_checkpoint(folder_);
  EXPECT_THAT(source->notes(), testing::IsEmpty());
  EXPECT_EQ(source->side_files().size(), 2U);
  EXPECT_EQ(side_file(*source, "tokenizer.json"), "{\"a\": 1}");
}

TEST_F(CheckpointSourceTest, RefusesWhatItCannotRead) {
  expect_error(ExitCode::kUnreadable, "no such file or folder",
               [&] { (void)open_checkpoint(folder_ / "absent"); });
  expect_error(ExitCode::kUnreadable, "expected model.safetensors",
               [&] { (void)open_checkpoint(folder_); });
  write_text_file(folder_ / "notes.txt", "hello");
  expect_error(ExitCode::kUnreadable, "expected a GGUF file",
               [&] { (void)open_checkpoint(folder_ / "notes.txt"); });
  write_text_file(folder_ / "empty", "");
  expect_error(ExitCode::kUnreadable, "expected a GGUF file",
               [&] { (void)open_checkpoint(folder_ / "empty"); });
  write_checkpoint(folder_ / "bare", llama_config(), llama_tensors());
  fs::remove(folder_ / "bare" / "config.json");
  expect_error(ExitCode::kUnreadable, "config.json",
               [&] { (void)open_checkpoint(folder_ / "bare"); });
}

TEST_F(CheckpointSourceTest, RefusesQuantisedCheckpointsByName) {
  auto tensors = llama_tensors();
  tensors["model.layers.0.mlp.up_proj.weight_scale"] = at::ones({4});
  write_checkpoint(folder_, llama_config(), tensors);
  expect_error(ExitCode::kUnreadable, "model.layers.0.mlp.up_proj.weight_scale",
               [&] { (void)open_checkpoint(folder_); });
}

}  // namespace
}  // namespace qf::test
