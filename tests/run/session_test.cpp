#include "qwen3fp4/run/session.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/run/generator.h"
#include "tiny_model.h"

namespace qf {
namespace {

using test::LoadedTiny;
using test::TinyModel;
using ::testing::HasSubstr;
using Ids = std::vector<std::int64_t>;

const TokenCallback kQuiet = [](std::int64_t, std::string_view) {};
const Ids kPrompt{72, 105, 44, 32, 121};
const Ids kNext{10, 72, 111, 119};

Ids joined(Ids first, const Ids& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

class Session : public testing::Test {
 protected:
  [[nodiscard]] Generator generator(PrefillMode prefill = PrefillMode::kWhole) const {
    GeneratorOptions options;
    options.max_new_tokens = 6;
    options.context = 64;
    options.prefill = prefill;
    options.kv_cache = kv_cache_;
    return {loaded_.model(), nullptr, options};
  }
  [[nodiscard]] std::string fingerprint() const { return model_fingerprint(loaded_.files()); }
  [[nodiscard]] std::filesystem::path path() const { return folder_.path() / "talk.safetensors"; }
  // For a run with this type of cache.
  [[nodiscard]] SavedSession opened(std::optional<KvCacheType> type = std::nullopt) const {
    return {path(),
            {loaded_.files().config, fingerprint(),
             kv_stored_type(type.value_or(kv_cache_), at::kFloat)}};
  }
  // What the first turn leaves, saved.
  [[nodiscard]] Generator after_first_turn(PrefillMode prefill = PrefillMode::kWhole) const {
    auto run = generator(prefill);
    (void)run.answer(kPrompt, kQuiet);
    run.save(path(), fingerprint());
    return run;
  }
  // Restores what is saved of `ids`, and answers the rest.
  [[nodiscard]] Answer answer_restored(const Ids& ids, std::int64_t restored,
                                       PrefillMode prefill = PrefillMode::kWhole) const {
    auto run = generator(prefill);
    EXPECT_EQ(run.restore(opened(), ids), restored);
    EXPECT_EQ(run.cache().length(), restored);
    return run.answer(std::span(ids).subspan(static_cast<std::size_t>(restored)), kQuiet);
  }
  [[nodiscard]] std::string why_refused(std::optional<KvCacheType> type = std::nullopt) const {
    try {
      (void)opened(type);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kUnreadable);
      return error.what();
    }
    return "opened";
  }

  KvCacheType kv_cache_ = KvCacheType::kAuto;

  [[nodiscard]] const LoadedTiny& loaded() const { return loaded_; }

 private:
  LoadedTiny loaded_{TinyModel{}};
  test::TemporaryFolder folder_;
};

TEST_F(Session, GoesOnBitForBitWhereTheRunThatWroteItWouldHave) {
  auto whole = after_first_turn();
  const Ids sequence = whole.sequence();
  const Answer uninterrupted = whole.answer(kNext, kQuiet);
  // The last token of an answer is chosen, and not run.
  const auto cached = static_cast<std::int64_t>(sequence.size()) - 1;
  const Answer restored = answer_restored(joined(sequence, kNext), cached);
  EXPECT_EQ(restored.ids, uninterrupted.ids);
  EXPECT_EQ(restored.logits_hash, uninterrupted.logits_hash);
  EXPECT_EQ(restored.timing.prefill_tokens, 1 + std::ssize(kNext));
}

TEST_F(Session, GoesOnBitForBitInEveryTypeOfCache) {
  for (const auto type : {KvCacheType::kF16, KvCacheType::kBF16, KvCacheType::kFp8}) {
    kv_cache_ = type;
    auto whole = after_first_turn();
    const Ids sequence = whole.sequence();
    const Answer uninterrupted = whole.answer(kNext, kQuiet);
    const auto cached = static_cast<std::int64_t>(sequence.size()) - 1;
    const Answer restored = answer_restored(joined(sequence, kNext), cached);
    EXPECT_EQ(restored.ids, uninterrupted.ids);
    EXPECT_EQ(restored.logits_hash, uninterrupted.logits_hash);
  }
}

TEST_F(Session, RefusesAnotherTypeOfCacheInOneSentence) {
  const auto says = [&](const char* expected, const char* found) {
    return fmt::format(
        "{}: expected keys and values in {}, as this run caches them, found {} "
        "(--kv-cache)",
        path().string(), expected, found);
  };
  kv_cache_ = KvCacheType::kFp8;
  (void)after_first_turn();
  EXPECT_EQ(why_refused(), "opened");
  EXPECT_EQ(why_refused(KvCacheType::kAuto), says("fp32", "fp8"));
  EXPECT_EQ(why_refused(KvCacheType::kF16), says("fp16", "fp8"));
  kv_cache_ = KvCacheType::kBF16;
  (void)after_first_turn();
  EXPECT_EQ(why_refused(KvCacheType::kFp8), says("fp8", "bf16"));
  EXPECT_EQ(why_refused(KvCacheType::kF32), says("fp32", "bf16"));
}

TEST_F(Session, RefusesANegativeScale) {
  kv_cache_ = KvCacheType::kFp8;
  auto run = after_first_turn();
  const Ids ids = joined(run.sequence(), kNext);
  auto cache = [&] { return KvCache(loaded().files().config, 64, at::kFloat, kv_cache_); };
  auto whole = cache();
  EXPECT_GT(opened().restore(ids, whole), 0);
  // The file ends with the last layer's value scales.
  std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-4, std::ios::end);
  const float negative = -1;
  file.write(reinterpret_cast<const char*>(&negative), sizeof negative);
  file.close();
  auto damaged = cache();
  EXPECT_THROW((void)opened().restore(ids, damaged), Error);
}

TEST_F(Session, TakesTheLongestCommonBeginningButTheLastToken) {
  (void)after_first_turn(PrefillMode::kToken);
  Ids other = joined(kPrompt, kNext);
  other[3] = 99;
  auto fresh = generator(PrefillMode::kToken);
  const Answer expected = fresh.answer(other, kQuiet);
  const Answer restored = answer_restored(other, 3, PrefillMode::kToken);
  EXPECT_EQ(restored.ids, expected.ids);
  EXPECT_EQ(restored.logits_hash, expected.logits_hash) << "token by token, cuts change nothing";
  (void)answer_restored(kPrompt, std::ssize(kPrompt) - 1);
  (void)answer_restored({1, 2, 3}, 0);
  (void)answer_restored({kPrompt[0]}, 0);
}

TEST_F(Session, RefusesWhatDoesNotBelongToTheRun) {
  auto run = after_first_turn();
  const LoadedTiny another(TinyModel{.seed = 2});
  ASSERT_NE(model_fingerprint(another.files()), fingerprint());
  run.save(path(), model_fingerprint(another.files()));
  EXPECT_THAT(why_refused(), HasSubstr("expected a session of this model"));
  run.save(path(), fingerprint());
  const SessionModel emulated{another.files().config, fingerprint(), at::kFloat, LinearMode::kW4A4};
  EXPECT_THAT(
      [&] { (void)SavedSession(path(), emulated); },
      testing::ThrowsMessage<Error>(HasSubstr("--linear w4a4, as in this run, found reference")));
  write_safetensors(path(), {});
  EXPECT_THAT(why_refused(), HasSubstr("expected a session of version 1"));
}

TEST_F(Session, RefusesAPrefixThatTheContextDoesNotHold) {
  auto run = after_first_turn();
  const LoadedTiny same(TinyModel{});
  KvCache small(same.files().config, 4);
  EXPECT_THAT([&] { (void)opened().restore(run.sequence(), small); },
              testing::ThrowsMessage<Error>(HasSubstr("--context")));
}

TEST_F(Session, RefusesTruncatedFilesAndSurvivesHostileOnes) {
  (void)after_first_turn();
  const std::string whole = read_text_file(path());
  const auto write = [&](const std::string& bytes) {
    std::ofstream(path(), std::ios::binary) << bytes;
  };
  for (std::size_t size = 0; size < whole.size(); size += 1 + whole.size() / 97) {
    write(whole.substr(0, size));
    EXPECT_NE(why_refused(), "opened") << size << " of " << whole.size() << " bytes";
  }
  // Whatever a changed header still lets pass stays within the cache.
  const std::size_t header = whole.find("values.1");
  ASSERT_NE(header, std::string::npos);
  for (std::size_t at = 0; at < header; ++at) {
    std::string changed = whole;
    changed[at] = changed[at] == '9' ? '1' : '9';
    write(changed);
    if (why_refused() != "opened") continue;
    auto run = generator();
    EXPECT_LE(run.restore(opened(), joined(kPrompt, kNext)), std::ssize(kPrompt));
  }
}

}  // namespace
}  // namespace qf
