#include "guard.h"

#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <new>

#include "app.h"
#include "memory_report.h"
#include "model_options.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/memory/host_cap.h"

namespace qf::cli {
namespace {

constexpr const char* kGroup = "Memory guard";

CLI::Option* add_seconds(CLI::App& command, const char* name, double& target, double least,
                         const char* description) {
  return command.add_option(name, target, description)
      ->check(CLI::Validator(
          [least](const std::string& text) {
            double value = 0;
            const bool number = CLI::detail::lexical_cast(text, value);
            return number && value >= least && value <= 1e6
                       ? std::string()
                       : fmt::format("expected seconds from {} to a million, found '{}'", least,
                                     text);
          },
          ""))
      ->type_name("SECONDS")
      ->capture_default_str()
      ->group(kGroup);
}

// Whether a part of the run will compute on a GPU: by --backend, or one of ab-check's paths, which
// begin with their backend.
bool names_gpu(const CLI::App& command) {
  // Without it convert computes nowhere.
  const auto* const calibrate = command.get_option_no_throw("--calibrate");
  if (calibrate != nullptr && calibrate->count() == 0) return false;
  for (const auto* const name : {"--backend", "--a", "--b"}) {
    const auto* const option = command.get_option_no_throw(name);
    if (option == nullptr) continue;
    const auto text = option->as<std::string>();
    if (text.substr(0, text.find(',')) == "cuda") return true;
  }
  return false;
}

// A session that the report would overwrite.
void check_session(const CLI::App& command, const std::filesystem::path& report) {
  const auto* const option = command.get_option_no_throw("--session");
  if (option == nullptr || option->count() == 0) return;
  const auto session = std::filesystem::weakly_canonical(option->as<std::string>());
  auto plot = report;
  plot.replace_extension(".html");
  for (const auto& path : {report, plot}) {
    if (std::filesystem::weakly_canonical(path) != session) continue;
    fail(ExitCode::kUsage, "--memory-report: expected another file than --session, got {}",
         session.string());
  }
}

// Known before the run, so that hours of it are not lost for a path.
void check_report(const std::filesystem::path& path) {
  if (path.extension() == ".html") {
    fail(ExitCode::kUsage,
         "--memory-report: expected a name that does not end in .html, which the plot beside it "
         "gets, found {}",
         path.string());
  }
  try {
    const AtomicFile unwritable_places_throw(path);
  } catch (const Error& error) {
    fail(error.code(), "--memory-report: {}", error.what());
  }
}

}  // namespace

void with_rescue(const std::function<void()>& work, const std::function<void()>& rescue) {
  try {
    work();
  } catch (const Error& error) {
    if (error.code() == ExitCode::kGuardStopped) rescue();
    throw;
  } catch (const std::bad_alloc&) {
    rescue();
    throw;
  } catch (const c10::OutOfMemoryError&) {
    rescue();
    throw;
  }
}

void RunGuard::bind(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands({})) {
    add_choice(*command, "--guard", on_, {{"on", true}, {"off", false}},
               "off: let the run take what there is")
        ->group(kGroup);
    command
        ->add_option("--guard-limit-gb", limit_gb_,
                     "Most memory, in GB of 10^9: of the GPU, else of this process (default: what "
                     "the machine has, less a reserve)")
        ->check(CLI::Validator(
            [](const std::string& text) {
              double value = 0;
              return CLI::detail::lexical_cast(text, value) && value > 0 && value < 1e9
                         ? std::string()
                         : fmt::format("expected GB above 0, found '{}'", text);
            },
            ""))
        ->type_name("GB")
        ->group(kGroup);
    add_seconds(*command, "--guard-poll-secs", settings_.poll_seconds, 0.001,
                "Time between two looks");
    add_seconds(*command, "--guard-over-secs", settings_.over_seconds, 0,
                "Stop only what is over the limit for so long");
    add_seconds(*command, "--guard-grace-secs", settings_.grace_seconds, 0,
                "Time that a run to be stopped has to notice");
    command
        ->add_option("--memory-report", report_,
                     "Write what memory was used over time: FILE (JSON), and a plot beside it "
                     "(.html)")
        ->check(not_empty)
        ->type_name("FILE")
        ->group(kGroup);
    command->parse_complete_callback([this, command] { start(*command); });
  }
}

void RunGuard::start(const CLI::App& command) {
  command_ = command.get_name();
  if (!report_.empty()) {
    check_report(report_);
    check_session(command, report_);
  }
  settings_.on_device = names_gpu(command);
  settings_.on = on_;
  settings_.keeps_log = !report_.empty();
  if (limit_gb_ > 0) settings_.limit = static_cast<std::int64_t>(limit_gb_ * 1e9);
  if (!on_) spdlog::warn("the memory guard is off (--guard)");
  guard_ =
      std::make_unique<MemoryGuard>(settings_, std::make_unique<MemoryProbe>(),
                                    [this](const std::string& sentence) { end_process(sentence); });
}

Outcome RunGuard::device_out_of_memory(const std::string& sentence) const {
  const std::int64_t cap = guard_ != nullptr ? guard_->device_cap() : kNoCap;
  if (cap == kNoCap) return {ExitCode::kOutOfMemory, "out of memory: " + sentence};
  return {
      ExitCode::kGuardStopped,
      fmt::format("memory guard: the GPU's tensors would need more than {} (--guard-limit-gb): {}",
                  gigabytes(cap), sentence)};
}

void RunGuard::write_report(ExitCode code, std::string_view sentence) const {
  if (report_.empty()) return;
  const auto json = memory_report(*guard_, {.command = command_,
                                            .exit_code = static_cast<int>(code),
                                            .sentence = std::string(sentence)});
  write_text_file(report_, json.dump(1) + "\n");
  write_text_file(std::filesystem::path(report_).replace_extension(".html"), memory_html(json));
}

std::string RunGuard::finish(const Outcome& outcome) {
  if (guard_ == nullptr) return {};
  std::string failed;
  set_host_cap(kNoCap);
  try {
    write_report(outcome.code, outcome.sentence);
  } catch (const std::exception& error) {
    failed = fmt::format("--memory-report: {}", error.what());
  }
  guard_.reset();
  return failed;
}

// In the guard's thread.
void RunGuard::end_process(const std::string& sentence) const {
  fmt::print(stderr, "qwen3fp4: {}\n", printable(sentence));
  set_host_cap(kNoCap);
  try {
    write_report(ExitCode::kGuardStopped, sentence);
  } catch (const std::exception& error) {
    fmt::print(stderr, "qwen3fp4: --memory-report: {}\n", error.what());
  }
  std::_Exit(static_cast<int>(ExitCode::kGuardStopped));
}

}  // namespace qf::cli
