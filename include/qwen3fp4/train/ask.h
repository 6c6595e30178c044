#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/model/model_folder.h"
#include "qwen3fp4/model/qwen3_model.h"
#include "qwen3fp4/run/generator.h"

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

// Questions, each in a conversation of its own on one generator, for to make one costs more than a
// short answer.
class Interview {
 public:
  // `options.context` and `options.end_tokens` are set here.
  Interview(const Speaker& speaker, GeneratorOptions options);
  // With its own seed. Throws with exit code 130 when interrupted.
  [[nodiscard]] Answer ask(const std::string& question, SystemTurn turn, std::uint64_t seed);

 private:
  Speaker speaker_;
  GeneratorOptions options_;
  std::optional<Generator> generator_;
};

// Prompts, one a line with the escapes of a TSV (data_file.h); empty lines and lines that begin
// with # are skipped. A prompt that comes twice counts once.
[[nodiscard]] std::vector<std::string> read_prompts(const std::filesystem::path& path);

}  // namespace qf
