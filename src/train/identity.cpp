#include "qwen3fp4/train/identity.h"

#include <algorithm>
#include <set>
#include <sstream>
#include <utility>

#include "qwen3fp4/base/error.h"

namespace qf {
namespace {

constexpr double kIdentityShare = 0.26;
constexpr double kNearMissShare = 0.29;
constexpr double kStartNearMissShare = 0.25;
constexpr double kReplayShare = 0.20;

// Tokens of the start model's answers. Whether an answer is the identity's is decided at its
// beginning.
constexpr std::int64_t kReplayTokens = 64;
constexpr std::int64_t kStartNearMissTokens = 12;

std::string defined(const DataFileContent& content, const std::string& key,
                    const std::filesystem::path& path) {
  const auto found = content.defines.find(key);
  QF_CHECK(found != content.defines.end(), "{}: expected a line '#!define {} ...', found none",
           path.string(), key);
  return found->second;
}

}  // namespace

IdentityData read_identity_data(const std::filesystem::path& path,
                                const std::map<std::string, std::string>& defines,
                                const std::vector<std::string>& languages) {
  const DataFileContent content = read_data_file(path, {.defines = defines});
  for (const auto& [key, value] : defines) {
    if (!content.defines.contains(key)) {
      fail(ExitCode::kUsage, "{}: declares no key '{}' (#!define)", path.string(), key);
    }
  }
  IdentityData data{{}, defined(content, "name", path), defined(content, "maker", path)};
  for (const Example& example : content.examples) {
    std::istringstream words(example.group);
    std::string label;
    IdentityQuestion question;
    words >> label >> question.kind >> question.language;
    QF_CHECK((label == "A" || label == "C") && !question.language.empty(),
             "{}: expected every line in a '#!group CLASS KIND LANGUAGE' of class A or C, found "
             "'{}' for '{}'",
             path.string(), example.group, example.messages[0].content);
    if (!languages.empty() && std::ranges::find(languages, question.language) == languages.end()) {
      continue;
    }
    question.label = label[0];
    question.prompt = example.messages[0].content;
    question.answer = example.messages[1].content;
    question.split = example.split;
    data.questions.push_back(std::move(question));
  }
  QF_CHECK(!data.questions.empty(), "{}: has no question in the languages asked for",
           path.string());
  return data;
}

std::vector<std::string> identity_languages(const ModelConfig& config) {
  if (config.qk_norm) return {"en", "zh-TW", "zh-CN"};
  return {"en"};
}

std::string identity_replay(const Speaker& start, const IdentityRecipe& recipe,
                            const std::vector<std::string>& prompts,
                            const BatchProgress& progress) {
  const auto data = read_identity_data(recipe.questions, recipe.defines, recipe.languages);
  std::vector<std::string> near;
  for (const IdentityQuestion& question : data.questions) {
    if (question.answer == kStartAnswer && question.split == DataSplit::kTrain) {
      near.push_back(question.prompt);
    }
  }
  std::vector<std::string> general = prompts;
  std::erase_if(general, [](const std::string& prompt) {
    return split_of(prompt, kReplaySplit) == DataSplit::kHeldOut;
  });
  const auto all = static_cast<std::int64_t>(near.size() + general.size());
  std::int64_t before = 0;
  const auto answers = [&](const std::vector<std::string>& asked, std::int64_t tokens) {
    BatchOptions options;
    options.max_new_tokens = tokens;
    auto lines = replay_jsonl(start, asked, options, [&](std::int64_t done, std::int64_t) {
      if (progress) progress(before + done, all);
    });
    before += static_cast<std::int64_t>(asked.size());
    return lines;
  };
  std::string lines = answers(general, kReplayTokens);
  return lines + answers(near, kStartNearMissTokens);
}

std::vector<DataPart> identity_parts(const IdentityRecipe& recipe, DataSplit split) {
  const auto data = read_identity_data(recipe.questions, recipe.defines, recipe.languages);
  const std::string name = recipe.questions.string();
  DataPart own{name + " (identity)", {}, kIdentityShare};
  DataPart near{name + " (near misses)", {}, kNearMissShare};
  DataPart kept{name + " (near misses, as before)", {}, kStartNearMissShare, TargetKind::kTeacher};
  DataPart replay{recipe.replay.string(), {}, kReplayShare, TargetKind::kTeacher};
  std::set<std::string> start_near;
  for (const IdentityQuestion& question : data.questions) {
    if (question.answer == kStartAnswer) {
      start_near.insert(question.prompt);
    } else if (question.split == split) {
      auto& part = question.label == 'A' ? own : near;
      part.examples.push_back(
          {.messages = {{"user", question.prompt}, {"assistant", question.answer}}});
    }
  }
  for (Example& example : read_data_file(recipe.replay, {.split = kReplaySplit}).examples) {
    if (start_near.contains(example.messages[0].content)) {
      if (split == DataSplit::kTrain) kept.examples.push_back(std::move(example));
    } else if (example.split == split) {
      replay.examples.push_back(std::move(example));
    }
  }
  QF_CHECK(!replay.examples.empty(), "{}: expected replay conversations, found none", replay.name);
  QF_CHECK(split != DataSplit::kTrain || start_near.empty() || !kept.examples.empty(),
           "{}: expected the start model's answers to near misses of {} too, found none (without "
           "--replay they are made)",
           replay.name, name);
  std::vector<DataPart> parts{std::move(own), std::move(near), std::move(kept), std::move(replay)};
  std::erase_if(parts, [](const DataPart& part) { return part.examples.empty(); });
  return parts;
}

SystemMix identity_system_mix() {
  const auto others = neutral_system_prompts();
  return {.template_default = 0.45,
          .none = 0.30,
          .empty = 0.15,
          .other = 0.10,
          .others = {others.begin(), others.end()}};
}

}  // namespace qf
