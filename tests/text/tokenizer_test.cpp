#include "qwen3fp4/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"

namespace qf {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::filesystem::path kGolden = std::filesystem::path(QF_TEST_DIR) / "golden/text";

// "a", "b", "aa", "ab", "aab" and a special token.
nlohmann::json small_tokenizer() {
  return {
      {"normalizer", nullptr},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
      {"model",
       {{"type", "BPE"},
        {"vocab", {{"a", 0}, {"b", 1}, {"aa", 2}, {"ab", 3}, {"aab", 4}, {"Ġ", 5}}},
        {"merges", {{"a", "a"}, "a b", {"a", "ab"}}}}},
      {"added_tokens",
       {{{"id", 9}, {"content", "<|x|>"}, {"special", true}},
        {{"id", 10}, {"content", "<|x|>y"}, {"special", false}}}}};
}

Tokenizer parse(const nlohmann::json& json) { return Tokenizer::from_json(json.dump(), "t.json"); }

std::string refusal(const nlohmann::json& json) {
  try {
    (void)parse(json);
    return "accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUnreadable);
    return error.what();
  }
}

TEST(Tokenizer, MergesByRankAndLeftmostAmongEquals) {
  const Tokenizer tokenizer = parse(small_tokenizer());
  EXPECT_THAT(tokenizer.encode("aab", SpecialTokens::kMatch), ElementsAre(2, 1));
  EXPECT_THAT(tokenizer.encode("ab", SpecialTokens::kMatch), ElementsAre(3));
  EXPECT_THAT(tokenizer.encode("aaa", SpecialTokens::kMatch), ElementsAre(2, 0));
  EXPECT_THAT(tokenizer.encode("aaaaab", SpecialTokens::kMatch), ElementsAre(2, 2, 3));
  EXPECT_THAT(tokenizer.encode("azb", SpecialTokens::kMatch), ElementsAre(3)) << "z has no token";
}

TEST(Tokenizer, SpecialTokensAreMatchedWholeOrStayText) {
  const Tokenizer tokenizer = parse(small_tokenizer());
  EXPECT_THAT(tokenizer.encode("a<|x|>b", SpecialTokens::kMatch), ElementsAre(0, 9, 1));
  EXPECT_THAT(tokenizer.encode("<|x|>y", SpecialTokens::kMatch), ElementsAre(10)) << "longest";
  EXPECT_THAT(tokenizer.encode("a<|x|>b", SpecialTokens::kAsText), ElementsAre(0, 1));
  EXPECT_EQ(tokenizer.decode(std::vector<std::int64_t>{0, 9, 1}, true), "ab");
  EXPECT_EQ(tokenizer.decode(std::vector<std::int64_t>{0, 9, 1}, false), "a<|x|>b");
  EXPECT_EQ(tokenizer.vocab_size(), 11);
  EXPECT_FALSE(tokenizer.has_token(7));
  EXPECT_THROW((void)tokenizer.decode(std::vector<std::int64_t>{7}, false), Error);
  EXPECT_THROW((void)tokenizer.decode(std::vector<std::int64_t>{-1}, false), Error);
}

TEST(Tokenizer, LongRunsTakeLittleTime) {
  const Tokenizer tokenizer = parse(small_tokenizer());
  EXPECT_EQ(tokenizer.encode(std::string(300001, 'a'), SpecialTokens::kMatch).size(), 150001U);
}

TEST(Tokenizer, RefusesWhatWouldChangeIdsByName) {
  auto json = small_tokenizer();
  json["model"]["type"] = "WordPiece";
  EXPECT_THAT(refusal(json), HasSubstr("WordPiece"));
  json = small_tokenizer();
  json["model"]["byte_fallback"] = true;
  EXPECT_THAT(refusal(json), HasSubstr("byte_fallback"));
  json = small_tokenizer();
  json["normalizer"] = {{"type", "Lowercase"}};
  EXPECT_THAT(refusal(json), HasSubstr("Lowercase"));
  json = small_tokenizer();
  json["pre_tokenizer"] = {{"type", "Whitespace"}};
  EXPECT_THAT(refusal(json), HasSubstr("Whitespace"));
  json = small_tokenizer();
  json["post_processor"] = {{"type", "TemplateProcessing"}};
  EXPECT_THAT(refusal(json), HasSubstr("TemplateProcessing"));
  json = small_tokenizer();
  json["added_tokens"][0]["lstrip"] = true;
  EXPECT_THAT(refusal(json), HasSubstr("lstrip"));
  json = small_tokenizer();
  json["model"]["merges"].push_back({"b", "b"});
  EXPECT_THAT(refusal(json), HasSubstr("merge 3"));
  json = small_tokenizer();
  json["model"]["vocab"]["c"] = 1U << 30;
  EXPECT_THAT(refusal(json), HasSubstr("'c'"));
  json = small_tokenizer();
  json["pre_tokenizer"] = {{"type", "Split"},
                           {"pattern", {{"Regex", "(unclosed"}}},
                           {"behavior", "Isolated"},
                           {"invert", false}};
  EXPECT_THAT(refusal(json), HasSubstr("(unclosed"));
  json["pre_tokenizer"]["pattern"]["Regex"] = "\\C";
  EXPECT_THAT(refusal(json), HasSubstr("\\C")) << "it would cut inside characters";
}

// Exponential backtracking ends at the match limit with a sentence.
TEST(Tokenizer, AHostileRegexCannotHang) {
  auto json = small_tokenizer();
  json["pre_tokenizer"] = {{"type", "Split"},
                           {"pattern", {{"Regex", "(a+)+$"}}},
                           {"behavior", "Isolated"},
                           {"invert", false}};
  const Tokenizer tokenizer = parse(json);
  EXPECT_THROW((void)tokenizer.encode(std::string(60, 'a') + "b", SpecialTokens::kMatch), Error);
}

TEST(Tokenizer, MembersOfAnotherTypeAreRefusedByName) {
  const std::pair<const char*, nlohmann::json> changes[] = {{"/normalizer/type", 5},
                                                            {"/pre_tokenizer/use_regex", 5},
                                                            {"/decoder/type", 5},
                                                            {"/post_processor/type", nullptr},
                                                            {"/model/type", 5},
                                                            {"/model/ignore_merges", 5},
                                                            {"/added_tokens/0/special", 5},
                                                            {"/pre_tokenizer/behavior", 5}};
  for (const auto& [path, value] : changes) {
    auto json = small_tokenizer();
    const nlohmann::json::json_pointer at(path);
    if (at.back() == "behavior") {
      json["pre_tokenizer"] = {{"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"invert", false}};
    }
    json[at] = value;
    EXPECT_THAT(refusal(json), HasSubstr("'" + at.back() + "'")) << path;
  }
}

TEST(Tokenizer, HostileJsonIsAnErrorAndNotACrash) {
  EXPECT_THROW((void)Tokenizer::from_json(std::string(100000, '['), "t"), Error);
  EXPECT_THROW((void)Tokenizer::from_json("", "t"), Error);
  EXPECT_THROW((void)Tokenizer::from_json("[]", "t"), Error);
  EXPECT_THROW((void)Tokenizer::from_json("{}", "t"), Error);
  EXPECT_THROW((void)Tokenizer::from_json(R"({"model":{"vocab":{},"vocab":{}}})", "t"), Error);
}

TEST(Tokenizer, SentencePieceEqualsTheLibrary) {
  const auto golden = [](const char* name) { return read_text_file(kGolden / name); };
  const Tokenizer tokenizer = Tokenizer::from_sentencepiece(golden("tiny.model"), "tiny.model");
  for (const auto& row : nlohmann::json::parse(golden("tiny.json"))) {
    const auto ids = tokenizer.encode(row["text"].get<std::string>(), SpecialTokens::kAsText);
    EXPECT_EQ(ids, row["ids"].get<std::vector<std::int64_t>>()) << row["text"];
    EXPECT_EQ(tokenizer.decode(ids, false), row["decoded"].get<std::string>());
  }
  EXPECT_THAT(tokenizer.encode("<s></s>", SpecialTokens::kMatch), ElementsAre(1, 2));
  EXPECT_THROW((void)Tokenizer::from_sentencepiece(golden("chat.json"), "chat.json"), Error);
}

TEST(Tokenizer, AFolderWithoutTokenizerNamesBothFiles) {
  try {
    (void)Tokenizer::from_folder(kGolden / "nowhere");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("tokenizer.json or tokenizer.model"));
  }
}

}  // namespace
}  // namespace qf
