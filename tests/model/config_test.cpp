#include "qwen3fp4/model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "qwen3fp4/base/error.h"

namespace qf {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::json;

// Qwen3-4B-Instruct-2507, as published (transformers 4).
Json published() {
  return Json::parse(R"({"architectures":["Qwen3ForCausalLM"],"attention_bias":false,
    "eos_token_id":151645,"head_dim":128,"hidden_act":"silu","hidden_size":2560,
    "intermediate_size":9728,"max_position_embeddings":262144,"max_window_layers":36,
    "model_type":"qwen3","num_attention_heads":32,"num_hidden_layers":36,"num_key_value_heads":8,
    "rms_norm_eps":1e-06,"rope_scaling":null,"rope_theta":5000000,"sliding_window":null,
    "tie_word_embeddings":true,"torch_dtype":"bfloat16","use_sliding_window":false,
    "vocab_size":151936})");
}

ModelConfig parse(const Json& json) { return ModelConfig::from_json(json.dump(), "config.json"); }

std::string refusal(const Json& json) {
  try {
    (void)parse(json);
    return "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUnreadable);
    return error.what();
  }
}

TEST(ModelConfig, ReadsTransformers4) {
  const ModelConfig config = parse(published());
  EXPECT_EQ(config.num_attention_heads * config.head_dim, 4096);
  EXPECT_EQ(config.rope.theta, 5e6);
  EXPECT_EQ(config.rope.type, RopeType::kDefault);
  EXPECT_TRUE(config.tie_word_embeddings && config.qk_norm);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(151645));
}

TEST(ModelConfig, ReadsTransformers5) {
  Json json = published();
  json.erase("rope_theta");
  json.erase("rope_scaling");
  json["rope_parameters"] = {{"rope_type", "yarn"},
                             {"rope_theta", 1e6},
                             {"factor", 4.0},
                             {"original_max_position_embeddings", 32768}};
  json["eos_token_id"] = {151645, 151643};
  const ModelConfig config = parse(json);
  EXPECT_EQ(config.rope.type, RopeType::kYarn);
  EXPECT_EQ(config.rope.theta, 1e6);
  EXPECT_NEAR(config.rope.attention_factor, 0.1 * std::log(4.0) + 1, 1e-15);
  EXPECT_THAT(config.eos_token_ids, ElementsAre(151645, 151643));
}

TEST(ModelConfig, LegacyRopeTypeKeyAndLlamaHeadDim) {
  Json json = published();
  json["model_type"] = "llama";
  json["rope_scaling"] = {{"type", "linear"}, {"factor", 2.0}};
  json.erase("head_dim");
  const ModelConfig config = parse(json);
  EXPECT_EQ(config.rope.type, RopeType::kLinear);
  EXPECT_EQ(config.head_dim, 80);
  EXPECT_FALSE(config.qk_norm);
}

TEST(ModelConfig, RefusesWithWhatWasExpectedAndFound) {
  const auto with = [](const char* key, Json value) {
    Json json = published();
    json[key] = std::move(value);
    return refusal(json);
  };
  EXPECT_THAT(with("model_type", "mamba"), AllOf(HasSubstr("mamba"), HasSubstr("qwen3, llama")));
  EXPECT_THAT(with("num_key_value_heads", 5), AllOf(HasSubstr("multiple"), HasSubstr("32 and 5")));
  EXPECT_THAT(with("head_dim", 127), HasSubstr("even head_dim, found 127"));
  EXPECT_THAT(with("hidden_act", "gelu"), AllOf(HasSubstr("gelu"), HasSubstr("silu")));
  EXPECT_THAT(with("attention_bias", true), HasSubstr("attention_bias"));
  EXPECT_THAT(with("use_sliding_window", true), HasSubstr("use_sliding_window"));
  EXPECT_THAT(with("rope_scaling", {{"rope_type", "llama3"}, {"factor", 8}}),
              AllOf(HasSubstr("llama3"), HasSubstr("default, linear, yarn")));
  EXPECT_THAT(with("rope_scaling", {{"rope_type", "yarn"}}), HasSubstr("'factor'"));
  EXPECT_THAT(with("vocab_size", -1), HasSubstr("found -1"));
  EXPECT_THAT(with("vocab_size", 1e30), HasSubstr("'vocab_size'"));
  EXPECT_THAT(with("hidden_size", std::int64_t{1} << 40), HasSubstr("'hidden_size'"));
  EXPECT_THAT(with("rms_norm_eps", "tiny"), HasSubstr("'rms_norm_eps'"));
  EXPECT_THAT(with("eos_token_id", "end"), HasSubstr("'eos_token_id'"));
  EXPECT_THAT(with("quantization_config", {{"quant_method", "fp8"}}),
              HasSubstr("quantization_config"));
  EXPECT_THAT(with("layer_types", {"full_attention", "sliding_attention"}),
              AllOf(HasSubstr("sliding_attention"), HasSubstr("layer_types")));
  EXPECT_THAT(with("partial_rotary_factor", 0.5), HasSubstr("partial_rotary_factor 0.5"));
  EXPECT_THAT(with("rope_scaling", {{"rope_type", "default"}, {"partial_rotary_factor", 0.25}}),
              HasSubstr("partial_rotary_factor 0.25"));
  EXPECT_THAT(with("num_hidden_layers", 0), HasSubstr("found 0"));
  EXPECT_THAT(with("num_attention_heads", 1 << 30), HasSubstr("too many"));
  EXPECT_THAT(with("rms_norm_eps", 0), HasSubstr("positive"));
  EXPECT_THAT(with("mlp_bias", true), HasSubstr("mlp_bias"));
  EXPECT_THAT(with("tie_word_embeddings", "yes"), HasSubstr("true or false"));
  for (const char* key :
       {"vocab_size", "hidden_size", "rope_theta", "rms_norm_eps", "model_type"}) {
    Json json = published();
    json.erase(key);
    EXPECT_THAT(refusal(json), HasSubstr(key));
  }
  EXPECT_THROW((void)ModelConfig::from_json("[1]", "c"), Error);
  EXPECT_THROW((void)ModelConfig::from_json("{", "c"), Error);
}

TEST(ModelConfig, AllLayersOfFullAttentionAreTheOnesWeRun) {
  Json json = published();
  json["layer_types"] = std::vector<std::string>(36, "full_attention");
  json["eos_token_id"] = nullptr;
  EXPECT_THAT(parse(json).eos_token_ids, ElementsAre());
}

// Adding the long-context setting of the model card to a config.json of the other spelling must not
// go unnoticed.
TEST(ModelConfig, BothSpellingsOfRopeAtOnceMustAgree) {
  Json json = published();
  json["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 5e6}};
  EXPECT_EQ(parse(json).rope.theta, 5e6);
  json["rope_scaling"] = {
      {"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32768}};
  EXPECT_THAT(refusal(json), AllOf(HasSubstr("rope_parameters"), HasSubstr("rope_scaling")));
  json["rope_parameters"] = json["rope_scaling"];
  EXPECT_EQ(parse(json).rope.type, RopeType::kYarn);
}

TEST(ModelConfig, YarnNeedsABaseAboveOne) {
  Json json = published();
  json["rope_theta"] = 1;
  json["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 4.0}};
  EXPECT_THAT(refusal(json), HasSubstr("rope_theta above 1, found 1"));
}

}  // namespace
}  // namespace qf
