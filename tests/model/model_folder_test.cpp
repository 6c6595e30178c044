#include "qwen3fp4/model/model_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "golden.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"

namespace qf {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A copy of a golden model's folder that tests add files to.
class Folder : public ::testing::Test {
 protected:
  Folder() : path_(fs::temp_directory_path() / fmt::format("qwen3fp4_folder_{}", ::getpid())) {
    fs::remove_all(path_);
    fs::create_directory(path_);
    for (const char* file : {"config.json", "model.dat"}) {
      fs::copy(kGoldenModels / "qwen3_nvfp4" / file, path_);
    }
  }
  ~Folder() override { fs::remove_all(path_); }

  void write(const char* file, std::string_view text) { write_text_file(path_ / file, text); }
  template <class Function>
  static std::string refusal(const Function& function) {
    try {
      function();
      return "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUnreadable);
      return error.what();
    }
  }
  std::string open_refusal() const {
    return refusal([&] { (void)ModelFolder::open(path_); });
  }

  fs::path path_;
};

TEST_F(Folder, LoadsTheWeightsOfItsConfig) {
  const Golden golden = read_golden("qwen3_nvfp4");
  const auto backend = make_backend("reference");
  std::int64_t last = 0;
  std::int64_t whole = 0;
  const auto model =
      ModelFolder::open(path_).load_model(*backend, [&](std::int64_t bytes, std::int64_t all) {
        EXPECT_GT(bytes, last);
        last = bytes;
        whole = all;
      });
  EXPECT_EQ(all_logits(model, golden.ids, 12).argmax(-1)[-1].item<std::int64_t>(),
            golden.greedy.front());
  EXPECT_EQ(whole, static_cast<std::int64_t>(fs::file_size(path_ / "model.dat")));
  EXPECT_LT(last, whole) << "headers are no weights";
}

TEST_F(Folder, MissingFilesAreNamed) {
  fs::remove(path_ / "model.dat");
  EXPECT_THAT(open_refusal(), AllOf(HasSubstr("model.dat"), HasSubstr("convert")));
  fs::remove(path_ / "config.json");
  EXPECT_THAT(open_refusal(), HasSubstr("config.json"));
  fs::remove(path_);
  EXPECT_THAT(open_refusal(), AllOf(HasSubstr("found nothing"), HasSubstr("--model")));
  write_text_file(path_, "x");
  EXPECT_THAT(open_refusal(), HasSubstr("found a file"));
}

TEST_F(Folder, EndTokensOfTheGenerationConfigComeFirst) {
  EXPECT_THAT(ModelFolder::open(path_).end_tokens(), ElementsAre(2));
  write("generation_config.json", R"({"eos_token_id": [7, 9], "top_k": 20, "top_p": 0.8,
                                      "temperature": 0.7, "do_sample": true})");
  const ModelFolder folder = ModelFolder::open(path_);
  EXPECT_THAT(folder.end_tokens(), ElementsAre(7, 9));
  EXPECT_EQ(folder.generation.top_k, 20);
  EXPECT_EQ(folder.generation.top_p, 0.8);
  EXPECT_EQ(folder.generation.temperature, 0.7);
  EXPECT_EQ(folder.generation.do_sample, true);
  EXPECT_FALSE(folder.generation.min_p || folder.generation.repetition_penalty);
  write("generation_config.json", R"({"eos_token_id": null, "top_k": null, "do_sample": null})");
  EXPECT_THAT(ModelFolder::open(path_).end_tokens(), ElementsAre(2));
}

TEST_F(Folder, AGenerationConfigOfOtherTypesIsRefused) {
  for (const char* key : {"eos_token_id", "top_k", "top_p", "min_p", "temperature", "do_sample",
                          "repetition_penalty"}) {
    for (const char* value : {"\"much\"", "{}", "[[1]]"}) {
      write("generation_config.json", fmt::format(R"({{"{}": {}}})", key, value));
      EXPECT_THAT(open_refusal(), AllOf(HasSubstr("generation_config.json"), HasSubstr(key)));
    }
  }
  for (const char* value : {"-1", "1.5", "18446744073709551615"}) {
    for (const char* key : {"eos_token_id", "top_k"}) {
      write("generation_config.json", fmt::format(R"({{"{}": {}}})", key, value));
      EXPECT_THAT(open_refusal(), AllOf(HasSubstr(key), HasSubstr(value)));
    }
  }
  write("generation_config.json", "[]");
  EXPECT_THAT(open_refusal(), HasSubstr("JSON object"));
}

TEST_F(Folder, TokenizerAndTemplateAreMissedOnlyByThoseWhoNeedThem) {
  const ModelFolder folder = ModelFolder::open(path_);
  EXPECT_THAT(refusal([&] { (void)folder.require_tokenizer(); }), HasSubstr("tokenizer.json"));
  EXPECT_THAT(refusal([&] { (void)folder.require_chat_template(); }), HasSubstr(path_.string()));

  write("tokenizer_config.json", R"({"chat_template": "{{ a template of another family }}"})");
  const ModelFolder foreign = ModelFolder::open(path_);
  EXPECT_FALSE(foreign.chat_template.has_value());
  EXPECT_THAT(refusal([&] { (void)foreign.require_chat_template(); }), HasSubstr("supported"));
}

}  // namespace
}  // namespace qf
