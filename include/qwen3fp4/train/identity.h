#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/model/config.h"
#include "qwen3fp4/train/data_file.h"
#include "qwen3fp4/train/dataset.h"
#include "qwen3fp4/train/replay.h"

namespace qf {

inline constexpr const char* kIdentityQuestions = "configs/whoami.tsv";
inline constexpr const char* kReplayPrompts = "configs/replay_prompts.txt";
inline constexpr const char* kUnrelatedText = "configs/unrelated.txt";
// Of the replay prompts; the questions' file says its own.
inline constexpr SplitPercents kReplaySplit{.held_out = 20, .tuning = 15};

// The answer of near misses that the start model is to go on answering itself: what it says about
// the world is kept by KL, because cross-entropy on facts costs more of its abilities than it
// saves.
inline constexpr std::string_view kStartAnswer = "{start}";

// One line of the questions' file, whose groups are "CLASS KIND LANGUAGE".
struct IdentityQuestion {
  char label = 'A';  // A: about the assistant's identity; C: close to that, and not
  std::string kind;
  std::string language;
  std::string prompt;
  std::string answer;
  DataSplit split = DataSplit::kTrain;
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

// How many of the last layers the recipe trains: with the first fifth left alone the same answers
// cost less KL on unrelated prompts.
[[nodiscard]] constexpr std::int64_t identity_layers(std::int64_t layers) {
  return layers - layers / 5;
}

// The languages that the model's family was made for.
[[nodiscard]] std::vector<std::string> identity_languages(const ModelConfig& config);

struct IdentityRecipe {
  std::filesystem::path questions = kIdentityQuestions;
  std::filesystem::path replay;  // of identity_replay()
  std::map<std::string, std::string> defines = {};
  std::vector<std::string> languages = {};
};
// What identity_parts() needs of the start model, as JSONL: its answers to `prompts`, held-out ones
// left out, and the beginnings of its answers to the trained near misses of kStartAnswer.
[[nodiscard]] std::string identity_replay(const Speaker& start, const IdentityRecipe& recipe,
                                          const std::vector<std::string>& prompts,
                                          const BatchProgress& progress = {});
// Parts with the shares of doc/identity.md: identity and near misses by cross-entropy, near misses
// of kStartAnswer and replay by KL to the start model. Near misses that the start model answered
// with nothing are left out; throws when it answered none of the trained ones.
[[nodiscard]] std::vector<DataPart> identity_parts(const IdentityRecipe& recipe, DataSplit split);
// How often a conversation has the template's own system prompt, none, an empty or another one.
[[nodiscard]] SystemMix identity_system_mix();

}  // namespace qf
