#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/model/model_folder.h"
#include "qwen3fp4/model/qwen3_model.h"
#include "qwen3fp4/run/batch_generator.h"

namespace qf {

// What stands before a question.
enum class SystemTurn {
  kDefault,  // what the chat template inserts: for Qwen3 nothing
  kNone,     // no system turn
  kEmpty,    // a system turn without text
};
// "default", "none", "empty"
[[nodiscard]] std::string_view system_turn_name(SystemTurn turn);

// A loaded model with the folder it is from.
struct Speaker {
  const Qwen3Model& model;
  const ModelFolder& folder;
};

// The ids of one question up to where the answer begins; hybrid Qwen3 models answer without
// thinking.
[[nodiscard]] std::vector<std::int64_t> question_ids(const ModelFolder& folder,
                                                     const std::string& question, SystemTurn turn);

struct Question {
  std::string prompt;
  SystemTurn turn = SystemTurn::kDefault;
  std::uint64_t seed = 0;
};
// The answers, in the order of the questions, each in a conversation of its own, many at a time.
// `options.end_tokens` is set here.
[[nodiscard]] std::vector<BatchAnswer> ask(const Speaker& speaker,
                                           std::span<const Question> questions,
                                           BatchOptions options,
                                           const BatchProgress& progress = {});

// Prompts, one a line with the escapes of a TSV (data_file.h); empty lines and lines that begin
// with # are skipped. A prompt that comes twice counts once.
[[nodiscard]] std::vector<std::string> read_prompts(const std::filesystem::path& path);

}  // namespace qf
