#include "model_options.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <iostream>
#include <iterator>
#include <memory>
#include <system_error>
#include <utility>

#include "app.h"
#include "progress.h"
#include "qwen3fp4/backend/cuda.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/memory/guard.h"
#include "qwen3fp4/quant/parallel.h"
#include "qwen3fp4/run/inference_plan.h"
#include "qwen3fp4/run/linear_mode.h"

namespace qf::cli {

void bind_without_backend(CLI::App& command, ModelOptions& options) {
  command.add_option("--model", options.folder, "Model folder (from convert)")
      ->type_name("DIR")
      ->check(not_empty)
      ->capture_default_str();
  command.add_option("--threads", options.threads, "Threads to compute with; 0: one a core")
      ->check(thread_count)
      ->capture_default_str();
  command.add_flag("--verbose", options.verbose, "Say on stderr what runs, and how");
}

void bind(CLI::App& command, ModelOptions& options) {
  bind_without_backend(command, options);
  command.add_option("--backend", options.backend, "What computes: reference, cpu, cuda")
      ->type_name("NAME")
      ->capture_default_str();
  command
      .add_option(
          "--dtype", options.dtype,
          "Precision of activations: fp32, fp16, bf16 (16-bit tensor cores), auto (fp16 on cuda)")
      ->check(one_of({"auto", "fp32", "fp16", "bf16"}))
      ->type_name("NAME")
      ->capture_default_str();
  command
      .add_option("--linear", options.linear,
                  "What linears multiply 4-bit weights with: w4a16 (activations as they are), w4a4 "
                  "(quantised to NVFP4), reference (fp32, of unpacked weights), auto (w4a16)")
      ->check(one_of({"auto", "w4a16", "w4a4", "reference"}))
      ->type_name("NAME")
      ->capture_default_str();
}

void bind_kv_cache(CLI::App& command, KvCacheType& type) {
  add_choice(command, "--kv-cache", type,
             {{"auto", KvCacheType::kAuto},
              {"fp32", KvCacheType::kF32},
              {"fp16", KvCacheType::kF16},
              {"bf16", KvCacheType::kBF16},
              {"fp8", KvCacheType::kFp8}},
             "What keys and values are stored as; fp8: E4M3 and a scale for each token and head; "
             "auto: what attention reads");
}

std::unique_ptr<Backend> make_backend(const ModelOptions& options) {
  const ComputeDtype dtype = options.dtype == "auto"   ? default_dtype(options.backend)
                             : options.dtype == "fp16" ? ComputeDtype::kF16
                             : options.dtype == "bf16" ? ComputeDtype::kBF16
                                                       : ComputeDtype::kF32;
  const LinearMode linear = options.linear == "w4a4"        ? LinearMode::kW4A4
                            : options.linear == "reference" ? LinearMode::kReference
                                                            : LinearMode::kW4A16;
  return qf::make_backend(options.backend, dtype, linear);
}

void apply_settings(const ModelOptions& options) {
  if (options.verbose) spdlog::set_level(spdlog::level::debug);
  set_parallel_threads(options.threads);
}

void log_memory() {
  const auto* const guard = memory_guard();
  if (guard == nullptr || !spdlog::should_log(spdlog::level::debug)) return;
  const MemorySample sample = guard->read();
  for (std::size_t i = 0; i < kMemoryGauges; ++i) {
    const auto gauge = static_cast<MemoryGauge>(i);
    if (sample[gauge]) {
      spdlog::debug("memory: {} {} ({})", gauge_name(gauge), gigabytes(*sample[gauge]),
                    gauge_source(gauge));
    } else {
      spdlog::debug("memory: {} not observed: {}", gauge_name(gauge), guard->why_empty(gauge));
    }
  }
  for (const MemoryPool& pool : guard->pools()) {
    spdlog::debug("memory guard: {} of at most {} of {} in use", gigabytes(pool.used),
                  gigabytes(pool.limit), pool.name());
  }
}

namespace {

std::string linear_text(const Qwen3Model& model, const ModelOptions& options) {
  const LinearMode mode = model.backend().linear_mode();
  std::string text = fmt::format("{} (--linear {}", linear_mode_name(mode), options.linear);
  if (options.linear == "auto" && mode == LinearMode::kW4A16) {
    text += ": w4a4 changes results, so that it has to be asked for";
  }
  const WeightFormat head = model.lm_head().format();
  if (mode == LinearMode::kW4A4 && head != WeightFormat::kNvfp4) {
    text += fmt::format("; the head is {} and stays w4a16", weight_format_name(head));
  }
  return text + ")";
}

}  // namespace

void log_loaded(const std::string& name, const Qwen3Model& model, const ModelOptions& options) {
  spdlog::debug("{}: {} layers, {:.1f} MB of weights", name, model.config().num_hidden_layers,
                static_cast<double>(model.weight_bytes()) / 1e6);
  if (built_with_cuda() && !no_cuda_reason().empty()) {
    spdlog::warn("no GPU is used: {}", no_cuda_reason());
  }
  spdlog::debug("backend {} ({} threads); linear: {}", model.backend().description(),
                parallel_threads(), linear_text(model, options));
  log_memory();
}

std::int64_t OpenedModel::weight_bytes() const {
  return qf::weight_bytes(DatReader(folder.path / "model.dat"));
}

OpenedModel open(const ModelOptions& options) {
  auto backend = make_backend(options);
  apply_settings(options);
  OpenedModel opened{ModelFolder::open(options.folder, options.flag), std::move(backend)};
  if (opened.backend->linear_mode() == LinearMode::kW4A4) {
    check_linear_mode(*opened.backend, opened.config(),
                      DatReader(opened.folder.path / "model.dat"));
  }
  return opened;
}

LoadedModel load(OpenedModel opened, const ModelOptions& options) {
  const auto show = progress_line("loading " + options.folder);
  auto model = opened.folder.load_model(*opened.backend, [&](std::int64_t done, std::int64_t all) {
    check_interrupted();
    show(done, all);
  });
  log_loaded(options.folder, model, options);
  note_memory_tensors("weights", model.tensors());
  begin_memory_phase("model_loaded");
  return {std::move(opened.folder), std::move(opened.backend), std::move(model)};
}

LoadedModel load(const ModelOptions& options) { return load(open(options), options); }

std::vector<CLI::Option*> bind(CLI::App& command, PromptOptions& options) {
  auto* text = command.add_option("--prompt", options.prompt.text, "The user's message")
                   ->type_name("TEXT")
                   ->capture_default_str();
  auto* file = command
                   .add_option("--prompt-file", options.file,
                               "Read the message from a file (-: stdin); a last newline is dropped")
                   ->type_name("FILE")
                   ->check(not_empty);
  auto* ids =
      command
          .add_option("--ids", options.ids, "Token ids instead of a message: 1,2,3 (no template)")
          ->type_name("IDS");
  text->excludes(file)->excludes(ids);
  file->excludes(ids);
  auto* system =
      command.add_option("--system", options.prompt.system, "System message before the prompt")
          ->type_name("TEXT");
  auto* raw = command.add_flag("--raw", options.prompt.raw,
                               "The prompt is the whole text: no chat template");
  auto* no_think = command.add_flag("--no-think", options.prompt.no_think,
                                    "Answer without thinking first (hybrid Qwen3 models)");
  return {text, file, ids, system, raw, no_think};
}

Prompt read(const PromptOptions& options) {
  Prompt prompt = options.prompt;
  if (options.ids) {
    prompt.ids = parse_ids(*options.ids, "--ids", ExitCode::kUsage);
    if (prompt.ids.empty())
      fail(ExitCode::kUsage, "--ids: expected token ids like 1,2,3, got none");
  }
  if (options.file.empty()) return prompt;
  prompt.text = read_text(options.file);
  if (prompt.text.ends_with('\n')) prompt.text.pop_back();
  if (prompt.text.ends_with('\r')) prompt.text.pop_back();
  return prompt;
}

std::vector<std::int64_t> parse_ids(std::string_view text, std::string_view flag, ExitCode code) {
  constexpr std::string_view kSpace = " \t\r\n";
  std::vector<std::int64_t> ids;
  const auto skip_space = [&] {
    text.remove_prefix(std::min(text.find_first_not_of(kSpace), text.size()));
  };
  bool comma = false;
  for (skip_space(); !text.empty() || comma; skip_space()) {
    std::int64_t id = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
    if (error != std::errc()) {
      fail(code, "{}: expected token ids like 1,2,3, got '{}' after {} ids", flag,
           text.substr(0, 20), ids.size());
    }
    ids.push_back(id);
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    skip_space();
    comma = text.starts_with(',');
    if (comma) text.remove_prefix(1);
  }
  return ids;
}

CLI::Validator at_least(std::int64_t lowest) {
  return {[lowest](const std::string& text) -> std::string {
            std::int64_t value = 0;
            const auto [end, error] =
                std::from_chars(text.data(), text.data() + text.size(), value);
            if (error == std::errc() && end == text.data() + text.size() && value >= lowest)
              return "";
            return fmt::format("expected a whole number of at least {}, got {}", lowest, text);
          },
          ""};
}

CLI::Validator one_of(std::vector<std::string> words) {
  return {[words = std::move(words)](const std::string& text) -> std::string {
            if (std::ranges::find(words, text) != words.end()) return "";
            return fmt::format("expected {}, found '{}'", fmt::join(words, " or "), text);
          },
          ""};
}

std::string not_empty(const std::string& text) {
  return text.empty() ? "expected a value, got an empty one" : "";
}

std::string thread_count(const std::string& text) {
  int value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const int most = most_parallel_threads();
  const bool whole = error == std::errc() && end == text.data() + text.size();
  if (whole && value >= 0 && value <= most) return "";
  return fmt::format("expected 0 to {} threads (four a core), got {}", most, text);
}

std::string read_text(const std::string& path) {
  if (path != "-") return read_text_file(path);
  std::string text{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  QF_CHECK(!std::cin.bad(), "stdin: cannot be read");
  return text;
}

std::function<void(std::int64_t, std::int64_t)> progress_line(std::string_view label) {
  if (isatty(STDERR_FILENO) == 0) return [](std::int64_t, std::int64_t) {};
  return [bar = std::make_shared<ProgressBar>(std::string(label))](
             std::int64_t done, std::int64_t all) { bar->update(done, all, ""); };
}

}  // namespace qf::cli
