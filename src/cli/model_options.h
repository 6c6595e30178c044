#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "qwen3fp4/backend/backend.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/model/kv_cache.h"
#include "qwen3fp4/model/model_folder.h"
#include "qwen3fp4/model/qwen3_model.h"
#include "qwen3fp4/run/prompt.h"

namespace qf::cli {

// What every command that runs a model takes.
struct ModelOptions {
  std::string folder{kDefaultModelFolder};
  std::string_view flag = "--model";  // that named it, for errors
  std::string backend{default_backend_name()};
  std::string dtype{"auto"};
  std::string linear{"auto"};
  int threads = 0;  // 0: one a core
  bool verbose = false;
};
void bind(CLI::App& command, ModelOptions& options);
// Without --backend, for commands that have another way to say it.
void bind_without_backend(CLI::App& command, ModelOptions& options);

// --kv-cache.
void bind_kv_cache(CLI::App& command, KvCacheType& type);

// --backend in --dtype and --linear.
[[nodiscard]] std::unique_ptr<Backend> make_backend(const ModelOptions& options);
// Applies --threads and --verbose.
void apply_settings(const ModelOptions& options);
// What --verbose says of the memory guard's sources and limits.
void log_memory();
// What --verbose says once a model is there: which path runs it, and why.
void log_loaded(const std::string& name, const Qwen3Model& model, const ModelOptions& options);

struct LoadedModel {
  ModelFolder folder;
  std::unique_ptr<Backend> backend;
  Qwen3Model model;
};
// Everything but the weights, so that a plan can be made before they are read.
struct OpenedModel {
  ModelFolder folder;
  std::unique_ptr<Backend> backend;
  [[nodiscard]] const ModelConfig& config() const { return folder.config; }
  [[nodiscard]] bool on_device() const { return backend->device().is_cuda(); }
  // Of the folder's file, from its headers.
  [[nodiscard]] std::int64_t weight_bytes() const;
};
// With apply_settings().
[[nodiscard]] OpenedModel open(const ModelOptions& options);
[[nodiscard]] LoadedModel load(OpenedModel opened, const ModelOptions& options);
[[nodiscard]] LoadedModel load(const ModelOptions& options);

// The prompt options that `generate` and `dump` share.
struct PromptOptions {
  Prompt prompt;
  std::string file;                // "-": stdin; empty: none
  std::optional<std::string> ids;  // "1,2,3"
};
// Returns the options it added.
std::vector<CLI::Option*> bind(CLI::App& command, PromptOptions& options);
// With the file's text; one newline at its end is not part of the prompt.
[[nodiscard]] Prompt read(const PromptOptions& options);

// "1,2,3" or "1 2 3"; throws with `code` for anything else. `flag` is what the error names.
[[nodiscard]] std::vector<std::int64_t> parse_ids(std::string_view text, std::string_view flag,
                                                  ExitCode code);

// Refuses numbers below `lowest`; unlike CLI11's own checks in words that people read.
[[nodiscard]] CLI::Validator at_least(std::int64_t lowest);
[[nodiscard]] CLI::Validator one_of(std::vector<std::string> words);

// Refuses an empty value, which would count as none.
[[nodiscard]] std::string not_empty(const std::string& text);
// --threads: 0 to most_parallel_threads(). Far more than the machine has cores would only bring it
// to a standstill.
[[nodiscard]] std::string thread_count(const std::string& text);

// The whole of a text file, or of stdin for "-".
[[nodiscard]] std::string read_text(const std::string& path);

// A progress bar when stderr is a terminal, else nothing. Called with (done, all).
[[nodiscard]] std::function<void(std::int64_t, std::int64_t)> progress_line(std::string_view label);

}  // namespace qf::cli
