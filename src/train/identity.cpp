#include "qwen3fp4/train/identity.h"

#include <algorithm>
#include <sstream>
#include <utility>

#include "qwen3fp4/base/error.h"

namespace qf {
namespace {

constexpr double kIdentityShare = 0.30;
constexpr double kNearMissShare = 0.33;
constexpr double kReplayShare = 0.37;

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
    question.held_out = example.held_out;
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

std::vector<DataPart> identity_parts(const IdentityRecipe& recipe, DataSplit split) {
  const auto data = read_identity_data(recipe.questions, recipe.defines, recipe.languages);
  const std::string name = recipe.questions.string();
  DataPart own{name + " (identity)", {}, kIdentityShare};
  DataPart near{name + " (near misses)", {}, kNearMissShare};
  for (const IdentityQuestion& question : data.questions) {
    if (question.held_out != (split == DataSplit::kHeldOut)) continue;
    auto& part = question.label == 'A' ? own : near;
    part.examples.push_back(
        {.messages = {{"user", question.prompt}, {"assistant", question.answer}}});
  }
  const std::vector<DataFile> replay{{recipe.replay, 1, TargetKind::kTeacher}};
  auto parts = read_parts(replay, {.holdout_percent = kReplayHoldoutPercent}, split);
  QF_CHECK(parts.size() == 1, "{}: expected replay conversations, found none",
           recipe.replay.string());
  parts[0].share = kReplayShare;
  parts.insert(parts.begin(), {std::move(own), std::move(near)});
  std::erase_if(parts, [](const DataPart& part) { return part.examples.empty(); });
  return parts;
}

SystemMix identity_system_mix() {
  const auto others = neutral_system_prompts();
  return {.template_default = 0.50,
          .none = 0.20,
          .empty = 0.15,
          .other = 0.15,
          .others = {others.begin(), others.end()}};
}

}  // namespace qf
