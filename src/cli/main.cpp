#include <c10/util/Exception.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <csignal>
#include <cstdlib>
#include <new>
#include <string>
#include <string_view>

#include "app.h"
#include "guard.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/memory/host_cap.h"
#include "qwen3fp4/quant/parallel.h"

namespace qf::cli {
namespace {

int report(ExitCode code, std::string_view sentence) {
  fmt::print(stderr, "qwen3fp4: {}\n", printable(std::string(sentence)));
  return static_cast<int>(code);
}

// libtorch has no exception type of its own for an allocation that failed on the CPU.
bool is_out_of_memory(std::string_view message) {
  return message.find("can't allocate memory") != std::string_view::npos ||
         message.find("not enough memory") != std::string_view::npos ||
         message.find("out of memory") != std::string_view::npos;
}

void add_commands(CLI::App& app) {
  app.set_version_flag("--version", "qwen3fp4 " QF_VERSION);
  app.require_subcommand(1);
  add_convert(app);
  add_export(app);
  add_inspect(app);
  add_generate(app);
  add_perplexity(app);
  add_dump(app);
  add_tokenize(app);
  add_ab_check(app);
  add_bench(app);
  add_gen_replay(app);
  add_eval_identity(app);
  add_train(app);
}

Outcome refused_usage(std::string_view sentence) {
  return {ExitCode::kUsage, fmt::format("{} (--help lists the options)", sentence)};
}

Outcome parse_and_run(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
    return {};
  } catch (const CLI::CallForHelp&) {
    print(app.help());  // a sub-command's own when one was named
    return {};
  } catch (const CLI::CallForVersion& version) {
    print(std::string(version.what()) + "\n");
    return {};
  } catch (const CLI::RequiredError& error) {
    const auto unknown = app.remaining();
    if (!app.get_subcommands().empty() || unknown.empty()) return refused_usage(error.what());
    return refused_usage(fmt::format("no sub-command is called '{}'", unknown.front()));
  } catch (const CLI::ParseError& error) {
    return refused_usage(error.what());
  }
}

// Whatever is thrown, as a sentence.
Outcome outcome_of(CLI::App& app, const RunGuard& guard, int argc, char** argv) {
  try {
    return parse_and_run(app, argc, argv);
  } catch (const Error& error) {
    return {error.code(), error.what()};
  } catch (const CapExceeded& error) {
    return {ExitCode::kGuardStopped,
            fmt::format("memory guard: {} in main memory (--guard-limit-gb)", error.what())};
  } catch (const std::bad_alloc&) {
    return {ExitCode::kOutOfMemory, "out of memory"};
  } catch (const c10::OutOfMemoryError& error) {
    return guard.device_out_of_memory(error.what_without_backtrace());
  } catch (const c10::Error& error) {
    // what() carries a stack trace; users get the sentence.
    const std::string sentence = error.what_without_backtrace();
    if (is_out_of_memory(sentence)) {
      return {ExitCode::kOutOfMemory, "out of memory: " + sentence};
    }
    return {ExitCode::kCheckFailed, "internal error in libtorch: " + sentence};
  } catch (const std::exception& error) {
    return {ExitCode::kCheckFailed, std::string("internal error: ") + error.what()};
  }
}

int run(int argc, char** argv) {
  // A closed stdout then fails the write that meets it (exit code 1) instead of killing us before
  // temporary files are removed.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a file too large is an error like a full disk
  auto log = spdlog::stderr_color_mt("qwen3fp4");
  log->set_pattern("%v");
  spdlog::set_default_logger(log);
  set_parallel_threads(0);

  CLI::App app("4-bit Qwen3 inference and training", "qwen3fp4");
  add_commands(app);
  RunGuard guard;
  guard.bind(app);
  const Outcome outcome = outcome_of(app, guard, argc, argv);
  const std::string report_failed = guard.finish(outcome);
  if (!report_failed.empty()) (void)report(ExitCode::kUnreadable, report_failed);
  if (outcome.code != ExitCode::kDone) return report(outcome.code, outcome.sentence);
  return static_cast<int>(report_failed.empty() ? ExitCode::kDone : ExitCode::kUnreadable);
}

}  // namespace
}  // namespace qf::cli

int main(int argc, char** argv) try {
  return qf::cli::run(argc, argv);
} catch (const std::exception& error) {
  return qf::cli::report(qf::ExitCode::kCheckFailed,
                         std::string("internal error: ") + error.what());
}
