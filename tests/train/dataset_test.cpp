#include "qwen3fp4/train/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "../run/tiny_model.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"

namespace qf {
namespace {

using ::testing::HasSubstr;

// The tokenizer (a token a byte) and chat template of the tiny model, which has a default system
// prompt.
const ModelFolder& files() {
  static const test::TemporaryFolder folder;
  static const ModelFolder files =
      (test::TinyModel{}.write(folder.path()), ModelFolder::open(folder.path()));
  return files;
}

Dataset make(const std::vector<DataPart>& parts, const DatasetOptions& options = {}) {
  return {parts, options, files().require_tokenizer(), &files().require_chat_template()};
}

Example chat(const std::string& prompt, const std::string& answer) {
  return {.messages = {{"user", prompt}, {"assistant", answer}}};
}

DataPart part_of(std::vector<Example> examples, double share = 1) {
  return {"f.tsv", std::move(examples), share, TargetKind::kTokens};
}

std::string decode(const std::vector<std::int64_t>& ids) {
  return files().require_tokenizer().decode(ids, false);
}

std::string shown(const TrainSequence& sequence) {
  return preview_text(sequence, files().require_tokenizer(), false);
}

std::string targets_of(const TrainSequence& sequence) {
  std::vector<std::int64_t> ids;
  for (std::size_t i = 0; i < sequence.ids.size(); ++i) {
    if (sequence.targets[i]) ids.push_back(sequence.ids[i]);
  }
  return decode(ids);
}

TEST(Dataset, TrainsAnswersWithTheirEndsInTheExactTemplate) {
  const Example example = chat("hi", "yo");
  const auto sequences = make({part_of({example})}).sequences();
  ASSERT_EQ(sequences.size(), 1U);
  const auto whole = files().require_chat_template().render(example.messages, AnswerOpening::kNone);
  EXPECT_EQ(decode(sequences[0].ids) + "\n", whole);  // nothing behind the last target
  EXPECT_THAT(whole, HasSubstr("named SmolLM"));
  EXPECT_EQ(targets_of(sequences[0]), "yo<|im_end|>");
  ASSERT_EQ(sequences[0].targets.size(), sequences[0].ids.size());
  EXPECT_FALSE(sequences[0].targets[0]);
}

TEST(Dataset, ACutAnswerHasNoEnd) {
  Example cut = chat("hi", "abc");
  cut.truncated = true;
  EXPECT_EQ(targets_of(make({part_of({cut})}).sequences()[0]), "abc");
  cut.messages.insert(cut.messages.end(), {{"user", "more"}, {"assistant", ""}});
  EXPECT_EQ(targets_of(make({part_of({cut})}).sequences()[0]), "abc<|im_end|>");

  const Example whole = chat("hi", "abcdef");
  const DatasetOptions none{.system = {.template_default = 0, .none = 1}};
  const auto full = make({part_of({whole})}, none).sequences()[0];
  for (std::int64_t missing = 1; missing < 7; ++missing) {
    DatasetOptions options = none;
    options.sequence_length = static_cast<std::int64_t>(full.ids.size()) - missing;
    const auto data = make({part_of({whole})}, options);
    const auto sequence = data.sequences()[0];
    EXPECT_EQ(targets_of(sequence),
              std::string("abcdef").substr(0, static_cast<std::size_t>(7 - missing)));
    EXPECT_EQ(static_cast<std::int64_t>(sequence.ids.size()), options.sequence_length);
    EXPECT_EQ(data.summary()[0].cut, 1);
  }
}

TEST(Dataset, ACutBehindAnAnswerEndsWithIt) {
  Example example = chat("hi", "a");
  example.messages.insert(example.messages.end(), {{"user", "more"}, {"assistant", "b"}});
  const auto full = make({part_of({example})}).sequences()[0];
  const DatasetOptions options{.sequence_length = static_cast<std::int64_t>(full.ids.size()) - 5};
  const auto sequence = make({part_of({example})}, options).sequences()[0];
  EXPECT_EQ(targets_of(sequence), "a<|im_end|>");
  EXPECT_TRUE(sequence.targets.back());
}

TEST(Dataset, WhatHasNoTargetIsLeftOutOrRefused) {
  const DatasetOptions options{.system = {.template_default = 0, .none = 1}, .sequence_length = 60};
  const auto data = make({part_of({chat(std::string(100, 'x'), "a"), chat("hi", "a")})}, options);
  EXPECT_EQ(data.size(0), 1U);
  EXPECT_EQ(data.summary()[0].left_out, 1);
  EXPECT_EQ(data.summary()[0].targets, 2);
  const auto refused = [](const std::vector<DataPart>& parts, const DatasetOptions& with) {
    try {
      (void)make(parts, with);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("nothing");
  };
  EXPECT_THAT(refused({part_of({chat(std::string(100, 'x'), "a")})}, options),
              HasSubstr("f.tsv: expected tokens to train on within 60 tokens (--seq-len)"));
  EXPECT_THAT(refused({}, options), HasSubstr("no example"));
  EXPECT_THAT(refused({part_of({})}, options), HasSubstr("found none"));
  EXPECT_THAT(refused({part_of({chat("a", "b")}, 0)}, options), HasSubstr("share over 0"));
  EXPECT_THAT(refused({part_of({chat("a", "b")})}, {.system = {.template_default = 0}}),
              HasSubstr("weight over 0"));
}

TEST(Dataset, SystemPromptsAreThoseOfTheTemplate) {
  const SystemMix mix{.none = 1, .empty = 1, .other = 2, .others = {"one", "two"}};
  Example own = chat("hi", "yo");
  own.messages.insert(own.messages.begin(), {"system", "mine"});
  const auto data = make({part_of({chat("hi", "yo"), own})}, {.system = mix});
  const auto at = [&](double point, std::size_t index) {
    return decode(data.sequence({0, index, data.system_at(point)}).ids);
  };
  const std::string rest = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>";
  const auto turn = [](const std::string& text) {
    return "<|im_start|>system\n" + text + "<|im_end|>\n";
  };
  const auto inserted = files().require_chat_template().default_system();
  EXPECT_EQ(at(0.1, 0), turn(inserted) + rest);
  EXPECT_EQ(at(0.3, 0), rest);
  EXPECT_EQ(at(0.5, 0), turn("") + rest);
  EXPECT_EQ(at(0.7, 0), turn("one") + rest);
  EXPECT_EQ(at(0.9999999999999999, 0), turn("two") + rest);
  for (const double point : {0.1, 0.3, 0.5, 0.7, 0.9}) EXPECT_EQ(at(point, 1), turn("mine") + rest);
}

TEST(Dataset, PlainTextIsCutIntoWindowsOfTargets) {
  const Example text{.text = "abcdefghi"};
  DataPart part = part_of({text});
  part.kind = TargetKind::kTeacher;
  const Dataset data({part}, {.sequence_length = 4}, files().require_tokenizer(), nullptr);
  const auto sequences = data.sequences();
  ASSERT_EQ(sequences.size(), 2U);  // the last window has one token
  EXPECT_EQ(decode(sequences[0].ids), "abcd");
  EXPECT_EQ(targets_of(sequences[0]), "bcd");
  EXPECT_EQ(targets_of(sequences[1]), "fgh");
  EXPECT_EQ(sequences[0].kind, TargetKind::kTeacher);
  EXPECT_THROW((void)Dataset({part_of({chat("a", "b")})}, {}, files().require_tokenizer(), nullptr),
               Error);
}

Dataset numbered(std::size_t first, std::size_t second, double share) {
  std::vector<Example> a, b;
  for (std::size_t i = 0; i < first; ++i) a.push_back(chat("a", std::string(1 + i, 'a')));
  for (std::size_t i = 0; i < second; ++i) b.push_back(chat("b", std::string(1 + i, 'b')));
  return make({part_of(a), part_of(b, share)}, {.system = {.none = 1}});
}

TEST(BatchStream, EveryStepHoldsTheMixAndEveryRoundAllExamples) {
  const Dataset data = numbered(5, 7, 3);
  BatchStream stream(data, {.sequences = 8}, 1);
  std::map<std::string, int> counts;
  for (std::int64_t step = 1; step <= 70; ++step) {
    const auto batch = stream.batch(step);
    ASSERT_EQ(batch.size(), 8U);
    const auto in_a =
        std::ranges::count_if(batch, [](const auto& s) { return targets_of(s).starts_with('a'); });
    EXPECT_EQ(in_a, 2) << step;  // a quarter
    for (const auto& sequence : batch) ++counts[targets_of(sequence)];
  }
  // 140 draws of 5, 420 of 7: whole rounds.
  ASSERT_EQ(counts.size(), 12U);
  for (const auto& [text, count] : counts) EXPECT_EQ(count, text[0] == 'a' ? 28 : 60) << text;
}

std::vector<std::string> texts(const TrainBatch& batch) {
  std::vector<std::string> out;
  for (const auto& sequence : batch) out.push_back(shown(sequence));
  return out;
}

TEST(BatchStream, ABatchIsAFunctionOfSeedAndStep) {
  const Dataset data = numbered(5, 7, 3);
  for (const BatchSize size : {BatchSize{.sequences = 5}, BatchSize{.tokens = 300}}) {
    BatchStream stream(data, size, 7);
    std::vector<std::vector<std::string>> walked;
    for (std::int64_t step = 1; step <= 12; ++step) walked.push_back(texts(stream.batch(step)));
    for (const std::int64_t step : {9, 3, 3, 12, 1}) {
      EXPECT_EQ(texts(stream.batch(step)), walked[static_cast<std::size_t>(step - 1)]);
      BatchStream fresh(data, size, 7);
      EXPECT_EQ(texts(fresh.batch(step)), walked[static_cast<std::size_t>(step - 1)]);
    }
    BatchStream other(data, size, 8);
    EXPECT_NE(texts(other.batch(1)), walked[0]);
    EXPECT_THROW((void)stream.batch(0), Error);
  }
}

TEST(BatchStream, OrdersDifferFromRoundToRound) {
  const Dataset data = numbered(7, 1, 1e-9);
  BatchStream stream(data, {.sequences = 7}, 3);
  std::set<std::vector<std::string>> orders;
  for (std::int64_t step = 1; step <= 5; ++step) {
    std::vector<std::string> order;
    for (const auto& sequence : stream.batch(step)) order.push_back(targets_of(sequence));
    orders.insert(order);
  }
  EXPECT_GE(orders.size(), 4U);  // of 5040
}

TEST(BatchStream, TokensCountWholeSequences) {
  const Dataset data = numbered(40, 3, 0.5);
  BatchStream stream(data, {.tokens = 260}, 5);
  BatchStream one_by_one(data, {.sequences = 1}, 5);
  std::int64_t at = 1;
  for (std::int64_t step = 1; step <= 20; ++step) {
    std::size_t tokens = 0;
    for (const auto& sequence : stream.batch(step)) {
      tokens += sequence.ids.size();
      EXPECT_EQ(shown(sequence), shown(one_by_one.batch(at++)[0]));  // none lost, none twice
    }
    EXPECT_LE(tokens, 260U);
    EXPECT_GT(tokens + one_by_one.batch(at)[0].ids.size(), 260U);
    (void)one_by_one.batch(at - 1);
  }
  BatchStream tight(data, {.tokens = 1}, 5);
  EXPECT_EQ(tight.batch(1).size(), 1U);
}

TEST(BatchStream, SystemPromptsAreDrawnByTheirWeights) {
  const Dataset data = make({part_of({chat("hi", "yo")})}, {.system = {.none = 3}});
  BatchStream stream(data, {.sequences = 1000}, 1);
  const auto with = std::ranges::count_if(stream.batch(1), [](const auto& s) {
    return decode(s.ids).starts_with("<|im_start|>system");
  });
  // Binomial(1000, 0.25): five standard deviations are 68.
  EXPECT_NEAR(static_cast<double>(with), 250, 68);
}

TEST(DataParts, WeightsCountExamples) {
  const test::TemporaryFolder folder;
  const auto a = folder.path() / "a.tsv";
  const auto b = folder.path() / "b.tsv";
  write_text_file(a, "1\tx\n2\tx\n3\tx\n");
  write_text_file(b, "#!define k v\n#!holdout 100\n{k}\tx\n#!holdout 0\n{k}\ty\n");
  const std::vector<DataFile> files{parse_data_file(a.string() + ":2", TargetKind::kTokens),
                                    parse_data_file(b.string(), TargetKind::kTeacher)};
  const auto trained = read_parts(files, {.defines = {{"k", "w"}}}, DataSplit::kTrain);
  ASSERT_EQ(trained.size(), 2U);
  EXPECT_EQ(trained[0].share, 6);
  EXPECT_EQ(trained[1].share, 1);
  EXPECT_EQ(trained[1].kind, TargetKind::kTeacher);
  EXPECT_EQ(trained[1].examples[0].messages[0].content, "w");
  EXPECT_EQ(trained[1].examples[0].messages[1].content, "y");
  EXPECT_TRUE(read_parts(files, {}, DataSplit::kTuning).empty());
  const auto held_out = read_parts(files, {}, DataSplit::kHeldOut);
  ASSERT_EQ(held_out.size(), 1U);
  EXPECT_EQ(held_out[0].examples[0].messages[1].content, "x");
  EXPECT_THROW((void)read_parts(files, {.defines = {{"z", "w"}}}, DataSplit::kTrain), Error);
  for (const std::string bad : {"f:", "f:0", "f:-1", "f:x", "f:inf", "f:1x"}) {
    EXPECT_THROW((void)parse_data_file(bad, TargetKind::kTokens), Error) << bad;
  }
}

TEST(Preview, MarksTargetsAndEscapesBytes) {
  const TrainSequence sequence{{'a', '\n', 0xE4, 0x1B, test::kTurnEnd},
                               {false, false, true, true, false}};
  const auto& tokenizer = files().require_tokenizer();
  EXPECT_EQ(preview_text(sequence, tokenizer, false), "a|\\n⟦\\xE4|\\x1B⟧<|im_end|>");
  EXPECT_EQ(preview_text(sequence, tokenizer, true),
            "\x1b[0;90ma|\\n\x1b[0;32m\\xE4|\\x1B\x1b[0;90m<|im_end|>\x1b[0m");
}

}  // namespace
}  // namespace qf
