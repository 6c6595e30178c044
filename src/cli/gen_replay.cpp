#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <system_error>

#include "app.h"
#include "model_options.h"
#include "progress.h"
#include "qwen3fp4/base/error.h"
#include "qwen3fp4/base/file.h"
#include "qwen3fp4/base/interrupt.h"
#include "qwen3fp4/train/identity.h"
#include "qwen3fp4/train/replay.h"

namespace qf::cli {
namespace {

struct GenReplayCommand {
  ModelOptions model;
  std::string prompts = kReplayPrompts;
  std::string out;
  BatchOptions generator;

  void run() const;
};

void GenReplayCommand::run() const {
  const InterruptGuard guard;
  const auto asked = read_prompts(prompts);
  if (std::error_code none; std::filesystem::equivalent(prompts, out, none)) {
    fail(ExitCode::kUsage, "--out: expected another file than the prompts, got {}", out);
  }
  AtomicFile file(out);  // an unwritable place is known before the work
  const LoadedModel loaded = load(model);
  ProgressBar bar("answering");
  const std::string lines =
      replay_jsonl({loaded.model, loaded.folder}, asked, generator,
                   [&](std::int64_t done, std::int64_t all) { bar.update(done, all, ""); });
  file.write(std::as_bytes(std::span(lines)));
  file.commit();
  print(fmt::format("{}: {} answers to {} prompts\n", out,
                    std::count(lines.begin(), lines.end(), '\n'), asked.size()));
}

}  // namespace

void add_gen_replay(CLI::App& app) {
  auto* command = app.add_subcommand(
      "gen-replay", "Have a model answer prompts, as data that keeps it what it is in training");
  const auto options = std::make_shared<GenReplayCommand>();
  options->generator.max_new_tokens = 96;
  bind(*command, options->model);
  command->add_option("--prompts", options->prompts, "Prompts, one a line")
      ->type_name("FILE")
      ->capture_default_str();
  command->add_option("--out", options->out, "The JSONL file to write")
      ->type_name("FILE")
      ->required();
  command
      ->add_option("--max-tokens", options->generator.max_new_tokens,
                   "Longest answer; one that is cut is trained without an end")
      ->check(at_least(1))
      ->capture_default_str();
  auto& sampling = options->generator.sampling;
  command->add_option("--temp", sampling.temperature, "Temperature; 0: greedy")
      ->capture_default_str();
  command
      ->add_option("--top-p", sampling.top_p,
                   "Only the likeliest tokens that together reach probability P; 1: all")
      ->capture_default_str();
  command->add_option("--seed", sampling.seed, "Seed of the draws")
      ->check(at_least(0))
      ->capture_default_str();
  command->callback([options] { options->run(); });
}

}  // namespace qf::cli
