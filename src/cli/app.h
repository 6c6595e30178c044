#pragma once

#include <CLI/CLI.hpp>
#include <string_view>

namespace qf::cli {

// One function a sub-command, each in the file of its name: binds the options into a struct that
// the callback keeps alive, calls what is in run/, prints. A callback that returns means exit code
// 0; every other exit code is a qf::Error thrown out of it (main turns it into a sentence on
// stderr).
void add_generate(CLI::App& app);
void add_convert(CLI::App& app);
void add_inspect(CLI::App& app);
void add_perplexity(CLI::App& app);
void add_dump(CLI::App& app);
void add_tokenize(CLI::App& app);

// Writes to stdout and flushes; throws when the other end is closed or the disk full, so that a
// result is never lost under exit code 0. Nothing else writes to stdout.
void print(std::string_view text);

}  // namespace qf::cli
