#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "qwen3fp4/model/config.h"
#include "qwen3fp4/train/data_file.h"
#include "qwen3fp4/train/dataset.h"

namespace qf {

inline constexpr const char* kIdentityQuestions = "configs/whoami.tsv";
inline constexpr const char* kReplayPrompts = "configs/replay_prompts.txt";
inline constexpr const char* kUnrelatedText = "configs/unrelated.txt";
// Of the replay prompts; the questions' file says its own.
inline constexpr std::int64_t kReplayHoldoutPercent = 20;

// One line of the questions' file, whose groups are "CLASS KIND LANGUAGE".
struct IdentityQuestion {
  char label = 'A';  // A: about the assistant's identity; C: close to that, and not
  std::string kind;
  std::string language;
  std::string prompt;
  std::string answer;
  bool held_out = false;
};
struct IdentityData {
  std::vector<IdentityQuestion> questions;
  std::string name, maker;  // what {name} and {maker} stand for
};
// `defines`: of DataReading. `languages`: empty for all. Throws for groups of another form and for
// files that declare no name and maker.
[[nodiscard]] IdentityData read_identity_data(const std::filesystem::path& path,
                                              const std::map<std::string, std::string>& defines,
                                              const std::vector<std::string>& languages);

// The languages that the model's family was made for.
[[nodiscard]] std::vector<std::string> identity_languages(const ModelConfig& config);

// doc/identity.md: 30 % A and 33 % C by cross-entropy, 37 % replay by KL to the start model.
struct IdentityRecipe {
  std::filesystem::path questions = kIdentityQuestions;
  std::filesystem::path replay;  // JSONL of replay_jsonl()
  std::map<std::string, std::string> defines = {};
  std::vector<std::string> languages = {};
};
[[nodiscard]] std::vector<DataPart> identity_parts(const IdentityRecipe& recipe, DataSplit split);
// Half the template's own, a fifth without, the rest empty or another.
[[nodiscard]] SystemMix identity_system_mix();

}  // namespace qf
