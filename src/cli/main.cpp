#include <c10/util/Exception.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <csignal>
#include <cstdlib>
#include <new>
#include <string>
#include <string_view>

#include "app.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/quant/parallel.h"

namespace qf::cli {
namespace {

int report(ExitCode code, std::string_view sentence) {
  fmt::print(stderr, "qwen3fp4: {}\n", printable(std::string(sentence)));
  return static_cast<int>(code);
}

int refuse_usage(std::string_view sentence) {
  return report(ExitCode::kUsage, fmt::format("{} (--help lists the options)", sentence));
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

int run(int argc, char** argv) {
  // A closed stdout then fails the write that meets it (exit code 1) instead of killing us before
  // temporary files are removed.
  std::signal(SIGPIPE, SIG_IGN);
  auto log = spdlog::stderr_color_mt("qwen3fp4");
  log->set_pattern("%v");
  spdlog::set_default_logger(log);
  set_parallel_threads(0);

  CLI::App app("4-bit Qwen3 inference", "qwen3fp4");
  add_commands(app);
  try {
    app.parse(argc, argv);
    return static_cast<int>(ExitCode::kDone);
  } catch (const CLI::CallForHelp&) {
    print(app.help());  // a sub-command's own when one was named
    return static_cast<int>(ExitCode::kDone);
  } catch (const CLI::CallForVersion& version) {
    print(std::string(version.what()) + "\n");
    return static_cast<int>(ExitCode::kDone);
  } catch (const CLI::RequiredError& error) {
    const auto unknown = app.remaining();
    if (!app.get_subcommands().empty() || unknown.empty()) return refuse_usage(error.what());
    return refuse_usage(fmt::format("no sub-command is called '{}'", unknown.front()));
  } catch (const CLI::ParseError& error) {
    return refuse_usage(error.what());
  }
}

}  // namespace
}  // namespace qf::cli

int main(int argc, char** argv) try {
  return qf::cli::run(argc, argv);
} catch (const qf::Error& error) {
  return qf::cli::report(error.code(), error.what());
} catch (const std::bad_alloc&) {
  return qf::cli::report(qf::ExitCode::kOutOfMemory, "out of memory");
} catch (const c10::Error& error) {
  // what() carries a stack trace; users get the sentence.
  const std::string sentence = error.what_without_backtrace();
  if (qf::cli::is_out_of_memory(sentence)) {
    return qf::cli::report(qf::ExitCode::kOutOfMemory, "out of memory: " + sentence);
  }
  return qf::cli::report(qf::ExitCode::kCheckFailed, "internal error in libtorch: " + sentence);
} catch (const std::exception& error) {
  return qf::cli::report(qf::ExitCode::kCheckFailed,
                         std::string("internal error: ") + error.what());
}
