#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qf::cli {

// One function a sub-command, each in the file of its name: binds the options into a struct that
// the callback keeps alive, calls what is in run/, prints. A callback that returns means exit code
// 0; every other exit code is a qf::Error thrown out of it (main turns it into a sentence on
// stderr).
void add_generate(CLI::App& app);
void add_convert(CLI::App& app);
void add_export(CLI::App& app);
void add_inspect(CLI::App& app);
void add_perplexity(CLI::App& app);
void add_dump(CLI::App& app);
void add_tokenize(CLI::App& app);
void add_ab_check(CLI::App& app);
void add_bench(CLI::App& app);
void add_gen_replay(CLI::App& app);
void add_eval_identity(CLI::App& app);
void add_train(CLI::App& app);

// Writes to stdout and flushes; throws when the other end is closed or the disk full, so that a
// result is never lost under exit code 0. Nothing else writes to stdout.
void print(std::string_view text);
// Without control characters: names that come from a file must not move the terminal's cursor.
[[nodiscard]] std::string printable(std::string text);

// "KEY=VALUE" each, of --define; neither may be empty.
[[nodiscard]] std::map<std::string, std::string> parse_defines(
    const std::vector<std::string>& defines);

// An option that takes one of a few words; `target` holds the default. CLI11's own transformer
// would also take the enum's numbers, and shows them.
template <class Value>
CLI::Option* add_choice(CLI::App& command, const std::string& name, Value& target,
                        std::vector<std::pair<std::string, Value>> choices,
                        const std::string& description) {
  std::vector<std::string> words;
  std::string initial;
  for (const auto& [word, value] : choices) {
    words.push_back(word);
    if (value == target) initial = word;
  }
  const auto set = [&target, name, choices = std::move(choices), words](const std::string& given) {
    for (const auto& [word, value] : choices) {
      if (word == given) {
        target = value;
        return;
      }
    }
    throw CLI::ValidationError(
        name, fmt::format("expected {}, found '{}'", fmt::join(words, " or "), given));
  };
  return command.add_option_function<std::string>(name, set, description)
      ->type_name(fmt::format("{}", fmt::join(words, "|")))
      ->default_str(initial);
}

}  // namespace qf::cli
